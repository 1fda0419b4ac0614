"""What the benchmarks share: models with random weights, the data in batches, and processes of their own.

INSTRUCTION_DATA is the path of the published data set; without it the miniature's is used.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from functools import cache
from pathlib import Path

import torch

from engine.precision import resolve_precision
from gpt_download import load_gpt2, load_tokenizer
from tutorial import MINIATURE_DIR, ROOT
from tutorial.instructions import InstructionDataset, custom_collate_fn, format_prompt, split
from weights.saved import save_model
from weights.sizes import MODELS, openai_settings

FOLDER = ROOT / "build/benchmarks"  # models with random weights, in OpenAI's format and in others
SIZES = {model.model_size: model for model in MODELS.values()}
MEASURED = "7M", "124M", "355M"
DATA = os.environ.get("INSTRUCTION_DATA", ROOT / "data/mini-instructions.json")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRECISION = "auto" if DEVICE == "cuda" else "float32"  # of all implementations
TOKENIZER = load_tokenizer(MINIATURE_DIR)


def write_models():
    """Write the models with random weights, unless they exist, and export them to Hugging Face's format."""
    from tests.helpers import write_checkpoint  # only here: it imports what no worker needs
    for size in MEASURED:
        if not (FOLDER / size / "model.ckpt.index").exists():
            write_checkpoint(FOLDER / size, openai_settings(SIZES[size].config()), deviation=0.02)
        model, config = load_gpt2(size, FOLDER)  # which verifies the checksums
        if not (FOLDER / size / "huggingface").exists():
            with tempfile.TemporaryDirectory() as folder:
                save_model(model, config, Path(folder, "gpt2.pt"))
                subprocess.run(command("scripts.export", Path(folder, "gpt2.pt"), FOLDER / size / "huggingface"),
                               check=True, cwd=ROOT)


def write_for_ctranslate2(size):
    """Convert a model to CTranslate2's format, unless that exists. Its workers, which start together, only read it."""
    from ctranslate2.converters import TransformersConverter
    converted = FOLDER / size / "ctranslate2"
    if not converted.exists():
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            TransformersConverter(str(FOLDER / size / "huggingface")).convert(f"{folder}/ctranslate2")
            Path(folder, "ctranslate2").rename(converted)


@cache
def entries():
    """The entries for training, test and validation."""
    return split(json.loads(Path(DATA).read_text(encoding="utf-8")))


def loader(entries, batch_size=8, mask_instruction=False, shuffle=True):
    """Batches on the CPU, in the order of the published run; or, without `shuffle`, all entries in their own order."""
    torch.manual_seed(123)
    return torch.utils.data.DataLoader(
        InstructionDataset(entries, TOKENIZER, mask_instruction), batch_size=batch_size, shuffle=shuffle,
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


def command(module, *arguments):
    """The command that runs a module in a new Python process."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def in_own_process(module, *arguments):
    """What such a process prints in its last line, read as JSON."""
    run = subprocess.run(command(module, *arguments), stdout=subprocess.PIPE, check=True, text=True, cwd=ROOT)
    return json.loads(run.stdout.splitlines()[-1])


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return (f"{date.today()}; {torch.get_num_threads()} threads of {model[0] if model else platform.processor()}, "
            f"{torch.cuda.get_device_name() if DEVICE == 'cuda' else 'no GPU'}, "
            f"{resolve_precision(PRECISION, DEVICE)}; Python {platform.python_version()}, torch {torch.__version__}")


def data_name():
    return "the published data" if "INSTRUCTION_DATA" in os.environ else "the miniature's data"
