"""Load a model by ours or by a peer, run it once, so that every weight is read, and print the peak memory in bytes.

    python -m benchmarks.load ours|llms-from-scratch|transformers <models folder> <size>

`bench.py` measures the time of the whole process. Only what is needed is imported, before the first reading of the
memory.
"""

import importlib
import json
import sys
from pathlib import Path


def memory(field):
    """The memory of this process in bytes: VmRSS is its present size, VmHWM its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def our_model(models, size):
    from gpt_download import load_gpt2
    model, _ = load_gpt2(size, models)
    return model


def book_model(models, size):
    from llms_from_scratch.ch04 import GPTModel
    from llms_from_scratch.ch05 import load_gpt2_params_from_tf_ckpt, load_weights_into_gpt

    from weights.sizes import gpt_config
    settings = json.loads(Path(models, size, "hparams.json").read_text())
    params = load_gpt2_params_from_tf_ckpt(str(Path(models, size, "model.ckpt")), settings)
    model = GPTModel(gpt_config(settings))
    load_weights_into_gpt(model, params)
    return model


def hf_model(models, size):
    from transformers import GPT2LMHeadModel
    return GPT2LMHeadModel.from_pretrained(Path(models, size, "huggingface"))


LOADERS = {  # name: its function, and what it imports
    "ours": (our_model, "torch", "gpt_download"),
    "llms-from-scratch": (book_model, "tensorflow", "llms_from_scratch.ch05", "weights.sizes"),
    "transformers": (hf_model, "torch", "transformers.models.gpt2.modeling_gpt2")}


def load_model(name, models, size):
    """A model, and the memory of the process in bytes after the imports: (model, bytes)."""
    make, *imports = LOADERS[name]
    for module in imports:
        importlib.import_module(module)
    before = memory("VmRSS")
    return make(models, size), before


if __name__ == "__main__":
    model, before = load_model(*sys.argv[1:])
    import torch
    with torch.no_grad():
        model(torch.arange(8)[None])
    print(json.dumps(memory("VmHWM") - before))
