"""GPT-2 from and to Hugging Face's format, against transformers, which writes and reads it, and CTranslate2."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from huggingface_hub.utils import close_session
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from gpt_download import download_and_load_gpt2
from previous_chapters import GPTModel, flatten_params, load_weights_into_gpt
from tests.helpers import TINY, load, tokenizer_source, transformers_state, truncate
from tutorial import ROOT
from weights import huggingface
from weights.errors import CheckpointError
from weights.sizes import gpt_config


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
    ours, theirs = flatten_params(params), flatten_params(expected)
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        assert array.dtype == np.float32
        assert torch.from_numpy(array).equal(torch.from_numpy(theirs[path]).to(dtype).float())


def test_float32_is_mapped_and_the_file_never_changes(folder):
    before = (folder / "model.safetensors").read_bytes()
    _, params = load(folder)
    assert all(not array.flags.owndata for array in flatten_params(params).values())
    with open("/proc/self/maps") as maps:
        assert any("mine/model.safetensors" in line for line in maps)
    for array in flatten_params(params).values():
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


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_the_head_alone_will_do_for_the_tied_embedding(folder, tiny_dir, prefix):
    """Of tied tensors, a program may write either one."""
    def with_the_head_alone(tensors):
        tensors["lm_head.weight"] = tensors.pop("transformer.wte.weight")
        return {name.replace("transformer.", prefix): tensor for name, tensor in tensors.items()}
    change_weights(folder, with_the_head_alone)
    ours, theirs = (flatten_params(load(where)[1]) for where in (folder, tiny_dir))
    assert ours.keys() == theirs.keys() and all((ours[path] == theirs[path]).all() for path in ours)


@pytest.fixture
def anew(folder, peer, another_tokenizer):
    """A folder as transformers saves a loaded model and tokenizer: the latter in one file, tokenizer.json."""
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    peer.save_pretrained(folder)
    another_tokenizer.save_pretrained(folder)
    assert {path.name for path in folder.glob("*.*")} >= {"tokenizer.json"} and not (folder / "vocab.json").exists()
    return folder


def test_a_folder_that_transformers_saved_anew_is_read(anew, tiny_dir):
    settings, params = load(anew)
    ours, theirs = flatten_params(params), flatten_params(load(tiny_dir)[1])
    assert settings == TINY and all((ours[path] == theirs[path]).all() for path in theirs)


@pytest.mark.parametrize("one_of_two", ["vocab.json", "merges.txt"])
def test_one_of_the_two_older_files_beside_it_does_no_harm(anew, one_of_two):
    source = {"vocab.json": "encoder.json", "merges.txt": "vocab.bpe"}[one_of_two]
    shutil.copy(tokenizer_source(source), anew / one_of_two)
    assert load(anew)[0] == TINY


def change_tokenizer(folder, change):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("change", [
    lambda content: content["model"].update(merges=[" ".join(pair) for pair in content["model"]["merges"]]),
    lambda content: content["model"]["vocab"].pop("<|endoftext|>"),  # which is among the added tokens as well
    lambda content: content["added_tokens"].append(content["added_tokens"][0] | {"content": "[PAD]", "id": 50257})])
def test_older_and_newer_layouts_of_tokenizer_json_are_read(anew, change):
    change_tokenizer(anew, change)
    assert load(anew)[0] == TINY


@pytest.mark.parametrize("change, message", [
    (lambda content: content["model"]["vocab"].update(Hello=1), "another vocabulary than GPT-2's .tokenizer.json."),
    (lambda content: content["model"]["merges"].pop(), "another vocabulary than GPT-2's .tokenizer.json."),
    (lambda content: content["added_tokens"].clear() or content["model"]["vocab"].pop("<|endoftext|>"), "another voc"),
    (lambda content: content.update(normalizer={"type": "Lowercase"}), "prepares texts in another way"),
    (lambda content: content["pre_tokenizer"].update(add_prefix_space=True), "prepares texts in another way"),
    (lambda content: content["pre_tokenizer"].update(type="Whitespace"), "prepares texts in another way"),
    (lambda content: content.pop("model"), "is not a tokenizer's: KeyError"),
    (lambda content: content.update(pre_tokenizer=None), "is not a tokenizer's: TypeError"),
    (lambda content: content["model"].update(vocab=[1]), "is not a tokenizer's: TypeError")])
def test_another_tokenizer_json_is_an_error(anew, change, message):
    change_tokenizer(anew, change)
    with pytest.raises(CheckpointError, match=message):
        load(anew)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xfe", b"[]"])
def test_a_damaged_tokenizer_json_is_named(anew, content):
    (anew / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="tokenizer.json"):
        load(anew)


@pytest.mark.parametrize("changes, message", [
    ({"activation_function": "relu"}, "activation_function is 'relu', not 'gelu_new' or"),
    ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
    ({"scale_attn_weights": False}, "scale_attn_weights is False"), ({"model_type": "llama"}, "model_type is 'llama'"),
    ({"n_inner": 99}, "n_inner is 99, not None"), ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06"),
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
    with pytest.raises(CheckpointError, match="model.safetensors is damaged or not a safetensors file"):
        load(folder)


# --- From the hub ---


def on_the_hub(server, published, repository, weights="model.safetensors"):
    """Have the server play Hugging Face's part for a repository: its list of files, and the files."""
    commit = "0123456789" * 4
    tokenizer = [name for name in ("vocab.json", "merges.txt", "tokenizer.json") if (published / name).exists()]
    names = ["config.json", *tokenizer, "README.md", weights]
    listing = {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in names]}
    server.files[f"/api/models/{repository}/revision/main"] = json.dumps(listing).encode()
    tree = [{"type": "file", "path": name, "oid": "a" * 40, "size": 1} for name in names]
    for path in (f"/api/models/{repository}/tree/{commit}", f"/api/models/{repository}/tree/main"):
        server.files[f"{path}?recursive=true&expand=false"] = json.dumps(tree).encode()
    for name in names:
        source = published / name
        server.files[f"/{repository}/resolve/{commit}/{name}"] = source.read_bytes() if source.exists() else b"text"
    server.commit = commit


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """The server in the place of Hugging Face's hub, with an empty cache; it has no files of OpenAI's."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
                        server.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GPT2_MIRROR", f"{server.url}/mirror")
    return server


def load_in_own_process(model, server, tmp_path):
    """download_and_load_gpt2 in a fresh Python, told by the environment that the server is Hugging Face's hub: what it
    prints, and whether it succeeds."""
    script = ("import sys, gpt_download; settings, params = gpt_download.download_and_load_gpt2(sys.argv[1], ''); "
              "print(settings['n_embd'])")
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1",
                                "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", script, model], cwd=ROOT, env=environment, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return run.stdout, run.returncode == 0


@pytest.mark.slow
def test_the_environment_says_where_the_hub_and_its_cache_are(server, published, tmp_path):
    on_the_hub(server, published, "somebody/tiny")
    printed, succeeded = load_in_own_process("hf:somebody/tiny", server, tmp_path)
    assert succeeded and printed.splitlines()[-1] == "16", printed
    assert list((tmp_path / "home/hub/models--somebody--tiny").rglob("model.safetensors"))


def test_a_repository_is_downloaded_from_the_hub_once(hub, published, tmp_path):
    on_the_hub(hub, published, "somebody/tiny")
    for _ in range(2):
        assert download_and_load_gpt2("hf:somebody/tiny", tmp_path)[0] == TINY
    downloaded = [path for path, headers in hub.requests if path.endswith(".safetensors")]
    assert len(downloaded) == 1 and not any(path.endswith("README.md") for path, _ in hub.requests)
    with pytest.raises(CheckpointError, match="could not download 'somebody/none' from Hugging Face"):
        download_and_load_gpt2("hf:somebody/none", tmp_path)
    on_the_hub(hub, published, "somebody/shards", "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="'somebody/shards' on Hugging Face has no model.safetensors"):
        download_and_load_gpt2("hf:somebody/shards", tmp_path)


def test_a_repository_with_tokenizer_json_alone_will_do(hub, anew, tmp_path):
    on_the_hub(hub, anew, "somebody/anew")
    assert download_and_load_gpt2("hf:somebody/anew", tmp_path)[0] == TINY


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "nonsense", "http://host:port", "https://hub.invalid"])
def test_a_hub_that_can_not_be_reached_is_one_clear_error(hub, monkeypatch, tmp_path, endpoint):
    """Nobody listens; no address; no port; behind a proxy that refuses."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setenv("HTTPS_PROXY", hub.url)
    close_session()  # or the proxy that an earlier test had would be asked
    try:
        with pytest.raises(CheckpointError, match="(?s)could not download 'somebody/tiny' from .*Check the name and"):
            download_and_load_gpt2("hf:somebody/tiny", tmp_path)
    finally:
        close_session()


@pytest.mark.parametrize("name, value, message", [
    ("ALL_PROXY", "socks://127.0.0.1:9", "socks"), ("ALL_PROXY", "socks5://127.0.0.1:9", "SOCKS"),
    ("HTTPS_PROXY", "ftp://127.0.0.1:9", "ftp"), ("HTTPS_PROXY", "http://host:port", "Invalid port"),
    ("HTTPS_PROXY", "http://127.0.0.1:9", "refused"), ("SSL_CERT_FILE", "/none.pem", "No such file")])
def test_a_proxy_or_certificates_that_can_not_be_used_are_named(hub, monkeypatch, tmp_path, name, value, message):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    monkeypatch.setenv(name, value)
    close_session()
    try:
        with pytest.raises(CheckpointError, match=f"(?s)could not download 'somebody/tiny' from .*{message}.*Check the "
                                                  f"name and the network and the environment variable.* {name}"):
            download_and_load_gpt2("hf:somebody/tiny", tmp_path)
    finally:
        close_session()


@pytest.mark.parametrize("fault", ["hang up", "page", 401, 404, 500])
def test_a_hub_that_does_not_answer_as_one_is_one_clear_error(hub, published, monkeypatch, tmp_path, fault):
    on_the_hub(hub, published, "somebody/tiny")
    path = "/api/models/somebody/tiny/revision/main"
    hub.faults[path], hub.files[path] = [fault] * 9, b"<html>Sign in</html>"
    with pytest.raises(CheckpointError, match="(?s)could not download 'somebody/tiny' from .*Check the name and"):
        download_and_load_gpt2("hf:somebody/tiny", tmp_path)


@pytest.mark.parametrize("name", ["", "a/b/c", "no spaces/please", "somebody/--"])
def test_a_name_that_no_repository_can_have_is_one_clear_error(hub, tmp_path, name):
    with pytest.raises(CheckpointError, match=f"could not download '{name}' from .*Check the name"):
        download_and_load_gpt2(f"hf:{name}", tmp_path)
    assert hub.requests == []


def test_the_hub_is_the_last_source_of_openais_sizes(hub, published, tmp_path, capsys):
    on_the_hub(hub, published, "openai-community/gpt2-medium")
    for turn in range(2):
        hub.requests.clear()
        assert download_and_load_gpt2("355M", tmp_path)[0] == TINY
        printed = capsys.readouterr().out
        assert ("Falling back to openai-community/gpt2-medium on Hugging Face" in printed) == (turn == 0)
        assert bool(hub.requests) == (turn == 0)
    assert (tmp_path / "355M/model.safetensors").exists()
    (tmp_path / "355M/config.json").unlink()
    assert download_and_load_gpt2("355M", tmp_path)[0] == TINY
    assert "Falling back" not in capsys.readouterr().out, "a folder stays in its format: OpenAI's isn't asked for"


@pytest.mark.parametrize("model", ["hf:openai-community/gpt2", "124M"])
def test_a_file_that_is_not_the_published_one_is_refused(hub, published, tmp_path, model):
    on_the_hub(hub, published, "openai-community/gpt2")
    for _ in range(2):  # what was found wrong once is not trusted later
        with pytest.raises(CheckpointError, match=r"wasn't the published file of openai-community/gpt2 \(wrong sha"):
            download_and_load_gpt2(model, tmp_path)


def test_a_stopped_download_from_the_hub_goes_on(hub, published, tmp_path):
    """The small files have arrived, the weights haven't."""
    on_the_hub(hub, published, "openai-community/gpt2-medium")
    weights = hub.files.pop(f"/openai-community/gpt2-medium/resolve/{hub.commit}/model.safetensors")
    with pytest.raises(CheckpointError):
        download_and_load_gpt2("355M", tmp_path)
    assert (tmp_path / "355M/config.json").exists()
    hub.files[f"/openai-community/gpt2-medium/resolve/{hub.commit}/model.safetensors"] = weights
    assert download_and_load_gpt2("355M", tmp_path)[0] == TINY
