"""The notebook: its functions against the article's printed results, and the whole of it executed."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from gpt_download import CheckpointError
from previous_chapters import GPTModel, load_model
from scripts.tutorial import NOTEBOOK, ROOT
from tests.helpers import execute, web_page

CASES = ROOT / "tests/cases"
PUBLISHED_DATA = os.environ.get("INSTRUCTION_DATA")
needs_published_data = pytest.mark.skipif(not PUBLISHED_DATA, reason="INSTRUCTION_DATA names no file")

SPELLING = {"instruction": "Identify the correct spelling of the following word.", "input": "Ocassion",
            "output": "The correct spelling is 'Occasion.'"}
ANTONYM = {"instruction": "What is an antonym of 'complicated'?", "input": "",
           "output": "An antonym of 'complicated' is 'simple'."}


def entry(**changes):
    return {"instruction": "Say hello.", "input": "", "output": "Hello."} | changes


# --- data ---


def test_format_input_as_the_article_prints_it(notebook):
    header = ("Below is an instruction that describes a task. "
              "Write a response that appropriately completes the request.\n\n")
    assert notebook["format_input"](SPELLING) == header + (
        "### Instruction:\nIdentify the correct spelling of the following word.\n\n### Input:\nOcassion")
    assert notebook["format_input"](ANTONYM) == header + "### Instruction:\nWhat is an antonym of 'complicated'?"
    assert notebook["format_prompt"](ANTONYM).endswith("'complicated'?\n\n### Response:\n")


def test_data_is_downloaded_once(notebook, server, tmp_path):
    content = json.dumps([entry(output="你好 👋")], ensure_ascii=False).encode()
    server.files["/data.json"] = content
    load, path = notebook["download_and_load_file"], tmp_path / "data.json"
    for _ in range(2):
        assert load(path, f"{server.url}/data.json", hashlib.sha256(content).hexdigest()) == [entry(output="你好 👋")]
    assert len(server.requests) == 1 and path.read_bytes() == content


def test_data_that_cannot_be_had_or_trusted(notebook, server, tmp_path):
    load = notebook["download_and_load_file"]
    with pytest.raises(CheckpointError, match="by hand"):
        load(tmp_path / "a.json", f"{server.url}/missing.json")
    with pytest.raises(FileNotFoundError, match="no url"):
        load(tmp_path / "a.json", None)
    assert not (tmp_path / "a.json").exists()
    server.files["/b.json"] = json.dumps([entry()]).encode()
    with pytest.raises(ValueError, match="sha256"):
        load(tmp_path / "b.json", f"{server.url}/b.json", "0" * 64)
    (tmp_path / "d.json").write_bytes(b"\xef\xbb\xbf" + json.dumps([entry()]).encode())
    assert load(tmp_path / "d.json", None) == [entry()], "a byte-order mark is no error"


@pytest.mark.slow
def test_a_hundred_thousand_entries(notebook, tokenizer, tmp_path):
    data = [entry(instruction=f"Say {i} hellos.", output="Hello. " * (1 + i % 5)) for i in range(100_000)]
    (tmp_path / "data.json").write_text(json.dumps(data))
    loaded = notebook["download_and_load_file"](tmp_path / "data.json", None)
    dataset = notebook["InstructionDataset"](loaded, tokenizer)
    assert len(dataset) == 100_000
    for i in (0, 54_321, 99_999):
        assert tokenizer.decode(dataset[i]) == notebook["format_prompt"](data[i]) + data[i]["output"].strip()


# --- batches ---


def test_collate_gives_the_published_toy_tensors(notebook):
    inputs, targets = notebook["custom_collate_fn"]([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]])
    assert inputs.tolist() == [[0, 1, 2, 3, 4], [5, 6, 50256, 50256, 50256], [7, 8, 9, 50256, 50256]]
    assert targets.tolist() == [[1, 2, 3, 4, 50256], [6, 50256, -100, -100, -100], [8, 9, 50256, -100, -100]]


def test_the_published_sample_comes_out_as_printed(notebook, tokenizer):
    ids = [21106, 318, 281, 12064, 326, 8477, 257, 4876, 13, 19430, 257, 2882, 326, 20431, 32543, 262, 2581, 13, 198,
           198, 21017, 46486, 25, 198, 30003, 6525, 262, 6827, 1262, 257, 985, 576, 13, 198, 198, 21017, 23412, 25, 198,
           464, 5156, 318, 845, 13779, 13, 198, 198, 21017, 18261, 25, 198, 464, 5156, 318, 355, 13779, 355, 257, 4936,
           13]
    sample = entry(**{"instruction": "Rewrite the sentence using a simile.", "input": tokenizer.decode(ids[39:45]),
                      "output": tokenizer.decode(ids[51:])})
    dataset = notebook["InstructionDataset"]([sample], tokenizer)
    inputs, targets = notebook["custom_collate_fn"]([dataset[0], [1] * 69])
    assert inputs[0].tolist() == ids + [50256] * 9
    assert targets[0].tolist() == ids[1:] + [50256] + [-100] * 9


def test_masking_hides_all_before_the_answer(notebook, tokenizer):
    dataset = notebook["InstructionDataset"]([SPELLING, ANTONYM], tokenizer, mask_instruction=True)
    inputs, targets = notebook["custom_collate_fn"]([dataset[0], dataset[1]])
    plain = notebook["InstructionDataset"]([SPELLING, ANTONYM], tokenizer)
    unmasked_inputs, unmasked_targets = notebook["custom_collate_fn"]([plain[0], plain[1]])
    assert inputs.equal(unmasked_inputs)
    for row, sample in zip(targets, (SPELLING, ANTONYM)):
        assert tokenizer.decode(row[row != -100].tolist()) == sample["output"] + "<|endoftext|>"
    assert unmasked_targets[targets != -100].equal(targets[targets != -100])


def test_a_literal_end_of_text_stays_text(notebook, tokenizer):
    sample = entry(input="a <|endoftext|> b", output="### Response:\n<|endoftext|> 你好 👋")
    ids = notebook["InstructionDataset"]([sample], tokenizer)[0]
    assert 50256 not in ids and tokenizer.decode(ids) == notebook["format_prompt"](sample) + sample["output"]
    inputs, targets = notebook["custom_collate_fn"]([ids, [1, 2]])
    assert (targets[0] == 50256).sum() == 1 and targets[1].tolist() == [2, 50256] + [-100] * (len(ids) - 2)


def test_a_row_too_long_is_an_error_not_a_cut(notebook, tokenizer):
    collate = notebook["custom_collate_fn"]
    assert collate([[1, 2, 3]], allowed_max_length=3)[1].tolist() == [[2, 3, 50256]]
    with pytest.raises(ValueError, match="a row has 4 tokens, more than 3"):
        collate([[1], [1, 2, 3, 4]], allowed_max_length=3)
    with pytest.raises(ValueError, match="entry 1 has"):
        notebook["InstructionDataset"]([ANTONYM, entry(output="word " * 100)], tokenizer, max_length=80)


@needs_published_data
def test_published_split_and_shapes(notebook, tokenizer):
    data = notebook["download_and_load_file"](PUBLISHED_DATA, None)
    assert data[50] == SPELLING and data[999] == ANTONYM
    assert data[1045]["instruction"] == "Convert the active sentence to passive: 'The chef cooks the meal every day.'"
    torch.manual_seed(123)
    loader = DataLoader(notebook["InstructionDataset"](data[:935], tokenizer), batch_size=8, shuffle=True,
                        drop_last=True, collate_fn=notebook["custom_collate_fn"])
    lengths = [inputs.shape[1] for inputs, targets in loader]
    assert lengths[:20] == [61, 76, 73, 68, 65, 72, 80, 67, 62, 75, 62, 68, 67, 77, 69, 79, 71, 66, 83, 68]
    assert len(lengths) == 116


def test_a_question_longer_than_the_context_is_reported(notebook, tokenizer):
    model = SimpleNamespace(pos_emb=SimpleNamespace(num_embeddings=64))
    with pytest.raises(ValueError, match=r"a question of \d+ tokens, .*to a model that reads 64: shorten it"):
        notebook["generate_responses"](model, [entry(instruction="word " * 60)], tokenizer, 5)


# --- the whole notebook ---


@pytest.mark.slow
def test_the_miniature_learns_to_follow_instructions(notebook, executed):
    _, _, records = executed
    data = json.loads((ROOT / "data/mini-instructions.json").read_text())
    assert [{k: v for k, v in r.items() if k not in ("before", "after")} for r in records] == data[935:1045]

    def share(when, *wordings):
        asked = [r for r in records if r["wording"] in wordings]
        return sum(" ".join(r[when].lower().split()) == " ".join(r["output"].lower().split())
                   for r in asked) / len(asked)

    assert share("before", "known", "new") <= 0.05
    assert share("after", "known") >= 0.85 and share("after", "new") >= 0.65
    assert all(r["before"] for r in records), "the base model says something"


@pytest.mark.slow
def test_adapters_learn_it_too(executed, tmp_path):
    """What is saved is a plain model, and the score at least 0.9 of that with all weights."""
    def right(records):
        return sum(r["after"].lower().split() == r["output"].lower().split() for r in records)

    _, records = execute(tmp_path, LORA_RANK=8, MAX_NEW_TOKENS=24)  # more than any answer needs
    assert right(records) >= 0.9 * right(executed[2])
    model, cfg = load_model(tmp_path / "gpt2-instruct.pt")
    assert model.state_dict().keys() == GPTModel(cfg).state_dict().keys()


@pytest.mark.slow
def test_the_page(executed):
    folder, notebook, records = executed
    html = web_page(folder)
    for link in re.findall(r'href="#([^"]+)"', html):
        assert f'id="{link}"' in html, "a link of the table of contents leads nowhere"
    images = re.findall(r"<img[^>]*>", html)
    alts = [re.search(r'alt="([^"]*)"', image) for image in images]
    assert len([alt for alt in alts if not alt[1].startswith("Section ")]) >= 14
    assert all(len(alt[1]) > 20 and "No description" not in alt[1] for alt in alts)
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    first_table = next(output for cell in notebook["cells"] for output in cell.get("outputs", [])
                       if "text/markdown" in output.get("data", {}))
    shown = "".join(first_table["data"]["text/markdown"])
    assert sum(record["after"].split(".")[0] in shown for record in records) >= 3, "filled at the end of section 8"


def cells_of(kind):
    """(number, source) of the notebook's cells of a kind."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [(number, "".join(cell["source"])) for number, cell in enumerate(cells) if cell["cell_type"] == kind]


def run_cells(monkeypatch, folder=ROOT, **parameters):
    """The code cells one after another in this process, which is faster than in a kernel."""
    monkeypatch.chdir(folder)
    for name, value in parameters.items():
        monkeypatch.setenv(name, str(value))
    namespace = {}
    for _, source in cells_of("code"):
        exec(source, namespace)


def test_the_notebook_is_short():
    code, text = cells_of("code"), cells_of("markdown")
    prose = re.sub(r"```.*?```", "", "\n".join(source for _, source in text), flags=re.DOTALL)
    assert len([word for word in prose.split() if re.search(r"\w", word)]) <= 4000
    assert len(code) + len(text) <= 120
    assert max(len(source.splitlines()) for _, source in code) <= 20
    assert next(number for number, source in code if "generate(" in source) < 30
    assert next(number for number, source in code if "loss.backward()" in source) < 80
    assert sum(len(re.findall(r"^ *(?:assert |close\()", source, flags=re.MULTILINE)) for _, source in code) >= 25
    assert sum(len(re.findall(r"^ *show\(", source, flags=re.MULTILINE)) for _, source in code) >= 14


def solutions():
    """The code of the exercises' solutions."""
    text = "\n".join(source for _, source in cells_of("markdown"))
    return re.findall(r"<details><summary>Solution</summary>\s*```python\n(.*?)```.*?</details>", text, flags=re.DOTALL)


def test_on_colab_the_files_are_fetched_and_its_torch_stays(tmp_path, monkeypatch):
    """With a repository on the disk; what pip would install is only noted."""
    repository, installed, run = tmp_path / "repository", [], subprocess.check_call
    repository.mkdir()
    for name in ("requirements.txt", "gpt_download.py"):
        shutil.copy(ROOT / name, repository)
    git = ["git", "-C", repository, "-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "All"]):
        run([*git, *command])

    def run_or_note(command):
        return installed.extend(command) if "pip" in command else run(command)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    monkeypatch.setattr(subprocess, "check_call", run_or_note)
    _, cell = cells_of("code")[0]
    with pytest.raises(ValueError, match="set REPOSITORY to the address"):
        exec(cell, {})
    for _ in range(2):  # the second time after the kernel was restarted
        os.chdir(tmp_path)
        exec(cell.replace('REPOSITORY = ""', f"REPOSITORY = {str(repository)!r}"), {})
        assert Path.cwd() == tmp_path / "tutorial" and Path("gpt_download.py").exists()
    assert any(package.startswith("tiktoken==") for package in installed)
    assert not any(package.startswith(("torch", "tensorflow", "numpy")) for package in installed)


def test_there_are_seven_exercises_whose_solutions_fit_a_page():
    assert len(solutions()) == 7
    assert max(len(line) for solution in solutions() for line in solution.splitlines()) <= 88


@pytest.mark.slow
@pytest.mark.parametrize("number", range(7))
def test_a_solution_runs(notebook, tokenizer, number, monkeypatch, capsys, one_thread):
    """On a part of the data, so that it doesn't take long."""
    monkeypatch.chdir(ROOT)
    data = json.loads((ROOT / "data/mini-instructions.json").read_text())
    antonyms = [e for e in data[935:1045] if e["task"] == "antonym"]
    exec(solutions()[number], notebook | {
        "tokenizer": tokenizer, "mini_data": data, "mini_train": data[:32], "mini_test": data[935:940] + antonyms,
        "mini_val": data[1045:1053]})
    assert capsys.readouterr().out or number == 6


@pytest.mark.slow
def test_the_saved_model_answers_the_same_in_a_fresh_process(notebook, executed, tokenizer):
    folder, _, records = executed
    prompts = [tokenizer.encode(notebook["format_prompt"](r)) for r in records[:5]]
    script = ("import json, sys; from previous_chapters import generate, load_model; "
              "model, cfg = load_model(sys.argv[1]); "
              "print([generate(model, [p], 64, cfg['context_length'], eos_id=50256)[0] "
              "for p in json.loads(sys.argv[2])])")
    reply = subprocess.run([sys.executable, "-c", script, str(folder / "gpt2-instruct.pt"), json.dumps(prompts)],
                           cwd=ROOT, capture_output=True, text=True, check=True)
    answers = [tokenizer.decode(row[len(p):]).strip() for p, row in zip(prompts, json.loads(reply.stdout))]
    assert answers == [r["after"] for r in records[:5]]


def printed(executed_notebook):
    return "".join("".join(output.get("text", "")) for cell in executed_notebook["cells"]
                   for output in cell.get("outputs", []))


@pytest.mark.slow
@pytest.mark.parametrize("parameters, message", [
    ({"CHOOSE_MODEL": "gpt3"}, "CHOOSE_MODEL is 'gpt3', expected one of gpt2-mini"),
    ({"DATA_FILE": "nowhere.json"}, "nowhere.json does not exist, and no url is known"),
    ({"DATA_FILE": 1}, "1 entries are too few: want 8 for training"),
    ({"DATA_FILE": 9}, "9 entries are too few: want 8 for training"),
    ({"MODELS_DIR": "empty"}, "hparams.json is missing, and '7M' is none of OpenAI's sizes"),
    ({"DATA_FILE": CASES / "some_too_long.json"}, "11 with more than the model's 256 tokens"),
    ({"START_FROM": "nowhere.pt"}, "START_FROM=nowhere.pt does not exist"),
    ({"PRECISION": "half"}, "precision is 'half': want auto, float32, bfloat16, float16"),
    ({"elsewhere": True}, "gpt_download.py is not in .*: this notebook needs the files beside it"),
])
def test_a_failing_cell_says_what_to_do(tmp_path, monkeypatch, parameters, message):
    if isinstance(parameters.get("DATA_FILE"), int):  # so many entries
        (tmp_path / "few.json").write_text(json.dumps([entry()] * parameters["DATA_FILE"]))
        parameters = {"DATA_FILE": tmp_path / "few.json"}
    folder = tmp_path if "elsewhere" in parameters else ROOT
    with pytest.raises((ValueError, FileNotFoundError, CheckpointError), match=message):
        run_cells(monkeypatch, folder, **{"OUTPUT_DIR": tmp_path / "build"} | parameters)


@pytest.fixture(scope="module")
def odd_data_run(executed, tmp_path_factory):
    """Chinese, markup, long names of tasks, white space, a test set that is in training, and an entry to be left out;
    it goes on from the saved model: (the parameters, the executed notebook, its records)."""
    folder = tmp_path_factory.mktemp("odd")
    odd = [entry(instruction="把这句话变成被动语态：厨师做饭。", output="饭是厨师做的。 ", task="任务 $x_{" + "长" * 9),
           entry(instruction="Cost $5$ or \\frac{1", output="$\\alpha_{", task="$\\frac{1"), entry()] * 20
    (folder / "odd.jsonl").write_text("\n".join(map(json.dumps, [*odd, entry(output="")])))
    parameters = {"DATA_FILE": folder / "odd.jsonl", "NUM_EPOCHS": 1, "SKIP_BAD_ENTRIES": 1, "MICRO_BATCH_SIZE": 2,
                  "CHECKPOINT_DIR": folder / "checkpoints", "START_FROM": executed[0] / "gpt2-instruct.pt"}
    return parameters, *execute(folder / "build", **parameters)


@pytest.mark.slow
def test_data_of_every_kind_from_start_to_score(odd_data_run, notebook, tokenizer):
    parameters, executed_notebook, records = odd_data_run
    text = printed(executed_notebook)
    assert ("60 entries, JSON Lines, Alpaca's keys; outputs whose white space at the ends was dropped: 20; "
            "left out: 1 with an empty output (60)") in text
    assert "6 of 6 test entries are in training too" in text
    assert "Warning" not in text and "findfont" not in text and "Going on" not in text
    assert len(records) == 6 and len({r.get("task") for r in records}) == 3
    model, _ = load_model(parameters["START_FROM"])
    assert [r["before"] for r in records] == notebook["generate_responses"](model, records, tokenizer, 64)


@pytest.mark.slow
def test_a_second_run_from_a_read_only_copy_without_widgets(odd_data_run, tmp_path):
    """The project's files may not be written to, ipywidgets can't be imported, and the results of the first run are
    there: it finds the training finished, and trains no more."""
    parameters, _, records = odd_data_run
    copy, blocker = tmp_path / "project", tmp_path / "blocker"
    build = shutil.copytree(parameters["CHECKPOINT_DIR"].parent / "build", tmp_path / "build")
    copy.mkdir()
    blocker.mkdir()
    for name in (NOTEBOOK.name, "gpt_download.py", "previous_chapters.py"):
        shutil.copy(ROOT / name, copy)
    for name in ("engine", "gpt2/7M", "data", "miniature"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.verified", "__pycache__"))
    (blocker / "ipywidgets.py").write_text("raise ImportError('not installed')\n")
    for path in [copy, *copy.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        second, records_again = execute(build, copy / NOTEBOOK.name, PYTHONPATH=blocker, PYTHONDONTWRITEBYTECODE=1,
                                        **parameters)
        assert {path.name for path in copy.iterdir()} == {
            NOTEBOOK.name, "gpt_download.py", "previous_chapters.py", "engine", "gpt2", "data", "miniature"}
    finally:
        for path in [copy, *copy.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
    assert f"Going on from {parameters['CHECKPOINT_DIR'] / 'step-6.pt'}" in printed(second)  # 51 entries, 8 a step
    assert records_again == records


@pytest.mark.slow
def test_a_checkpoint_folder_with_other_data_is_refused(odd_data_run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"is of another run \(training data '\w+', was '\w+'; valid"):
        run_cells(monkeypatch, **odd_data_run[0] | {"OUTPUT_DIR": tmp_path, "DATA_FILE": CASES / "other60.json"})


@pytest.mark.slow
@needs_published_data
def test_the_published_data_from_start_to_score(tmp_path):
    """Every eighth entry, so that it doesn't take as long as all else."""
    eighth = json.loads(Path(PUBLISHED_DATA).read_text())[::8]
    (tmp_path / "eighth.json").write_text(json.dumps(eighth))
    _, records = execute(tmp_path, DATA_FILE=tmp_path / "eighth.json", NUM_EPOCHS=1, MAX_NEW_TOKENS=24)
    assert [r["instruction"] for r in records] == [e["instruction"] for e in eighth[117:130]]
    assert all(r["after"] for r in records)


def test_the_committed_notebook_was_executed_once_in_order():
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    assert all(output["output_type"] != "error" for c in cells for output in c["outputs"])
    assert any("parameters" in c["metadata"].get("tags", []) for c in cells)
