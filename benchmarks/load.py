"""Load a model by ours or by a peer, run it once, so that every weight is read, and print the peak memory in bytes.

    python -m benchmarks.load ours|llms-from-scratch|transformers <model folder>

`bench.py` measures the time of the whole process, so each loader imports only what it needs: before it reads the memory
with which the process begins.
"""

import json
import sys
from pathlib import Path


def memory(field):
    """The memory of this process in bytes: VmRSS is its present size, VmHWM its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def our_model(folder):
    """By this project: (model, bytes of memory before it was loaded), as the other loaders give them."""
    from gpt_download import load_gpt2
    before = memory("VmRSS")
    return load_gpt2(folder.name, folder.parent)[0], before


def book_model(folder):
    """By the book, from OpenAI's format."""
    import tensorflow  # noqa: F401  or its reading function would import it
    from llms_from_scratch.ch04 import GPTModel
    from llms_from_scratch.ch05 import load_gpt2_params_from_tf_ckpt, load_weights_into_gpt

    from weights.sizes import gpt_config
    before = memory("VmRSS")
    settings = json.loads((folder / "hparams.json").read_text())
    params = load_gpt2_params_from_tf_ckpt(str(folder / "model.ckpt"), settings)
    model = GPTModel(gpt_config(settings))
    load_weights_into_gpt(model, params)
    return model, before


def hf_model(folder):
    """By transformers, from Hugging Face's format."""
    from transformers import GPT2LMHeadModel
    before = memory("VmRSS")
    return GPT2LMHeadModel.from_pretrained(folder / "huggingface"), before


LOADERS = {"ours": our_model, "llms-from-scratch": book_model, "transformers": hf_model}


if __name__ == "__main__":
    name, folder = sys.argv[1:]
    model, before = LOADERS[name](Path(folder))
    import torch
    with torch.no_grad():
        model(torch.arange(8)[None])
    print(memory("VmHWM") - before)
