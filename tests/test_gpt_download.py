"""The weight loader: against TensorFlow, other tokenizers and the published sizes, and with files that are missing,
damaged or another model's."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

import gpt_download
from gpt_download import FILES, CheckpointError, download_and_load_gpt2, load_gpt2, load_settings, load_tokenizer
from previous_chapters import GPTModel, flatten_params, load_weights_into_gpt
from tests.helpers import DATA, SMALL, flip, load, tokenizer_source, write_checkpoint
from tutorial import MINIATURE_DIR, ROOT
from weights.empty import empty_model
from weights.sizes import MODELS, OPENAI_SIZES, Model, gpt_config, openai_settings
from weights.tf_checkpoint import read_with_tensorflow

# --- The weights, against TensorFlow ---


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_both_readers_give_what_tensorflow_wrote(dtype, tmp_path):
    import tensorflow as tf
    folder = write_checkpoint(tmp_path / "small", SMALL, dtype=dtype, seed=1)
    settings, params = load(folder)
    assert settings == SMALL
    ours, theirs = flatten_params(params), read_with_tensorflow(folder / "model.ckpt")
    written = tf.train.load_checkpoint(str(folder / "model.ckpt"))
    assert len(ours) == len(theirs) == 4 + 12 * 2 == len(written.get_variable_to_shape_map())
    for path, array in ours.items():
        name = re.sub(r"^blocks/(\d+)", r"h\1", path)
        name = "model/" + {"g": "ln_f/g", "b": "ln_f/b"}.get(name, name)
        expected = written.get_tensor(name)
        assert expected.dtype == theirs[name].dtype == dtype and (theirs[name] == expected).all()
        expected = expected[0] if expected.ndim == 3 else expected
        assert array.dtype == np.float32 and array.shape == expected.shape
        assert (array == expected).all() and np.ptp(array) > 0


def test_writing_to_the_arrays_leaves_the_file_alone(model_dir):
    before = (model_dir / DATA).read_bytes()
    _, params = load(model_dir)
    for array in flatten_params(params).values():
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


def test_tokenizer_has_the_ranks_that_tiktoken_makes_of_the_files(tokenizer, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    ranks = data_gym_to_mergeable_bpe_ranks(*(str(tokenizer_source(name)) for name in ("vocab.bpe", "encoder.json")))
    assert len(ranks) == 50256 and tokenizer._mergeable_ranks == ranks


@pytest.mark.parametrize("cache", [None, "cache"])
def test_loading_a_tokenizer_leaves_no_copies(tiny_dir, tmp_path, monkeypatch, cache):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    if cache:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / cache))
    assert load_tokenizer(tiny_dir).encode("Hello") == [15496]
    assert not list(tmp_path.iterdir())


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
    expected = flatten_params(load(small_dir)[1])
    assert settings == SMALL and all((expected[path] == array).all() for path, array in flatten_params(params).items())
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
    monkeypatch.setattr("weights.transfer.shutil.disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(CheckpointError, match="needs .* bytes, but .* has 1 free"):
        download_and_load_gpt2("124M", tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name, value", [("REQUESTS_CA_BUNDLE", "/none.pem"), ("ALL_PROXY", "socks://127.0.0.1:9"),
                                         ("HTTPS_PROXY", "http://127.0.0.1:9")])
def test_other_sources_are_asked_when_a_proxy_or_certificates_can_not_be_used(
        server, small_dir, tmp_path, monkeypatch, capsys, name, value):
    monkeypatch.setattr(gpt_download, "BASE_URL", "https://somewhere.invalid")
    monkeypatch.setenv("GPT2_MIRROR", f"{server.url}/mirror")  # reached without a proxy, and without certificates
    monkeypatch.setenv(name, value)
    serve(server, "/mirror", small_dir)
    assert download_and_load_gpt2("124M", tmp_path)[0] == SMALL
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("could not download https://somewhere.invalid/124M/hparams.json") and name in first
    assert others == [f"{file} came from {server.url}/mirror" for file in FILES]


def test_every_source_that_failed_is_named(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GPT2_MIRROR", f"{server.url}/mirror")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    with pytest.raises(CheckpointError, match="could not download 'openai-community/gpt2-xl' from Hugging Face"):
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
def test_a_checkpoint_of_another_size(model_dir, change, message):
    (model_dir / "hparams.json").write_text(json.dumps(SMALL | change))
    with pytest.raises(CheckpointError, match=message):
        load(model_dir)


@pytest.mark.parametrize("content", ['model_checkpoint_path: "/home/me/model.ckpt"\n', 'model_checkpoint_path: "other"',
                                     "", "<html>", "\x00\xff"])
def test_a_checkpoint_file_that_names_something_else(model_dir, content):
    (model_dir / "checkpoint").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match="checkpoint doesn't name model.ckpt"):
        load(model_dir)


# --- The table of models, and the way from a name to a model ---


@pytest.mark.parametrize("name, parameters", {
    "gpt2-small (124M)": 124_439_808, "gpt2-medium (355M)": 354_823_168, "gpt2-large (774M)": 774_030_080,
    "gpt2-xl (1558M)": 1_557_611_200}.items())
def test_openai_sizes_have_the_published_parameter_counts(name, parameters):
    model = empty_model(MODELS[name].config())
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert all(parameter.is_meta for parameter in model.parameters())


def test_the_table_has_the_miniature_as_it_is():
    settings = json.loads((MINIATURE_DIR / "hparams.json").read_text())
    assert openai_settings(MODELS["gpt2-mini (7M)"].config()) == settings
    assert MODELS["gpt2-mini (7M)"].model_size == MINIATURE_DIR.name


def test_the_table_has_distilgpt2_as_transformers_counts_it():
    """6 of GPT-2's 12 layers: 81,912,576 parameters (https://huggingface.co/distilbert/distilgpt2: 82 million)."""
    parameters = empty_model(MODELS["distilgpt2 (82M)"].config()).parameters()
    assert sum(parameter.numel() for parameter in parameters) == 124_439_808 - 6 * (12 * 768**2 + 13 * 768)


def test_openais_own_models_are_told_from_others():
    assert OPENAI_SIZES == {"124M": "openai-community/gpt2", "355M": "openai-community/gpt2-medium",
                            "774M": "openai-community/gpt2-large", "1558M": "openai-community/gpt2-xl"}


def test_config_and_settings_are_each_others_inverse():
    config = gpt_config(SMALL, drop_rate=0.1)
    assert config == {"vocab_size": 11, "context_length": 6, "emb_dim": 4, "n_heads": 2, "n_layers": 2,
                      "drop_rate": 0.1, "qkv_bias": True}
    assert openai_settings(config) == SMALL


def in_three_steps(folder):
    """The model as it was made before there was `load_gpt2`: download, build, load."""
    settings, params = load(folder)
    model = GPTModel(gpt_config(settings))
    load_weights_into_gpt(model, params)
    return model.state_dict()


@pytest.fixture
def tiny_in_the_table(tiny_dir, monkeypatch):
    """Its name in MODELS, where it has the sizes that its folder has."""
    monkeypatch.setitem(MODELS, "gpt2-tiny", Model(tiny_dir.name, "", n_layers=2, emb_dim=16, n_heads=2,
                                                   context_length=64))
    return "gpt2-tiny"


def test_a_model_of_the_table_and_a_folder_are_loaded(tiny_dir, tiny_in_the_table):
    expected = in_three_steps(tiny_dir)
    for name in (tiny_in_the_table, tiny_dir.name):
        model, config = load_gpt2(name, tiny_dir.parent)
        assert config == MODELS[tiny_in_the_table].config() and not model.training
        assert all(value.equal(expected[key]) for key, value in model.state_dict().items())
        assert model.state_dict().keys() == expected.keys() and model.out_head.weight is model.tok_emb.weight


def test_a_model_of_openais_is_downloaded_first(server, small_dir, tmp_path):
    serve(server, "", small_dir)
    model, _ = load_gpt2("124M", tmp_path)
    expected = in_three_steps(small_dir)
    assert all(value.equal(expected[key]) for key, value in model.state_dict().items())


def test_the_dropout_rate_is_the_callers(tiny_dir, tiny_in_the_table):
    for name in (tiny_in_the_table, tiny_dir.name):
        model, config = load_gpt2(name, tiny_dir.parent, drop_rate=0.25)
        assert config["drop_rate"] == model.drop_emb.p == model.trf_blocks[1].att.dropout.p == 0.25


def test_another_model_under_a_name_of_the_table_is_an_error(tiny_dir, tmp_path):
    shutil.copytree(tiny_dir, tmp_path / "124M")
    with pytest.raises(CheckpointError, match=r"124M in .* another model than gpt2-small \(124M\): .*'n_embd': 16.*"
                                              r"not .*'n_embd': 768"):
        load_gpt2("gpt2-small (124M)", tmp_path)
    assert load_gpt2("124M", tmp_path)[1]["emb_dim"] == 16  # by the folder's name, what lies there is loaded


def test_an_unknown_name_is_an_error(server, tmp_path):
    with pytest.raises(CheckpointError, match="'gpt2-tiny' is none of OpenAI's sizes 124M, 355M, 774M, 1558M"):
        load_gpt2("gpt2-tiny", tmp_path)
    assert server.requests == []


def test_parameters_lie_in_the_mapped_file(tiny_dir):
    model, _ = load_gpt2(tiny_dir.name, tiny_dir.parent)
    with open("/proc/self/maps") as maps:  # each line: first-end, in hexadecimal, ..., path
        mapped = [[int(number, 16) for number in line.split()[0].split("-")] for line in maps
                  if line.rstrip().endswith(str(tiny_dir / DATA))]
    for name, parameter in model.named_parameters():
        first = parameter.data_ptr()
        assert any(start <= first and first + 4 * parameter.numel() <= end for start, end in mapped), name


def test_training_a_loaded_model_leaves_the_file_alone(model_dir):
    before = (model_dir / DATA).read_bytes()
    model, _ = load_gpt2(model_dir.name, model_dir.parent)
    model(torch.tensor([[1, 2, 3]])).square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= parameter.grad
    assert (model_dir / DATA).read_bytes() == before


# --- A clone as Git makes it on Windows ---


def git(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    settings = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    return subprocess.run(["git", *settings, *map(str, arguments)], cwd=folder, env=environment, check=True,
                          stdout=subprocess.PIPE).stdout


def clone_as_on_windows(folder, names):
    """Commit files of this project, and clone them with core.autocrlf=true: the folder of the clone."""
    for name in names:
        (folder / "repository" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / "repository" / name)
    git(folder / "repository", "init", "--quiet")
    git(folder / "repository", "add", "--force", ".")
    git(folder / "repository", "commit", "--quiet", "--message", "all")
    git(folder, "clone", "--quiet", "-c", "core.autocrlf=true", "repository", "clone")
    return folder / "clone"


@pytest.fixture(scope="module")
def files_of_the_project():
    try:
        names = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no clone")
    return [name for name in names if name and (ROOT / name).is_file()]


def test_a_clone_with_windows_line_ends_is_the_same_byte_for_byte(files_of_the_project, tmp_path):
    clone = clone_as_on_windows(tmp_path, files_of_the_project)
    assert {".gitattributes", "gpt2/7M/vocab.bpe", "data/mini-instructions.json"} <= {*files_of_the_project}
    for name in files_of_the_project:
        assert (clone / name).read_bytes() == (tmp_path / "repository" / name).read_bytes(), name
    model, _ = load_gpt2("gpt2-mini (7M)", clone / "gpt2")
    assert model.tok_emb.num_embeddings == load_tokenizer(clone / "gpt2/7M").n_vocab


def test_without_gitattributes_such_a_clone_would_be_damaged(tmp_path):
    clone = clone_as_on_windows(tmp_path, ["gpt2/7M/vocab.bpe"])
    assert b"\r\n" in (clone / "gpt2/7M/vocab.bpe").read_bytes()


# --- What the loader needs ---


def test_every_library_that_is_imported_stands_in_the_requirements():
    required = {re.split(r"[=;<>\[ ]", line)[0].lower().replace("_", "-") for line in
                (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")}
    imported = set()
    for path in (ROOT / "gpt_download.py", *(ROOT / "weights").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    imported -= {*sys.stdlib_module_names, "gpt_download", "previous_chapters", "weights"}
    libraries = importlib.metadata.packages_distributions()
    assert {"torch", "google_crc32c", "requests"} <= imported
    for module in imported:
        assert required.intersection(name.lower().replace("_", "-") for name in libraries[module]), module
