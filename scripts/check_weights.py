"""Do OpenAI's weights, downloaded and loaded, compute what is published of them?

    python scripts/check_weights.py 355M

Downloads and verifies the weights, and the published data set, and compares: the number of parameters and the size of
the file with them, and for 355M what the article prints of the model before it is fine-tuned: its greedy continuation
of an instruction, and its losses on the first batches. Prints a line for each; ends with status 1 if one differs.
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

from gpt_download import FILES, download_and_load_gpt2, load_tokenizer
from previous_chapters import GPTModel, calc_loss_batch, generate, gpt_config, load_weights_into_gpt
from scripts.tutorial import ROOT, notebook_definitions

NOTEBOOK = notebook_definitions()
PUBLISHED = {
    "124M": {"parameters": 124_439_808, "bytes of the data file": 497_759_232},
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
TOLERANCE = 0.02  # of losses, in nats: other hardware, other number formats


def mean_of_batches(loader, model):
    """As the published run measured: the mean of the first five batches' losses, each a mean over its tokens."""
    with torch.no_grad():
        return mean(calc_loss_batch(*batch, model, "cpu").item() for batch in islice(loader, 5))


def measure(model_size, models_dir, data_file):
    """What PUBLISHED names, computed: {name: value}."""
    settings, params = download_and_load_gpt2(model_size, models_dir)
    with torch.device("meta"):
        model = GPTModel(gpt_config(settings))
    load_weights_into_gpt(model, params)
    model.eval()
    data = NOTEBOOK["download_and_load_file"](data_file, NOTEBOOK["PUBLISHED"]["url"], NOTEBOOK["PUBLISHED"]["sha256"])
    tokenizer = load_tokenizer(ROOT / "gpt2/7M")

    ids = tokenizer.encode_ordinary(NOTEBOOK["format_input"](PASSIVE))
    new = generate(model, [ids], 35, settings["n_ctx"], eos_id=tokenizer.eot_token)[0][len(ids):]
    dataset = NOTEBOOK["InstructionDataset"](data, tokenizer)
    load = partial(DataLoader, batch_size=8, collate_fn=NOTEBOOK["custom_collate_fn"])
    torch.manual_seed(123)
    train_loader = load(dataset[:935], shuffle=True, drop_last=True)
    weights = Path(models_dir, model_size, FILES[-1])
    return {"parameters": sum(parameter.numel() for parameter in model.parameters()),
            "bytes of the data file": weights.stat().st_size if weights.exists() else "no such file",
            "continuation": tokenizer.decode(new).strip(),
            "training loss": mean_of_batches(train_loader, model),
            "validation loss": mean_of_batches(load(dataset[1045:]), model)}


def differs(found, published):
    return abs(found - published) > TOLERANCE if isinstance(published, float) else found != published


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model_size", choices=PUBLISHED)
    parser.add_argument("--models-dir", default=ROOT / "gpt2")
    parser.add_argument("--data-file", default=ROOT / "instruction-data.json")
    arguments = parser.parse_args()
    found = measure(arguments.model_size, arguments.models_dir, arguments.data_file)
    failures = 0
    for name, published in PUBLISHED[arguments.model_size].items():
        wrong = differs(found[name], published)
        failures += wrong
        print(f"{'DIFFERS' if wrong else 'as published':12}  {name}: {found[name]!r}"
              + (f", published is {published!r}" if wrong else ""))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
