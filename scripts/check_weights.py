"""Do OpenAI's weights, downloaded and loaded, compute what is published of them?

    python scripts/check_weights.py 355M

Downloads and verifies the weights and compares: the number of parameters, the size of the file with them, for 124M how
it continues a text greedily (as the tests of `transformers` have it), and for 355M what the article prints of the model
before it is fine-tuned: its continuation of an instruction, and its losses on the first batches of the published data.
Prints a line for each; ends with status 1 if one differs.
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

from gpt_download import FILES, CheckpointError, download_and_load_gpt2, load_tokenizer
from previous_chapters import GPTModel, calc_loss_batch, generate, gpt_config, load_weights_into_gpt
from scripts.tutorial import MINIATURE_DIR, ROOT, notebook_definitions

NOTEBOOK = notebook_definitions()
PUBLISHED = {
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
CONTINUED = {  # which text, and by how many tokens
    "124M": ("The dog", 18), "355M": (NOTEBOOK["format_input"](PASSIVE), 35),
}
TOLERANCE = 0.02  # of losses, in nats: other hardware, other number formats


def mean_of_batches(loader, model):
    """As the published run measured: the mean of the first five batches' losses, each a mean over its tokens."""
    with torch.no_grad():
        return mean(calc_loss_batch(*batch, model, "cpu").item() for batch in islice(loader, 5))


def measure(model_size, models_dir, data_file):
    """What PUBLISHED names of this size, computed: {name: value}."""
    published = PUBLISHED[model_size]
    settings, params = download_and_load_gpt2(model_size, models_dir)
    weights = Path(models_dir, model_size, FILES[-1])
    if not weights.exists():
        raise CheckpointError(f"{weights} isn't there: the weights came in Hugging Face's format, but OpenAI's files "
                              "are to be checked")
    with torch.device("meta"):
        model = GPTModel(gpt_config(settings))
    load_weights_into_gpt(model, params)
    model.eval()
    found = {"parameters": sum(parameter.numel() for parameter in model.parameters()),
             "bytes of the data file": weights.stat().st_size}

    tokenizer = load_tokenizer(MINIATURE_DIR)
    if "continuation" in published:
        text, new_tokens = CONTINUED[model_size]
        ids = tokenizer.encode_ordinary(text)
        row = generate(model, [ids], new_tokens, settings["n_ctx"], eos_id=tokenizer.eot_token)[0]
        found["continuation"] = tokenizer.decode(row[len(ids):]).strip()
    if "training loss" in published:
        data = NOTEBOOK["download_and_load_file"](data_file, NOTEBOOK["PUBLISHED"]["url"],
                                                  NOTEBOOK["PUBLISHED"]["sha256"])
        dataset = NOTEBOOK["InstructionDataset"](data, tokenizer)
        load = partial(DataLoader, batch_size=8, collate_fn=NOTEBOOK["custom_collate_fn"])
        torch.manual_seed(123)
        found["training loss"] = mean_of_batches(load(dataset[:935], shuffle=True, drop_last=True), model)
        found["validation loss"] = mean_of_batches(load(dataset[1045:]), model)
    return found


def agrees(found, published):
    """Whether a value is as published; NaN never is."""
    return abs(found - published) <= TOLERANCE if isinstance(published, float) else found == published


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model_size", choices=PUBLISHED)
    parser.add_argument("--models-dir", default=ROOT / "gpt2")
    parser.add_argument("--data-file", default=ROOT / "instruction-data.json")
    arguments = parser.parse_args()
    try:
        found = measure(arguments.model_size, arguments.models_dir, arguments.data_file)
    except (CheckpointError, ValueError) as error:
        sys.exit(str(error))
    failures = 0
    for name, published in PUBLISHED[arguments.model_size].items():
        if agrees(found[name], published):
            print(f"as published  {name}: {found[name]!r}")
        else:
            failures += 1
            print(f"DIFFERS       {name}: {found[name]!r}, published is {published!r}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
