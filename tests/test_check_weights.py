"""The check of the published weights, on a small checkpoint from a local server, against what transformers computes."""

import json
import math
from statistics import mean

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from gpt_download import FILES
from scripts import check_weights
from tests.helpers import DATA, TINY, load, random_tensors, transformers_state, write_checkpoint

SIZES = TINY | {"n_ctx": 256}


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    """1,100 short entries in the place of the published ones."""
    words = "the a cook nurse bakes sees bread apple slowly today".split()
    rng = np.random.default_rng(0)

    def text():
        return " ".join(rng.choice(words, 5))
    path = tmp_path_factory.mktemp("data") / "data.json"
    path.write_text(json.dumps([{"instruction": text(), "input": "", "output": text()} for _ in range(1100)]))
    return path


@pytest.fixture(scope="module")
def tensors():
    return random_tensors(SIZES, deviation=0.3)


@pytest.fixture(scope="module")
def expected(tensors, data_file, another_tokenizer, tmp_path_factory):
    """What transformers computes with these weights, measured as in the published run: (folder, {name: value})."""
    folder = write_checkpoint(tmp_path_factory.mktemp("written") / "124M", SIZES, tensors)
    model = GPT2LMHeadModel(GPT2Config(n_positions=256, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
                                       attn_pdrop=0.0)).eval()
    model.transformer.load_state_dict(transformers_state(load(folder)[1]))
    header = ("Below is an instruction that describes a task. Write a response that appropriately completes the "
              "request.\n\n### Instruction:\n")
    prompt = another_tokenizer(header + "Convert the active sentence to passive: 'The chef cooks the meal every day.'",
                       return_tensors="pt").input_ids
    new = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=35, do_sample=False,
                         pad_token_id=50256)[0, prompt.shape[1]:]
    entries = json.loads(data_file.read_text())
    torch.manual_seed(123)
    order = next(iter(torch.utils.data.DataLoader(range(935), batch_size=40, shuffle=True))).tolist()

    def loss(numbers):
        texts = [f"{header}{entries[i]['instruction']}\n\n### Response:\n{entries[i]['output']}" for i in numbers]
        rows = another_tokenizer(texts).input_ids
        width = max(map(len, rows)) + 1
        ids = torch.tensor([row + [50256] * (width - len(row)) for row in rows])
        targets = torch.tensor([row + [50256] + [-100] * (width - len(row) - 1) for row in rows])[:, 1:]
        with torch.no_grad():
            return F.cross_entropy(model(ids[:, :-1]).logits.flatten(0, 1), targets.flatten()).item()

    def losses(numbers):
        return mean(loss(numbers[i:i + 8]) for i in range(0, 40, 8))
    return folder, {"parameters": sum(p.numel() for p in model.parameters()),
                    "bytes of the data file": 4 * sum(array.size for array in tensors.values()),
                    "continuation": another_tokenizer.decode(new).strip(),
                    "training loss": losses(order), "validation loss": losses(list(range(1045, 1085)))}


@pytest.fixture
def check(server, expected, data_file, tmp_path, monkeypatch, capsys):
    """Serves a checkpoint with these tensors as OpenAI's 124M, runs the check, and gives its status and output."""
    monkeypatch.setitem(check_weights.EXPECTED, "124M", expected[1])
    monkeypatch.setitem(check_weights.CONTINUED, "124M", check_weights.CONTINUED["355M"])
    monkeypatch.setitem(check_weights.PUBLISHED, "sha256", None)
    monkeypatch.setattr("sys.argv", ["check_weights", "124M", "--models-dir", str(tmp_path / "models"),
                                     "--data-file", str(data_file)])

    def run(folder):
        for name in FILES:
            server.files[f"/124M/{name}"] = (folder / name).read_bytes()
        with pytest.raises(SystemExit) as status:
            check_weights.main()
        return status.value.code, capsys.readouterr().out
    return run


def test_sound_weights_pass(check, expected):
    status, printed = check(expected[0])
    assert status == 0 and printed.count("as published") == 5 and "DIFFERS" not in printed


@pytest.mark.parametrize("name, change", [
    ("h1/attn/c_proj/w", lambda array: array.swapaxes(1, 2)),  # square: the shape stays the same
    ("h0/mlp/c_fc/b", np.zeros_like)])
def test_one_wrong_tensor_is_noticed(check, tensors, tmp_path, name, change):
    folder = write_checkpoint(tmp_path / "wrong", SIZES, tensors | {name: change(tensors[name])})
    assert (folder / DATA).stat().st_size == 4 * sum(array.size for array in tensors.values())
    status, printed = check(folder)
    assert status == 1 and printed.count("as published  parameters") == 1
    assert "DIFFERS       training loss" in printed or "DIFFERS       continuation" in printed


def test_a_loss_that_is_no_number_differs():
    assert check_weights.agrees(3.81, 3.826) and not check_weights.agrees(3.8, 3.826)
    assert not check_weights.agrees(math.nan, 3.826)


def test_the_published_sizes_follow_from_the_architecture():
    for size, (D, L) in {"124M": (768, 12), "355M": (1024, 24), "774M": (1280, 36), "1558M": (1600, 48)}.items():
        parameters = 50257 * D + 1024 * D + L * (12 * D**2 + 13 * D) + 2 * D
        assert check_weights.EXPECTED[size]["parameters"] == parameters
        assert check_weights.EXPECTED[size]["bytes of the data file"] == 4 * parameters
