"""Check that OpenAI's weights, downloaded and loaded into the textbook's model, give the published results.

    python scripts/check_weights.py 355M

It compares the number of parameters and the size of the data file; for 124M also the greedy continuation of a text that
the tests of `transformers` use; for 355M also what the article prints before fine-tuning, the continuation of an
instruction and the losses on the first batches of the published data. It prints a line for each comparison, and exits
with status 1 if one fails.
"""

import argparse
import sys
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils.data import DataLoader

from gpt_download import FILES, CheckpointError, load_gpt2, load_tokenizer
from previous_chapters import calc_loss_batch, generate, text_to_token_ids
from tutorial import MINIATURE_DIR, ROOT
from tutorial.data_files import download_and_load_file
from tutorial.instructions import InstructionDataset, custom_collate_fn, format_input, split
from tutorial.recipes import PUBLISHED

EXPECTED = {  # as published
    "124M": {
        "parameters": 124_439_808, "bytes of the data file": 497_759_232,
        "continuation": "was found in a field near the intersection of West and West Streets.\n\nThe dog",
    },
    "355M": {
        "parameters": 354_823_168, "bytes of the data file": 1_419_292_672,
        "continuation": "### Response:\n\nThe chef cooks the meal every day.\n\n### Instruction:\n\n"
                        "Convert the active sentence to passive: 'The chef cooks the",
        "training loss": 3.826, "validation loss": 3.762,
    },
    "774M": {"parameters": 774_030_080, "bytes of the data file": 3_096_120_320},
    "1558M": {"parameters": 1_557_611_200, "bytes of the data file": 6_230_444_800},
}
PASSIVE = {"instruction": "Convert the active sentence to passive: 'The chef cooks the meal every day.'", "input": ""}
CONTINUED = {"124M": ("The dog", 18), "355M": (format_input(PASSIVE), 35)}  # a text, and the number of new tokens
TOLERANCE = 0.02  # of losses, in nats: other hardware, other number formats


def mean_of_batches(loader, model):
    """The loss as the published run measured it: the mean of the first five batches' mean losses."""
    with torch.no_grad():
        return mean(calc_loss_batch(*batch, model, "cpu").item() for batch in islice(loader, 5))


def measure(model_size, models_dir, data_file):
    """The measured values of everything that EXPECTED has for this size: {name: value}. Raises CheckpointError if the
    weights can't be downloaded in OpenAI's format, or are damaged."""
    model, config = load_gpt2(model_size, models_dir)
    weights = Path(models_dir, model_size, FILES[-1])
    if not weights.exists():
        raise CheckpointError(f"{weights} does not exist: the weights came from Hugging Face, and this is a check of "
                              "OpenAI's own files")
    found = {"parameters": sum(parameter.numel() for parameter in model.parameters()),
             "bytes of the data file": weights.stat().st_size}

    tokenizer = load_tokenizer(MINIATURE_DIR)
    if "continuation" in EXPECTED[model_size]:
        text, new_tokens = CONTINUED[model_size]
        idx = text_to_token_ids(text, tokenizer)                                # (1, T)
        row = generate(model, idx, new_tokens, config["context_length"], eos_id=tokenizer.eot_token)[0]
        found["continuation"] = tokenizer.decode(row[idx.shape[1]:].tolist()).strip()
    if "training loss" in EXPECTED[model_size]:
        train, _, val = split(download_and_load_file(data_file, PUBLISHED["urls"], PUBLISHED["sha256"]))
        load = partial(DataLoader, batch_size=8, collate_fn=custom_collate_fn)
        torch.manual_seed(123)
        train_loader = load(InstructionDataset(train, tokenizer), shuffle=True, drop_last=True)
        found["training loss"] = mean_of_batches(train_loader, model)
        found["validation loss"] = mean_of_batches(load(InstructionDataset(val, tokenizer)), model)
    return found


def agrees(found, expected):
    """Whether a value is as published; losses may differ by TOLERANCE. NaN never agrees."""
    return abs(found - expected) <= TOLERANCE if isinstance(expected, float) else found == expected


def main():
    """Print a line for each comparison, and exit with status 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model_size", choices=EXPECTED)
    parser.add_argument("--models-dir", default=ROOT / "gpt2")
    parser.add_argument("--data-file", default=ROOT / "instruction-data.json")
    arguments = parser.parse_args()
    try:
        found = measure(arguments.model_size, arguments.models_dir, arguments.data_file)
    except (CheckpointError, ValueError) as error:
        sys.exit(str(error))
    failures = 0
    for name, expected in EXPECTED[arguments.model_size].items():
        if agrees(found[name], expected):
            print(f"as published  {name}: {found[name]!r}")
        else:
            failures += 1
            print(f"DIFFERS       {name}: {found[name]!r}, published is {expected!r}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
