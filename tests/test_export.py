"""The export of a fine-tuned model, read by transformers, by CTranslate2 and by our own loader."""

import json
import subprocess
import sys

import ctranslate2
import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

from gpt_download import END_OF_TEXT, download_and_load_gpt2
from previous_chapters import GPTModel, generate, gpt_config, load_model, load_weights_into_gpt, save_model
from scripts.tutorial import ROOT
from tests.small_models import CFG

QUESTIONS = json.loads((ROOT / "data/mini-instructions.json").read_text())[935:955]


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The miniature, saved as the notebook saves it and exported: (our model, the folder)."""
    folder = tmp_path_factory.mktemp("export")
    settings, params = download_and_load_gpt2("7M", ROOT / "gpt2")
    model = GPTModel(gpt_config(settings))
    load_weights_into_gpt(model, params)
    save_model(model, gpt_config(settings), folder / "model.pt")
    printed = run("scripts/export.py", folder / "model.pt", folder / "mini")
    assert printed.returncode == 0 and "from_pretrained" in printed.stdout, printed.stdout
    return load_model(folder / "model.pt")[0], folder / "mini"


@pytest.fixture(scope="module")
def prompts(notebook):
    return [notebook["format_prompt"](entry) for entry in QUESTIONS]


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


def test_a_model_that_gpt2_is_not_is_an_error(tmp_path):
    cfg = CFG | {"qkv_bias": False}
    save_model(GPTModel(cfg), cfg, tmp_path / "model.pt")
    printed = run("scripts/export.py", tmp_path / "model.pt", tmp_path / "folder")
    assert printed.returncode == 1 and printed.stdout.endswith("that GPT-2 has (qkv_bias=False)\n")


def test_the_chat_template_is_our_prompt(exported, prompts, tokenizer, notebook):
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
    assert text == notebook["format_prompt"]({"instruction": "Be brief.\n\nPlural of horse?", "input": ""})
    for conversation in (with_system + answered, with_system[::-1], [*asked, {"role": "tool", "content": "a"}]):
        with pytest.raises(Exception, match="want one question"):
            theirs.apply_chat_template(conversation, tokenize=False)


def test_the_export_comes_back_as_the_same_model(exported):
    model, folder = exported
    settings, params = download_and_load_gpt2(folder.name, folder.parent)
    again = GPTModel(gpt_config(settings))
    load_weights_into_gpt(again, params)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())


def test_ctranslate2_gives_the_same_answers(exported, prompts, answers, tmp_path):
    converted = run("-m", "ctranslate2.converters.transformers", "--model", exported[1],
                    "--output_dir", tmp_path / "ct2")
    assert converted.returncode == 0, converted.stdout
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
def test_a_model_that_can_not_be_read_is_named(tmp_path, content):
    path = tmp_path / "model.pt"
    if content:
        path.write_bytes(content)
    printed = run("scripts/export.py", path, tmp_path / "folder")
    assert printed.returncode == 1 and str(path) in printed.stdout and len(printed.stdout.splitlines()) == 1
    assert not (tmp_path / "folder").exists()
