"""One process that loads a checkpoint and runs the model once, so that every weight is touched: prints its peak memory.

    python -m benchmarks.load ours|llms-from-scratch <models folder> <size>

`bench.py` takes the time of the whole process. Imports come before the first reading of the memory, and only those that
are needed.
"""

import importlib
import json
import sys
from pathlib import Path


def memory(field):
    """Bytes of this process: VmRSS, what it has now, or VmHWM, the most it ever had."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def our_model(models, size):
    import torch

    from gpt_download import download_and_load_gpt2
    from previous_chapters import GPTModel, gpt_config, load_weights_into_gpt
    settings, params = download_and_load_gpt2(size, models)
    with torch.device("meta"):
        model = GPTModel(gpt_config(settings))
    load_weights_into_gpt(model, params)
    return model


def book_model(models, size):
    from llms_from_scratch.ch04 import GPTModel
    from llms_from_scratch.ch05 import load_gpt2_params_from_tf_ckpt, load_weights_into_gpt

    from previous_chapters import gpt_config
    settings = json.loads(Path(models, size, "hparams.json").read_text())
    params = load_gpt2_params_from_tf_ckpt(str(Path(models, size, "model.ckpt")), settings)
    model = GPTModel(gpt_config(settings))
    load_weights_into_gpt(model, params)
    return model


if __name__ == "__main__":
    name, models, size = sys.argv[1:]
    make, *imports = {
        "ours": (our_model, "torch", "gpt_download", "previous_chapters"),
        "llms-from-scratch": (book_model, "tensorflow", "llms_from_scratch.ch05", "previous_chapters")}[name]
    for module in imports:
        importlib.import_module(module)
    before = memory("VmRSS")
    model = make(models, size)
    import torch
    with torch.no_grad():
        model(torch.arange(8)[None])
    print(json.dumps(memory("VmHWM") - before))
