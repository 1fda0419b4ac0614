"""The export of a fine-tuned model, read by transformers, by CTranslate2 and by our own loader."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout

import ctranslate2
import pytest
import torch
from ctranslate2.converters import TransformersConverter
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2LMHeadModel

from engine.generation import generate
from gpt_download import END_OF_TEXT, load_gpt2
from previous_chapters import GPTModel
from scripts.export import main
from tests.small_models import CFG, V, our_model
from tutorial import ROOT
from tutorial.data_files import load_entries
from tutorial.instructions import format_prompt
from weights.saved import load_model, save_model

QUESTIONS = json.loads((ROOT / "data/mini-instructions.json").read_text())[935:955]


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)


def export(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["scripts/export.py", *map(str, arguments)])
    main()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The miniature, saved as the notebook saves it and exported: (our model, the folder)."""
    folder = tmp_path_factory.mktemp("export")
    save_model(*load_gpt2("gpt2-mini (7M)", ROOT / "gpt2"), folder / "model.pt")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        export(patch, folder / "model.pt", folder / "mini")
    assert "from_pretrained" in printed.getvalue()
    return load_model(folder / "model.pt")[0], folder / "mini"


@pytest.fixture(scope="module")
def prompts():
    return [format_prompt(entry) for entry in QUESTIONS]


@pytest.fixture(scope="module")
def peer(exported):
    model, loading = GPT2LMHeadModel.from_pretrained(exported[1], output_loading_info=True)
    assert not any(loading.values())
    return model.eval()


@pytest.fixture(scope="module")
def answers(exported, prompts, tokenizer):
    """Our greedy answers, as ids."""
    rows = [tokenizer.encode_ordinary(prompt) for prompt in prompts]
    return [row[len(ids):] for ids, row in zip(rows, generate(exported[0], rows, 40, 256, eos_id=END_OF_TEXT))]


def test_transformers_computes_the_same_logits(exported, peer):
    ids = torch.randint(0, 50257, (2, 200))
    with torch.no_grad():
        torch.testing.assert_close(peer(ids).logits, exported[0](ids), rtol=0, atol=1e-4)
    assert not any(isinstance(module, torch.nn.Dropout) and module.p for module in peer.modules())


def test_transformers_gives_the_same_answers(exported, peer, prompts, answers):
    assert any(len(answer) < 40 for answer in answers), "some end"
    tokenizer = AutoTokenizer.from_pretrained(exported[1])
    for prompt, answer in zip(prompts, answers):
        ids = tokenizer(prompt, return_tensors="pt")
        theirs = peer.generate(**ids, max_new_tokens=40, do_sample=False)[0, ids.input_ids.shape[1]:].tolist()
        assert theirs == (answer if len(answer) == 40 else answer + [END_OF_TEXT])


@pytest.fixture
def error_of_export(monkeypatch):
    """The line with which the script ends when it can't export."""
    def failed_export(*arguments):
        with pytest.raises(SystemExit) as end:
            export(monkeypatch, *arguments)
        assert isinstance(end.value.code, str)  # which Python prints alone, and exits with status 1
        assert len(end.value.code.splitlines()) == 1
        return end.value.code
    return failed_export


def test_a_model_that_gpt2_is_not_is_an_error(tmp_path, error_of_export):
    cfg = CFG | {"qkv_bias": False}
    save_model(GPTModel(cfg), cfg, tmp_path / "model.pt")
    error = error_of_export(tmp_path / "model.pt", tmp_path / "folder")
    assert error.endswith("that GPT-2 has (qkv_bias=False)")


def test_the_chat_template_is_our_prompt(exported, prompts, tokenizer):
    theirs = AutoTokenizer.from_pretrained(exported[1])
    for entry, prompt in zip(QUESTIONS, prompts):
        question = entry["instruction"] + (f"\n\n### Input:\n{entry['input']}" if entry["input"] else "")
        asked = [{"role": "user", "content": question}]
        assert theirs.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == prompt
        ids = theirs.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        assert ids == tokenizer.encode_ordinary(prompt)
        answered = [*asked, {"role": "assistant", "content": entry["output"]}]
        text = theirs.apply_chat_template(answered, tokenize=False)
        assert text == prompt + entry["output"] + "<|endoftext|>"
    with_system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Plural of horse?"}]
    text = theirs.apply_chat_template(with_system, tokenize=False, add_generation_prompt=True)
    assert text == format_prompt({"instruction": "Be brief.\n\nPlural of horse?", "input": ""})
    for conversation in (with_system + answered, with_system[::-1], [*asked, {"role": "tool", "content": "a"}]):
        with pytest.raises(Exception, match="expected one question"):
            theirs.apply_chat_template(conversation, tokenize=False)


@pytest.mark.parametrize("system", [
    None, "", " \n\t", "\u200b\ufeff", "Be brief.", " Be\r\nbrief. ", [], [{"type": "text", "text": ""}],
    [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]])
@pytest.mark.parametrize("question, answer", [
    ("Plural of horse?", "Horses."), (" Plural\r\nof\rhorse?\n", " Horses.\r\n"),
    ([{"type": "text", "text": "Plural "}, {"type": "text", "text": "of horse?"}],
     [{"type": "text", "text": "Horses."}]), (["Plural ", {"text": "of horse?"}], ["Horses."])])
def test_the_chat_template_and_our_reading_of_chats_give_one_prompt(exported, tmp_path, system, question, answer):
    chat = [{"role": "system", "content": system}, {"role": "user", "content": question},
            {"role": "assistant", "content": answer}]
    (tmp_path / "chat.json").write_text(json.dumps([{"messages": chat}]))
    (entry,), _ = load_entries(tmp_path / "chat.json")
    theirs = AutoTokenizer.from_pretrained(exported[1])
    prompt = theirs.apply_chat_template(chat[:2], tokenize=False, add_generation_prompt=True)
    assert prompt == format_prompt(entry)
    assert theirs.apply_chat_template(chat, tokenize=False) == prompt + entry["output"] + "<|endoftext|>"
    assert entry["output"] == "Horses."
    assert ("brief" in prompt) == ("brief" in str(system))


@pytest.mark.parametrize("question, message", [
    ("", "the question is empty"), ([{"type": "text", "text": " "}], "the question is empty"),
    (None, "the question is empty"), ([{"type": "text", "text": None}], "reads text only"), (3, "reads text only"),
    ([3], "reads text only"), ([{"type": "text"}], "reads text only"), ({"image": "x"}, "reads text only"),
    ([{"type": "image"}, {"type": "text", "text": "What is it?"}], "reads text only")])
def test_a_question_that_our_reading_refuses_is_refused_by_the_template(exported, tmp_path, question, message):
    chat = [{"role": "user", "content": question}, {"role": "assistant", "content": "Horses."}]
    (tmp_path / "chat.json").write_text(json.dumps([{"messages": chat}]))
    with pytest.raises(ValueError, match="can't be used"):
        load_entries(tmp_path / "chat.json")
    with pytest.raises(Exception, match=message):
        AutoTokenizer.from_pretrained(exported[1]).apply_chat_template(chat, tokenize=False)


def test_the_export_comes_back_as_the_same_model(exported):
    model, folder = exported
    again, _ = load_gpt2(folder.name, folder.parent)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())


def test_ctranslate2_gives_the_same_answers(exported, prompts, answers, tmp_path):
    TransformersConverter(str(exported[1])).convert(str(tmp_path / "ct2"))
    tokenizer = AutoTokenizer.from_pretrained(exported[1])
    generator = ctranslate2.Generator(str(tmp_path / "ct2"), device="cpu", compute_type="float32")
    for prompt, answer in zip(prompts, answers):
        theirs = generator.generate_batch([tokenizer(prompt).tokens()], max_length=40, sampling_topk=1,
                                          end_token="<|endoftext|>", include_prompt_in_result=False)
        assert theirs[0].sequences_ids[0] == answer


def test_the_model_card_says_how_it_was_made(exported):
    card = (exported[1] / "README.md").read_text()
    assert f"python scripts/export.py {exported[1].parent / 'model.pt'} {exported[1]}" in card and "7,259,008" in card


@pytest.mark.parametrize("content", [None, b"rubbish"])
def test_a_model_that_can_not_be_read_is_named(tmp_path, content, error_of_export):
    path = tmp_path / "model.pt"
    if content:
        path.write_bytes(content)
    assert str(path) in error_of_export(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("name", [
    "tokenizer.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "additional_chat_templates", "adapter_config.json", "adapter_model.safetensors", "model-00001-of-00002.safetensors",
    "model.safetensors.index.json", "hparams.json"])
def test_a_folder_with_another_models_files_is_refused(tmp_path, error_of_export, name):
    save_model(GPTModel(CFG), CFG, tmp_path / "model.pt")
    folder = tmp_path / "theirs"
    folder.mkdir()
    for one in (name, "config.json", "README.md"):
        (folder / one).write_text("theirs")
    error = error_of_export(tmp_path / "model.pt", folder)
    assert error == (f"can't write {folder}: {folder} holds files of another model, which would be mixed up with this "
                     f"one: {name}. Move them away, or name another folder")
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
        (name, "config.json", "README.md"), "theirs")


def test_an_export_may_replace_an_older_one_among_other_files(exported, tmp_path, monkeypatch):
    (tmp_path / "notes.json").write_text("mine")
    save_model(GPTModel(CFG), CFG, tmp_path / "old.pt")
    for path in (tmp_path / "old.pt", exported[1].parent / "model.pt"):
        export(monkeypatch, path, tmp_path)
    ours = {path.name for path in exported[1].iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == ours | {"notes.json", "old.pt"}
    for name in ours - {"README.md"}:
        assert (tmp_path / name).read_bytes() == (exported[1] / name).read_bytes()
        assert (tmp_path / name).stat().st_mode == (tmp_path / "notes.json").stat().st_mode


def test_a_full_disk_leaves_the_older_export(exported, tmp_path, monkeypatch):
    """Files may have 20 MB: too little for the weights."""
    save_model(GPTModel(CFG), CFG, tmp_path / "old.pt")
    export(monkeypatch, tmp_path / "old.pt", tmp_path / "mini")
    before = {path.name: path.read_bytes() for path in (tmp_path / "mini").iterdir()}
    limited = ("import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000)); "
               "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')")
    printed = run("-c", limited, "scripts/export.py", exported[1].parent / "model.pt", tmp_path / "mini")
    assert printed.returncode == 1 and printed.stdout.startswith(
        f"can't write {tmp_path / 'mini'}: [Errno 27] no room for {tmp_path / 'mini' / 'model.safetensors'}")
    assert {path.name: path.read_bytes() for path in (tmp_path / "mini").iterdir()} == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_exported_as_float32(tmp_path, monkeypatch, dtype):
    model = our_model().to(dtype)
    save_model(model, CFG, tmp_path / "model.pt")
    export(monkeypatch, tmp_path / "model.pt", tmp_path / "folder")
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "folder")
    assert {parameter.dtype for parameter in theirs.parameters()} == {torch.float32}
    assert {tensor.dtype for tensor in load_file(tmp_path / "folder/model.safetensors").values()} == {torch.float32}
    ids = torch.randint(0, V, (2, 20))
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(ids).logits, model.float()(ids), rtol=0, atol=1e-5)


def test_a_folder_that_can_not_be_written_is_named(exported, error_of_export):
    path = exported[1].parent / "model.pt"
    assert error_of_export(path, path).startswith(f"can't write {path}: ")
