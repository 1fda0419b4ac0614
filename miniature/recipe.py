"""The miniature's fine-tuning recipe: chosen on the validation entries, then scored on the test entries.

    python -m miniature.recipe choose    # validation loss and score of each recipe, mean of three seeds
    python -m miniature.recipe score     # test score of the notebook's recipe by task and wording, mean of five seeds

It trains with the notebook's own functions and prints the tables of `README.md`.
"""

import contextlib
import io
import sys
from collections import defaultdict
from statistics import mean, stdev

import torch
from torch.utils.data import DataLoader

from engine.trainer import evaluate, train
from gpt_download import load_gpt2, load_tokenizer
from miniature.instructions import FILE
from tutorial import MINIATURE_DIR
from tutorial.data_files import load_entries
from tutorial.instructions import InstructionDataset, custom_collate_fn, generate_responses, split
from tutorial.recipes import MINIATURE
from tutorial.scores import exact_match

VARIANTS = {  # the recipes that were tried: what differs from the notebook's
    "the notebook's": {}, "3 epochs": {"num_epochs": 3}, "rate 5e-4": {"learning_rate": 5e-4},
    "rate 5e-4, 1 epoch": {"learning_rate": 5e-4, "num_epochs": 1},
    "rate 5e-4, 3 epochs": {"learning_rate": 5e-4, "num_epochs": 3},
    "rate 5e-4, 4 epochs": {"learning_rate": 5e-4, "num_epochs": 4},
    "rate 5e-4, dropout 0.1": {"learning_rate": 5e-4, "drop_rate": 0.1},
    "rate 5e-4, loss on instructions too": {"learning_rate": 5e-4, "mask_instruction": False},
    "rate 1e-3": {"learning_rate": 1e-3},
}
BATCH_SIZE, MAX_NEW_TOKENS = 8, 64  # as in the notebook
RECIPE = {"drop_rate": 0.0, **MINIATURE}
TOKENIZER = load_tokenizer(MINIATURE_DIR)
TRAIN, TEST, VALIDATION = split(load_entries(FILE)[0])


def pretrained(drop_rate=0.0):
    model, _ = load_gpt2("gpt2-mini (7M)", MINIATURE_DIR.parent, drop_rate)
    return model


def loader_of(entries, recipe, **options):
    dataset = InstructionDataset(entries, TOKENIZER, recipe["mask_instruction"])
    return DataLoader(dataset, collate_fn=custom_collate_fn, **options)


def fine_tuned(recipe, seed):
    """The model after a training like the notebook's. The seed decides on the order of the batches."""
    torch.manual_seed(seed)
    model = pretrained(recipe["drop_rate"])
    train_loader = loader_of(TRAIN, recipe, batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
    steps = recipe["num_epochs"] * len(train_loader)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe["learning_rate"], weight_decay=0.1, fused=True)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    with contextlib.redirect_stdout(io.StringIO()):
        train(model, train_loader, loader_of(VALIDATION, recipe, batch_size=64), optimizer, torch.device("cpu"),
              recipe["num_epochs"], eval_freq=steps, eval_iter=1, start_context="", tokenizer=TOKENIZER,
              scheduler=scheduler, max_norm=recipe["max_norm"])
    return model.eval()


def scores(model, entries):
    """The exact match of each entry, 0 or 1: {(task, wording): list}. The task "all" has all entries."""
    answers = generate_responses(model, entries, TOKENIZER, MAX_NEW_TOKENS)
    groups = defaultdict(list)
    for entry, answer in zip(entries, answers):
        for task in (entry["task"], "all"):
            groups[task, entry["wording"]].append(exact_match(answer, entry["output"]))
    return groups


def mean_and_deviation(values, form):
    """Mean and standard deviation as a text, both in the number format `form`."""
    return f"{mean(values):{form}} ± {stdev(values):{form}}"


def print_row(*cells):
    """Print a line of a table in Markdown."""
    print("|", " | ".join(cells), "|", flush=True)


def print_validation(name, recipe):
    """Print a recipe's validation loss on the answers, and its exact match in known and in new wordings."""
    loader = loader_of(VALIDATION, recipe | {"mask_instruction": True}, batch_size=64)
    losses, known, new = [], [], []
    for seed in range(3):
        model = fine_tuned(recipe, seed)
        losses.append(evaluate(loader, model, torch.device("cpu"))[0])
        groups = scores(model, VALIDATION)
        known.append(mean(groups["all", "known"]))
        new.append(mean(groups["all", "new"]))
    print_row(name, mean_and_deviation(losses, ".3f"), mean_and_deviation(known, ".0%"),
              mean_and_deviation(new, ".0%"))


def choose():
    """Print the table of the recipes that were tried."""
    print_row("recipe", "validation loss", "known wordings", "new wordings")
    print_row(*["---"] * 4)
    for name, changes in VARIANTS.items():
        print_validation(name, RECIPE | changes)


def score():
    """Print the table of test scores, and the score before fine-tuning."""
    runs = [scores(fine_tuned(RECIPE, seed), TEST) for seed in range(5)]
    print_row("task", "known wordings", "new wordings")
    print_row(*["---"] * 3)
    for task in sorted({task for task, _ in runs[0]}, key=lambda task: (task == "all", task)):
        cells = [[mean(run[task, kind]) for run in runs] for kind in ("known", "new")]
        print_row(task, *(f"{mean_and_deviation(fractions, '.0%')} of {len(runs[0][task, kind])}"
                          for fractions, kind in zip(cells, ("known", "new"))))
    base = scores(pretrained(), TEST)
    print(f"before: {mean(base['all', 'known'] + base['all', 'new']):.1%}")


if __name__ == "__main__":
    {"choose": choose, "score": score}[sys.argv[1]]()
