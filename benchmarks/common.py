"""What the benchmarks share: the device, the models' names, and the data in batches.

INSTRUCTION_DATA is the path of the published data set; without it the miniature's is used.
"""

import json
import os
import platform
from datetime import date
from functools import cache
from pathlib import Path

import torch

from gpt_download import load_tokenizer
from tutorial import MINIATURE_DIR, ROOT
from tutorial.instructions import InstructionDataset, custom_collate_fn, format_prompt, split
from weights.sizes import MODELS

FOLDER = ROOT / "build/benchmarks"  # models with random weights (benchmarks/models.py)
CONFIGS = {model.model_size: model.config() for model in MODELS.values()}
MEASURED = "7M", "124M", "355M"
RANK = 8  # of the adapters
DATA = Path(os.environ.get("INSTRUCTION_DATA", ROOT / "data/mini-instructions.json"))
DATA_NAME = "the published data" if "INSTRUCTION_DATA" in os.environ else "the miniature's data"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRECISION = "auto" if DEVICE == "cuda" else "float32"  # of all implementations
TOKENIZER = load_tokenizer(MINIATURE_DIR)


@cache
def entries():
    """The entries for training, test and validation."""
    return split(json.loads(DATA.read_text(encoding="utf-8")))


def loader(part, batch_size=8, mask_instruction=False, shuffle=True):
    """Batches on the CPU, in the order of the published run; or, without `shuffle`, all entries in their own order."""
    torch.manual_seed(123)
    return torch.utils.data.DataLoader(
        InstructionDataset(part, TOKENIZER, mask_instruction), batch_size=batch_size, shuffle=shuffle,
        drop_last=shuffle, collate_fn=custom_collate_fn)


@cache
def batches(mask_instruction):
    """All batches of the first epoch."""
    return list(loader(entries()[0], mask_instruction=mask_instruction))


@cache
def test_prompts():
    """The ids of all test prompts, and the number of tokens in each answer of the data: (list of lists, list)."""
    tests = entries()[1]
    return ([TOKENIZER.encode_ordinary(format_prompt(entry)) for entry in tests],
            [len(TOKENIZER.encode_ordinary(entry["output"])) for entry in tests])


def machine():
    """Date, processor, GPU and versions, as one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return (f"{date.today()}; {torch.get_num_threads()} threads of {model[0] if model else platform.processor()}, "
            f"{torch.cuda.get_device_name() if DEVICE == 'cuda' else 'no GPU'}; "
            f"Python {platform.python_version()}, torch {torch.__version__}")
