"""Load a checkpoint, run the model once, so that every weight is read, and print the peak memory in bytes.

    python -m benchmarks.load ours|llms-from-scratch <models folder> <size>

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


if __name__ == "__main__":
    name, models, size = sys.argv[1:]
    make, *imports = {
        "ours": (our_model, "torch", "gpt_download"),
        "llms-from-scratch": (book_model, "tensorflow", "llms_from_scratch.ch05", "weights.sizes")}[name]
    for module in imports:
        importlib.import_module(module)
    before = memory("VmRSS")
    model = make(models, size)
    import torch
    with torch.no_grad():
        model(torch.arange(8)[None])
    print(json.dumps(memory("VmHWM") - before))
