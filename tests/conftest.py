"""The fixtures of several test files."""

import json
import os
import shutil
import sys

import pytest
import torch
from filelock import FileLock

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["TIKTOKEN_CACHE_DIR"] = ""  # it would keep what it reads, a copy for every model folder
sys.modules["rfc3987_syntax"] = None  # jsonschema does without it; it compiles grammars for seconds when imported

import gpt_download
from gpt_download import load_tokenizer
from tests.helpers import SMALL, TINY, execute, results, tokenizer_source, write_checkpoint
from tests.web_server import FaultyServer
from tutorial import MINIATURE_DIR, NOTEBOOK


def pytest_collection_modifyitems(items):
    """What executes a notebook comes first, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: not {"executed", "read_only_project"} & set(item.fixturenames))


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory):
    """A tiny GPT-2 with random weights and the whole vocabulary, in OpenAI's layout."""
    return write_checkpoint(tmp_path_factory.mktemp("gpt2") / "tiny", TINY)


@pytest.fixture(scope="session")
def small_dir(tmp_path_factory):
    """A smaller one, with a vocabulary of 11."""
    return write_checkpoint(tmp_path_factory.mktemp("written") / "small", SMALL)


@pytest.fixture
def model_dir(small_dir, tmp_path):
    """A copy of the small model to damage."""
    return shutil.copytree(small_dir, tmp_path / "small", ignore=shutil.ignore_patterns("*.verified"))


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer(MINIATURE_DIR)


@pytest.fixture(scope="session")
def another_tokenizer():
    """That of transformers, from OpenAI's two files."""
    from transformers import GPT2Tokenizer  # only for the tests that ask for it: importing it takes a while
    merges = tokenizer_source("vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    return GPT2Tokenizer(vocab=json.loads(tokenizer_source("encoder.json").read_text(encoding="utf-8")),
                         merges=[tuple(line.split()) for line in merges])


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory, worker_id):
    """A folder for what one process makes for all that share the tests."""
    folder = tmp_path_factory.getbasetemp()
    return folder if worker_id == "master" else folder.parent


@pytest.fixture(scope="session")
def executed(shared_folder):
    """The notebook executed once, with one epoch and answers of at most 16 tokens, which is enough for any right one:
    (folder of the results, the executed notebook, its records). When several processes share the tests, the first one
    executes it for all."""
    folder = shared_folder / "build"
    with FileLock(folder.with_suffix(".lock")):
        done = (folder / NOTEBOOK.name).exists()
        return folder, *(results(folder) if done else execute(folder, NUM_EPOCHS=1, MAX_NEW_TOKENS=16))


@pytest.fixture
def server(monkeypatch):
    """A local server in the place of OpenAI's; nobody waits between attempts."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("GPT2_MIRROR", raising=False)
    monkeypatch.setattr("urllib3.util.retry.time.sleep", lambda seconds: None)
    with FaultyServer() as server:
        monkeypatch.setattr(gpt_download, "BASE_URL", server.url)
        yield server


@pytest.fixture
def one_thread():
    """For models this small, more threads only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)  # the book's GELU makes a constant of the default type
    yield
    torch.set_default_dtype(torch.float32)
