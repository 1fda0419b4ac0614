"""The weight loader: against TensorFlow, against another tokenizer, and with files that are missing, damaged or
another's."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

import gpt_download
from engine.params import flatten_params
from gpt_download import FILES, CheckpointError, download_and_load_gpt2, load_settings, load_tokenizer
from tests.helpers import DATA, SMALL, flip, load, write_checkpoint

# --- The weights, against TensorFlow ---


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_both_readers_give_what_tensorflow_wrote(dtype, tmp_path):
    import tensorflow as tf
    folder = write_checkpoint(tmp_path / "small", SMALL, dtype=dtype, seed=1)
    settings, params = load(folder)
    assert settings == SMALL
    ours, theirs = dict(flatten_params(params)), dict(flatten_params(load(folder, "tensorflow")[1]))
    written = tf.train.load_checkpoint(str(folder / "model.ckpt"))
    assert ours.keys() == theirs.keys() and len(ours) == 4 + 12 * 2 == len(written.get_variable_to_shape_map())
    for path, array in ours.items():
        name = re.sub(r"^blocks/(\d+)", r"h\1", path)
        expected = written.get_tensor("model/" + {"g": "ln_f/g", "b": "ln_f/b"}.get(name, name))
        assert expected.dtype == dtype
        expected = expected[0] if expected.ndim == 3 else expected
        assert array.dtype == theirs[path].dtype == np.float32 and array.shape == theirs[path].shape == expected.shape
        assert (array == expected).all() and (theirs[path] == expected).all() and np.ptp(array) > 0


def test_writing_to_the_arrays_leaves_the_file_alone(model_dir):
    before = (model_dir / DATA).read_bytes()
    _, params = load(model_dir)
    for _, array in flatten_params(params):
        array[...] = 7
    assert (params["wte"] == 7).all()
    del params, array
    assert (model_dir / DATA).read_bytes() == before
    assert not (load(model_dir)[1]["wte"] == 7).any()


# --- The tokenizer, against that of transformers ---


@pytest.mark.parametrize("text", [
    "Hello, world! The quick brown fox.", "I'm sure they've said it's what we'd do, but you're wrong; he'll DON'T 'S",
    "🤖 emoji 👩‍👩‍👧‍👦🏳️‍🌈!", "把这句话翻译成英文。日本語も", "  two   spaces\n\n\n\tand tabs \t\n end   ",
    "3.14159 12345678 x²½ Ⅷ",
    "naïve Ünïcödé ß ﬁ Ωμέγα привет مرحبا हिन्दी", "a\u00a0b\u3000c\u2028d\r\n", "def f(x):\n    return x**2  # !!!???",
    "<|endoftext|>", "", "\x00\x7f\ufffd"])
def test_tokenizer_equals_another(tokenizer, another_tokenizer, text):
    ids = tokenizer.encode(text, disallowed_special=())
    if "<|" not in text:
        assert ids == another_tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(text, allowed_special="all") == another_tokenizer(text)["input_ids"]


def test_tokenizer_special_token(tokenizer):
    assert tokenizer.eot_token == 50256 and tokenizer.n_vocab == 50257
    assert len(tokenizer.encode("<|endoftext|>", disallowed_special=())) > 1


@pytest.mark.parametrize("name", ["vocab.bpe", "encoder.json"])
def test_damaged_tokenizer_file_is_named(model_dir, name):
    flip(model_dir / name, 1000)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        load_tokenizer(model_dir)
    (model_dir / name).unlink()
    with pytest.raises(CheckpointError, match=f"can't read .*{name}"):
        load_tokenizer(model_dir)


# --- Fetching a model ---


def test_a_model_is_downloaded_once(server, small_dir, tmp_path):
    for name in FILES:
        server.files[f"/124M/{name}"] = (small_dir / name).read_bytes()
    settings, params = download_and_load_gpt2("124M", tmp_path)
    assert [path for path, _ in server.requests] == [f"/124M/{name}" for name in FILES]
    assert {path.name for path in (tmp_path / "124M").iterdir()} == {*FILES, "model.ckpt.verified"}
    expected = dict(flatten_params(load(small_dir)[1]))
    assert settings == SMALL and all((expected[path] == array).all() for path, array in flatten_params(params))
    server.requests.clear()
    download_and_load_gpt2("124M", tmp_path)
    assert server.requests == []
    (tmp_path / "124M" / "vocab.bpe").unlink()
    download_and_load_gpt2("124M", tmp_path)
    assert [path for path, _ in server.requests] == ["/124M/vocab.bpe"]


def serve(server, base, small_dir, names=FILES):
    for name in names:
        server.files[f"{base}/124M/{name}"] = (small_dir / name).read_bytes()


def test_the_mirrors_are_tried_in_order(server, small_dir, tmp_path, monkeypatch, capsys):
    serve(server, "/mirror", small_dir, FILES[:3])
    serve(server, "/another", small_dir)
    monkeypatch.setenv("GPT2_MIRROR", f"{server.url}/mirror/ {server.url}/another")
    settings, _ = download_and_load_gpt2("124M", tmp_path)
    assert settings == SMALL
    asked = [path.split("/")[1] for path, _ in server.requests]
    assert asked == ["124M"] + ["mirror"] * 4 + ["another"] * 3  # where one file is missing, the next isn't asked for
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if "came from" in line] == [
        f"{name} came from {server.url}/{mirror}" for name, mirror in zip(FILES, ["mirror/"] * 3 + ["another"] * 3)]
    assert f"could not download {server.url}/124M/hparams.json: 404" in printed[0]


def test_without_a_setting_the_mirror_is_the_books(server, small_dir, tmp_path, monkeypatch, capsys):
    assert gpt_download.MIRROR == "https://f001.backblazeb2.com/file/LLMs-from-scratch/gpt2"
    monkeypatch.setattr(gpt_download, "MIRROR", f"{server.url}/books")
    serve(server, "/books", small_dir)
    serve(server, "", small_dir, FILES[:1])
    download_and_load_gpt2("124M", tmp_path)
    served = [line.split(" came from ")[1] for line in capsys.readouterr().out.splitlines() if "came from" in line]
    assert served == [server.url] + [f"{server.url}/books"] * 5


@pytest.mark.parametrize("same_version", [True, False])
def test_a_part_from_one_source_never_mixes_with_another(server, small_dir, tmp_path, monkeypatch, same_version):
    """OpenAI's host breaks off in the middle of a file, for good; the mirror has it, under its own version or not."""
    serve(server, "", small_dir)
    serve(server, "/mirror", small_dir)
    monkeypatch.setenv("GPT2_MIRROR", f"{server.url}/mirror")
    if not same_version:
        server.files[f"/mirror/124M/{DATA}"] = server.files[f"/124M/{DATA}"][::-1]
    server.faults[f"/124M/{DATA}"] = ["cut"] * 5
    if same_version:
        assert download_and_load_gpt2("124M", tmp_path)[0] == SMALL
        return
    with pytest.raises(CheckpointError, match="damaged"):  # the mirror's file is wrong as a whole, and noticed
        download_and_load_gpt2("124M", tmp_path)
    assert (tmp_path / "124M" / DATA).read_bytes() == server.files[f"/mirror/124M/{DATA}"]


def test_a_full_disk_is_no_fault_of_the_source(server, small_dir, tmp_path, monkeypatch):
    serve(server, "", small_dir)
    monkeypatch.setenv("GPT2_MIRROR", f"{server.url}/mirror")
    monkeypatch.setattr("engine.fetch.shutil.disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(CheckpointError, match="needs .* bytes, but .* has 1 free"):
        download_and_load_gpt2("124M", tmp_path)
    assert len(server.requests) == 1


def test_every_source_that_failed_is_named(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GPT2_MIRROR", f"{server.url}/mirror")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    with pytest.raises(CheckpointError, match="could not get 'openai-community/gpt2-xl' from Hugging Face"):
        download_and_load_gpt2("1558M", tmp_path)
    printed = capsys.readouterr().out
    for source in (server.url, f"{server.url}/mirror"):
        assert f"could not download {source}/1558M/hparams.json: 404" in printed


def test_missing_files_of_an_unknown_size_are_an_error(server, model_dir):
    (model_dir / "vocab.bpe").unlink()
    with pytest.raises(CheckpointError, match="vocab.bpe is missing, and 'small' is none of OpenAI's sizes 124M, 355M"):
        load(model_dir)
    assert server.requests == []


# --- Damaged and mismatched files ---


@pytest.mark.parametrize("damage", ["a web page", "a flipped bit", "nothing left"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_only_that_is_fetched_again(server, small_dir, tmp_path, name, damage):
    for file in FILES:
        server.files[f"/124M/{file}"] = (small_dir / file).read_bytes()
    download_and_load_gpt2("124M", tmp_path)
    path = tmp_path / "124M" / name
    if damage == "a flipped bit":
        flip(path, 0)
    else:
        path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>" * 9 if damage == "a web page" else "")
    for _ in range(2):  # a file that was found damaged once is not trusted later
        with pytest.raises(CheckpointError, match=f"{name}.*(delete|fetch)"):
            download_and_load_gpt2("124M", tmp_path)
            load_tokenizer(tmp_path / "124M")
    path.unlink()
    server.requests.clear()
    download_and_load_gpt2("124M", tmp_path)
    load_tokenizer(tmp_path / "124M")
    assert [path for path, _ in server.requests] == [f"/124M/{name}"]


@pytest.mark.parametrize("name", ["checkpoint", DATA])
def test_a_file_that_can_not_be_read_is_named(model_dir, name):
    (model_dir / name).unlink()
    (model_dir / name).mkdir()
    with pytest.raises(CheckpointError, match=f"can't read the files in .*{name}"):
        load(model_dir)


@pytest.mark.parametrize("hparams, message", [
    ("", "hparams.json is not"), ("[1]", "hparams.json is not"), ("null", "hparams.json is not"),
    ("<html></html>", "hparams.json is not"), ("\udcff", "hparams.json is not"),
    ({"n_vocab": None}, "n_vocab is None"), ({"n_ctx": 0}, "n_ctx is 0"), ({"n_embd": -4}, "n_embd is -4"),
    ({"n_head": 2.0}, "n_head is 2.0"), ({"n_layer": True}, "n_layer is True"), ({"n_layer": "2"}, "n_layer is '2'"),
    ({"n_layer": 10**9}, "n_layer is 1000000000"), ({"n_vocab": 10**7}, "n_vocab is 10000000"),
    ({"n_head": 3}, "n_head 3 does not divide n_embd 4")])
def test_absurd_hparams(model_dir, hparams, message):
    text = hparams if isinstance(hparams, str) else json.dumps(SMALL | hparams)
    (model_dir / "hparams.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=message):
        load(model_dir)


@pytest.mark.parametrize("name", SMALL)
def test_missing_hparams(model_dir, name):
    (model_dir / "hparams.json").write_text(json.dumps({key: SMALL[key] for key in SMALL if key != name}))
    with pytest.raises(CheckpointError, match=f"hparams.json.*{name}"):
        load_settings(model_dir)


@pytest.mark.parametrize("change, message", [
    ({"n_layer": 3}, "lacks the tensor h2/attn/c_attn/w"),
    ({"n_layer": 1}, "has an unexpected tensor h1/attn/c_attn/b"),
    ({"n_embd": 8}, r"has wte of shape \(11, 4\), not \(11, 8\)"),
    ({"n_ctx": 7}, r"has wpe of shape \(6, 4\), not \(7, 4\)")])
@pytest.mark.parametrize("reader", ["memmap", "tensorflow"])
def test_a_checkpoint_of_another_size(model_dir, change, message, reader):
    (model_dir / "hparams.json").write_text(json.dumps(SMALL | change))
    with pytest.raises(CheckpointError, match=message):
        load(model_dir, reader)


def test_a_reader_that_does_not_exist(server, tmp_path):
    with pytest.raises(ValueError, match="reader is 'tf': want memmap or tensorflow"):
        download_and_load_gpt2("124M", tmp_path, reader="tf")
    assert not server.requests


@pytest.mark.parametrize("content", ['model_checkpoint_path: "/home/me/model.ckpt"\n', 'model_checkpoint_path: "other"',
                                     "", "<html>", "\x00\xff"])
def test_a_checkpoint_file_that_names_something_else(model_dir, content):
    (model_dir / "checkpoint").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match="checkpoint doesn't name model.ckpt"):
        load(model_dir)
