"""GPT-2 from and to Hugging Face's format, against transformers, which writes and reads it, and CTranslate2."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from engine import huggingface
from engine.fetch import CheckpointError
from engine.params import flatten_params
from previous_chapters import GPTModel, gpt_config, load_weights_into_gpt
from scripts.tutorial import ROOT
from tests.helpers import TINY, load, tokenizer_source, transformers_state, truncate


def published_folder(folder, model):
    """A model as its repository has it: what transformers writes, and OpenAI's two tokenizer files by other names."""
    model.save_pretrained(folder)
    for source, name in (("encoder.json", "vocab.json"), ("vocab.bpe", "merges.txt")):
        shutil.copy(tokenizer_source(source), folder / name)
    return folder


@pytest.fixture(scope="module")
def peer(tiny_dir):
    """transformers' GPT-2 with the weights of the tiny checkpoint."""
    model = GPT2LMHeadModel(GPT2Config(n_positions=TINY["n_ctx"], n_embd=TINY["n_embd"], n_layer=TINY["n_layer"],
                                       n_head=TINY["n_head"]))
    model.transformer.load_state_dict(transformers_state(load(tiny_dir)[1]))
    return model.eval()


@pytest.fixture(scope="module")
def published(peer, tmp_path_factory):
    return published_folder(tmp_path_factory.mktemp("hub") / "tiny", peer)


@pytest.fixture
def folder(published, tmp_path):
    """A copy to change."""
    return shutil.copytree(published, tmp_path / "mine")


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


# --- From the format ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_what_transformers_wrote_is_read(folder, tiny_dir, dtype, prefix):
    def as_published(tensors):
        tensors = {name.replace("transformer.", prefix): tensor.to(dtype) for name, tensor in tensors.items()}
        masks = {f"{prefix}h.{i}.attn.bias": torch.ones(1, 1, 64, 64) for i in range(2)}
        return tensors | masks | {f"{prefix}h.0.attn.masked_bias": torch.tensor(-1e4),
                                  "lm_head.weight": tensors[f"{prefix}wte.weight"].clone()}
    change_weights(folder, as_published)
    settings, params = load(folder)
    expected_settings, expected = load(tiny_dir)
    assert settings == expected_settings == TINY
    ours, theirs = dict(flatten_params(params)), dict(flatten_params(expected))
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        assert array.dtype == np.float32
        assert torch.from_numpy(array).equal(torch.from_numpy(theirs[path]).to(dtype).float())


def test_float32_is_mapped_and_the_file_never_changes(folder):
    before = (folder / "model.safetensors").read_bytes()
    _, params = load(folder)
    assert all(not array.flags.owndata for _, array in flatten_params(params))
    with open("/proc/self/maps") as maps:
        assert any("mine/model.safetensors" in line for line in maps)
    for _, array in flatten_params(params):
        array[...] = 7
    assert (folder / "model.safetensors").read_bytes() == before


def test_the_model_computes_what_transformers_does(folder, peer):
    settings, params = load(folder)
    model = GPTModel(gpt_config(settings)).eval()
    load_weights_into_gpt(model, params)
    ids = torch.randint(0, 50257, (2, 30))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), peer(ids).logits, rtol=0, atol=1e-5)


def test_a_vocabulary_that_was_saved_anew_is_gpt2s(folder, another_tokenizer):
    """Programs lay out vocab.json and merges.txt in their own ways."""
    another_tokenizer.backend_tokenizer.model.save(str(folder))
    assert (folder / "vocab.json").read_bytes() != tokenizer_source("encoder.json").read_bytes()
    assert load(folder)[0] == TINY


@pytest.mark.parametrize("changes, message", [
    ({"activation_function": "relu"}, "activation_function is 'relu', wanted is 'gelu_new' or"),
    ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
    ({"scale_attn_weights": False}, "scale_attn_weights is False"), ({"model_type": "llama"}, "model_type is 'llama'"),
    ({"n_inner": 99}, "n_inner is 99, wanted is None"), ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings is False"), ({"n_head": None}, "n_head is None"),
    ({"n_head": 5}, "n_head 5 does not divide n_embd 16"), ({"n_embd": "16"}, "n_embd is '16'"),
    ({"n_layer": 3}, "lacks the tensor h2/attn/c_attn/w"), ({"n_layer": 1}, "has an unexpected tensor h.1.attn"),
    ({"n_positions": 65}, r"has wpe of shape \(64, 16\), not \(65, 16\)")])
def test_another_architecture_is_named(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_an_inner_width_that_is_spelled_out_is_fine(folder):
    change_config(folder, n_inner=64)
    assert load(folder)[0] == TINY


@pytest.mark.parametrize("change, message", [
    (lambda tensors: tensors | {"lm_head.weight": tensors["transformer.wte.weight"] + 1}, "output head, lm_head"),
    (lambda tensors: tensors | {"score.weight": torch.ones(2)}, "has an unexpected tensor score.weight"),
    (lambda tensors: {name: t for name, t in tensors.items() if not name.endswith("c_fc.bias")}, "lacks the .* h0/mlp"),
    (lambda tensors: tensors | {"transformer.wte.weight": torch.ones(3, 16)}, r"has wte of shape \(3, 16\)")])
def test_other_tensors_are_named(folder, change, message):
    change_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize("name", huggingface.FILES)
def test_a_file_that_is_missing_is_named(folder, name):
    (folder / name).rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"has no {name};.*save_pretrained"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "merges.txt"])
@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xfe", b"[]"])
def test_a_damaged_text_file_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}|another vocabulary"):
        load(folder)


def test_another_vocabulary_is_an_error(folder):
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["Hello"], vocabulary["hello"] = vocabulary["hello"], vocabulary["Hello"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(CheckpointError, match="another vocabulary than GPT-2's"):
        load(folder)


@pytest.mark.parametrize("size", [0, 7, 1000, -1])
def test_a_truncated_weight_file_is_named(folder, size):
    truncate(folder / "model.safetensors", size)
    with pytest.raises(CheckpointError, match="model.safetensors is damaged or no safetensors file"):
        load(folder)


# --- From the hub ---


def on_the_hub(server, published, repository, weights="model.safetensors"):
    """Have the server play Hugging Face's part for a repository: its list of files, and the files."""
    commit = "0123456789" * 4
    names = ["config.json", "vocab.json", "merges.txt", "README.md", weights]
    listing = {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in names]}
    server.files[f"/api/models/{repository}/revision/main"] = json.dumps(listing).encode()
    tree = [{"type": "file", "path": name, "oid": "a" * 40, "size": 1} for name in names]
    for path in (f"/api/models/{repository}/tree/{commit}", f"/api/models/{repository}/tree/main"):
        server.files[f"{path}?recursive=true&expand=false"] = json.dumps(tree).encode()
    for name in names:
        source = published / name
        server.files[f"/{repository}/resolve/{commit}/{name}"] = source.read_bytes() if source.exists() else b"text"
    server.commit = commit


def load_in_own_process(model, folder, server, tmp_path):
    """download_and_load_gpt2 in a fresh Python, for which the server is Hugging Face: what it prints, and whether it
    succeeds."""
    script = (f"import sys, gpt_download; gpt_download.BASE_URL = {server.url + '/openai'!r}; "
              "settings, params = gpt_download.download_and_load_gpt2(*sys.argv[1:]); print(settings['n_embd'])")
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1",
                                "GPT2_MIRROR": f"{server.url}/mirror", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                                "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", script, model, str(folder)], cwd=ROOT, env=environment, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return run.stdout, run.returncode == 0


@pytest.mark.slow
def test_a_repository_is_fetched_from_the_hub_once(server, published, tmp_path):
    on_the_hub(server, published, "somebody/tiny")
    for _ in range(2):
        printed, succeeded = load_in_own_process("hf:somebody/tiny", tmp_path, server, tmp_path)
        assert succeeded and printed.splitlines()[-1] == "16", printed
    fetched = [path for path, headers in server.requests if path.endswith(".safetensors")]
    assert len(fetched) == 1 and not any(path.endswith("README.md") for path, _ in server.requests)
    printed, succeeded = load_in_own_process("hf:somebody/none", tmp_path, server, tmp_path)
    assert not succeeded and "could not get 'somebody/none' from Hugging Face" in printed
    on_the_hub(server, published, "somebody/shards", "model-00001-of-00002.safetensors")
    printed, succeeded = load_in_own_process("hf:somebody/shards", tmp_path, server, tmp_path)
    assert not succeeded and "has no model.safetensors" in printed


@pytest.mark.slow
def test_the_hub_is_the_last_source_of_openais_sizes(server, published, tmp_path):
    on_the_hub(server, published, "openai-community/gpt2-medium")
    for turn in range(2):
        server.requests.clear()
        printed, succeeded = load_in_own_process("355M", tmp_path / "models", server, tmp_path)
        assert succeeded and printed.splitlines()[-1] == "16", printed
        assert ("Falling back to openai-community/gpt2-medium on Hugging Face" in printed) == (turn == 0)
        assert bool(server.requests) == (turn == 0)
    assert (tmp_path / "models/355M/model.safetensors").exists()
    (tmp_path / "models/355M/config.json").unlink()
    printed, succeeded = load_in_own_process("355M", tmp_path / "models", server, tmp_path)
    assert succeeded and "Falling back" not in printed, "a folder stays in its format: OpenAI's files aren't asked for"


@pytest.mark.slow
def test_a_file_that_is_not_the_published_one_is_refused(server, published, tmp_path):
    on_the_hub(server, published, "openai-community/gpt2")
    for model in ("hf:openai-community/gpt2", "124M"):
        for _ in range(2):  # what was found wrong once is not trusted later
            printed, succeeded = load_in_own_process(model, tmp_path / "models", server, tmp_path)
            assert not succeeded and "wasn't the published file of openai-community/gpt2 (wrong sha256)" in printed


@pytest.mark.slow
def test_a_stopped_fetch_from_the_hub_goes_on(server, published, tmp_path):
    """The small files have arrived, the weights haven't."""
    on_the_hub(server, published, "openai-community/gpt2-medium")
    path = f"/openai-community/gpt2-medium/resolve/{server.commit}/model.safetensors"
    weights = server.files.pop(path)
    printed, succeeded = load_in_own_process("355M", tmp_path / "models", server, tmp_path)
    assert not succeeded and (tmp_path / "models/355M/config.json").exists(), printed
    server.files[path] = weights
    printed, succeeded = load_in_own_process("355M", tmp_path / "models", server, tmp_path)
    assert succeeded and printed.splitlines()[-1] == "16", printed
