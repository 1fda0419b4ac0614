"""The chat, in a pseudo-terminal, against what `generate` answers."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pexpect
import pytest
import torch

from engine.generation import generate
from gpt_download import END_OF_TEXT, load_gpt2, load_tokenizer
from previous_chapters import GPTModel
from scripts.chat import (
    BY_ITSELF,
    THE_MINIATURE,
    answer,
    change_setting,
    example_questions,
    main,
    notes_on,
    prompt_ids,
    without_control_characters,
)
from tutorial import MINIATURE_DIR, ROOT
from tutorial.instructions import format_prompt
from weights.saved import save_model
from weights.sizes import MODELS

SCRIPT = ROOT / "scripts/chat.py"
PLURAL, NEGATION = "Form the plural of the noun onion.", "Negate the following statement: The girl reaches the castle."
TOO_LONG = "x?" * 150
ATTACK = 'Say <b>this</b>: <script>document.title = "attacked"</script>'
MINIATURE = MODELS["gpt2-mini (7M)"].config()


def saved(model, folder):
    """A model saved as the notebook saves it, and what it answers."""
    tokenizer = load_tokenizer(MINIATURE_DIR)
    save_model(model, MINIATURE, folder / "mini.pt")
    entries = json.loads((ROOT / "data/mini-instructions.json").read_text(encoding="utf-8"))[:20]
    entries.insert(0, {"instruction": ATTACK, "input": "", "task": "attack"})
    (folder / "responses.json").write_text(json.dumps(entries))

    def prompt(question):
        return tokenizer.encode_ordinary(format_prompt({"instruction": question, "input": ""}))

    def answer(question, **sampling):
        ids = prompt(question)
        row = generate(model, [ids], 256 - len(ids), 256, eos_id=END_OF_TEXT, **sampling)[0]
        return tokenizer.decode(row[len(ids):])
    return SimpleNamespace(path=folder / "mini.pt", model=model, tokenizer=tokenizer, prompt=prompt, answer=answer)


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """The miniature before fine-tuning: it ends its answers, since its pretraining text had end-of-text tokens."""
    model, _ = load_gpt2("gpt2-mini (7M)", MINIATURE_DIR.parent)
    return saved(model, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A model with random weights, whose answers go on for minutes."""
    torch.manual_seed(0)
    config = MINIATURE | {"context_length": 8192, "emb_dim": 256, "n_heads": 2, "n_layers": 24}
    path = tmp_path_factory.mktemp("endless") / "endless.pt"
    save_model(GPTModel(config), config, path)
    return path


def environment(**more):
    return os.environ | {"OMP_NUM_THREADS": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"} | more


# --- In the terminal ---


def hear_ctrl_c():
    """In a process that is about to start: where the tests run in the background, it would inherit that Ctrl-C is
    ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(path):
    """The script with a model in a pseudo-terminal, up to its first prompt. Ctrl-D ends it."""
    chat = pexpect.spawn(sys.executable, [str(SCRIPT), str(path)], env=environment(), encoding="utf-8",
                         dimensions=(40, 1000), timeout=60, cwd="/", preexec_fn=hear_ctrl_c)
    try:
        chat.expect_exact("\r\n> ", timeout=300)
        chat.greeting = chat.before
        yield chat
        chat.sendeof()
        chat.expect(pexpect.EOF)
        assert chat.wait() == 0
    finally:
        if chat.isalive():
            chat.kill(signal.SIGKILL)
            chat.wait()


@pytest.fixture(scope="module")
def chat(mini):
    """A chat with the miniature. Each test leaves its settings as they were at the start."""
    with started(mini.path) as chat:
        yield chat


def ask(chat, line):
    """What the script says to a line, until its next prompt."""
    chat.sendline(line)
    chat.expect_exact(line + "\r\n")
    chat.expect_exact("\r\n> ")
    return chat.before.replace("\r\n", "\n").removesuffix("\n")


def test_the_terminal_answers_as_generate_does(chat, mini):
    for said in ("asked by itself", "1,500 words", "For example:", *example_questions(mini.path)):
        assert said in chat.greeting
    for question in (PLURAL, NEGATION, ATTACK, PLURAL):  # the last as the first: earlier questions change nothing
        assert ask(chat, question) == mini.answer(question)


def test_the_terminal_draws_with_temperature_and_top_p(chat, mini):
    assert ask(chat, "/temperature 3") == ""
    assert len({ask(chat, NEGATION), ask(chat, NEGATION), mini.answer(NEGATION)}) == 3
    assert ask(chat, "/top_p 0.001") == ""  # leaves the most likely token
    assert ask(chat, NEGATION) == mini.answer(NEGATION)
    assert ask(chat, "/temperature 0") == ask(chat, "/top_p 1") == ""
    assert ask(chat, NEGATION) == mini.answer(NEGATION)


def test_a_line_that_is_no_question_and_no_setting_is_explained(chat, mini):
    assert "expected /temperature or /top_p" in ask(chat, "/help")
    assert "temperature is 0.0" in ask(chat, "/temperature warm")
    assert "an empty question" in ask(chat, "")
    assert "too long" in ask(chat, TOO_LONG)
    assert ask(chat, PLURAL) == mini.answer(PLURAL)


def test_ctrl_c_stops_an_answer_and_not_the_program(endless):
    with started(endless) as chat:
        chat.sendintr()  # no answer to stop
        chat.expect_exact("\r\n> ")
        ask(chat, "/temperature 1")
        for _ in range(2):
            chat.sendline("Go on.")
            chat.expect_exact("Go on.\r\n")
            chat.expect(r"\w+\s\S*\w+")  # it is being said
            chat.sendintr()
            chat.expect_exact(" (stopped; Ctrl-D ends the chat)\r\n\r\n> ", timeout=5)


def test_control_characters_do_not_reach_the_terminal():
    assert without_control_characters("\x1b[2J\r\x9b\x07a\tb\n") == "\ufffd[2J\ufffd\ufffd\ufffda\tb\n"
    assert without_control_characters("çé\u200d👍\xa0") == "çé\u200d👍\xa0"


@pytest.mark.parametrize("command", ["/temperature -1", "/temperature nan", "/temperature", "/top_p 0", "/top_p 1.1",
                                     "/top_p nan", "/top_k 5", "/", "/temperature 1 2"])
def test_settings_out_of_their_range_are_refused(command):
    settings = {"temperature": 0.5, "top_p": 0.9}
    with pytest.raises(ValueError, match="to change it, write|is no command"):
        change_setting(settings, command)
    assert settings == {"temperature": 0.5, "top_p": 0.9}


# --- Its parts ---


LIST_IMPORTS = """  # runs a script, and prints the names of all modules that are imported then
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print(*sys.modules)
"""


def test_the_chat_imports_only_what_it_needs_and_starts_beside_a_file_of_another_program(mini, tmp_path):
    shutil.copy(mini.path, tmp_path)
    others = ["something", {"instruction": 5}, {"instruction": "\x1b[2J?", "input": ""}]
    (tmp_path / "responses.json").write_text(json.dumps(others))
    run = subprocess.run([sys.executable, "-c", LIST_IMPORTS, SCRIPT, tmp_path / mini.path.name], input=PLURAL + "\n",
                         capture_output=True, encoding="utf-8", env=environment(PYTHONUTF8="1"), check=True)
    assert "For example:\n  \ufffd[2J?\n" in run.stdout and mini.answer(PLURAL) in run.stdout
    imported = {name.partition(".")[0] for name in run.stdout.splitlines()[-1].split()}
    assert "torch" in imported
    assert not imported & {"matplotlib", "IPython", "miniature", "tensorflow", "transformers"}


def test_the_note_about_the_miniature_is_for_the_miniature_alone():
    assert notes_on(MINIATURE) == notes_on(MINIATURE | {"drop_rate": 0.1}) == [BY_ITSELF, THE_MINIATURE]
    assert notes_on(MINIATURE | {"n_layers": 5}) == [BY_ITSELF]


def test_a_model_that_is_not_there_or_damaged_is_one_message(tmp_path, mini, monkeypatch):
    (tmp_path / "cut.pt").write_bytes(mini.path.read_bytes()[:10_000])
    for name, message in (("none.pt", "`make run` makes one"), ("cut.pt", "file that save_model wrote: it is damaged"),
                          (".", "is a folder: give the file in it"), ("cut.pt/model.pt", "can't read .*: Not a direct"),
                          ("x" * 300, "can't read .*: File name too long")):
        monkeypatch.setattr("sys.argv", [str(SCRIPT), str(tmp_path / name)])
        with pytest.raises(SystemExit, match=message) as end:
            main()
        assert isinstance(end.value.code, str)  # which Python prints alone, and exits with status 1


def test_without_a_model_the_script_says_so_and_nothing_else(tmp_path):
    run = subprocess.run([sys.executable, SCRIPT, tmp_path / "none.pt"], capture_output=True, text=True)
    assert run.returncode == 1 and run.stdout == "" and run.stderr.startswith("There is no fine-tuned model")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("question, message", [
    ("", "empty"), (" \n", "empty"), (TOO_LONG, "too long"), (" x" * 10**6, "too long")])
def test_a_question_that_can_not_be_asked(mini, question, message):
    with pytest.raises(ValueError, match=message):
        prompt_ids(question, mini.model, mini.tokenizer)


def test_answers_are_drawn_as_generate_draws_them(mini):
    torch.manual_seed(1)
    expected = mini.answer(PLURAL, temperature=2.0, top_p=0.8)
    torch.manual_seed(1)
    drawn = "".join(answer(PLURAL, mini.model, mini.tokenizer, temperature=2.0, top_p=0.8))
    assert drawn == expected != mini.answer(PLURAL)


def test_a_literal_end_of_text_in_a_question_stays_text(mini):
    ids = prompt_ids("What is <|endoftext|>?", mini.model, mini.tokenizer)
    assert END_OF_TEXT not in ids and "What is <|endoftext|>?" in mini.tokenizer.decode(ids)


def test_examples_are_one_of_each_task_and_need_no_input(tmp_path):
    assert example_questions(tmp_path / "model.pt") == []
    entries = [{"instruction": f"{number}", "input": "", "task": f"task {number % 3}"} for number in range(7)]
    entries[2]["input"] = "something"
    (tmp_path / "responses.json").write_text(json.dumps(entries))
    assert sorted(example_questions(tmp_path / "model.pt")) == ["4", "5", "6"]
    (tmp_path / "responses.json").write_text(json.dumps([{"instruction": "Ça va ?", "input": ""}] * 9))
    assert example_questions(tmp_path / "model.pt") == ["Ça va ?"] * 4
    (tmp_path / "responses.json").write_text(json.dumps([{"instruction": "\x1b[2J \ud800\n", "input": ""}]))
    assert example_questions(tmp_path / "model.pt") == ["\ufffd[2J \ufffd\n"]  # a lone surrogate can't be encoded


@pytest.mark.parametrize("content", [
    "", "no JSON", "null", "3", '{"instruction": "a", "input": ""}', '{"a": {"instruction": "a", "input": ""}}',
    '["instruction", "input"]', "[1, null, [], {}]", '[{"input": ""}, {"instruction": "a"}]',
    '[{"instruction": null, "input": ""}, {"instruction": " ", "input": ""}]', "[" * 100_000, b"\xff\xfe[\0]\0", None])
def test_a_file_of_another_program_beside_the_model_gives_no_examples(tmp_path, content):
    path = tmp_path / "responses.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert example_questions(tmp_path / "model.pt") == []
