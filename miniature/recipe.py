"""The miniature's fine-tuning recipe: chosen by the validation entries, then scored on the test.

    python -m miniature.recipe choose    # each recipe's validation loss and score, mean of three seeds
    python -m miniature.recipe score     # the notebook's recipe on the test: by task and wording, mean of five seeds

It trains as the notebook does, with the notebook's own functions, and prints the tables of `README.md`.
"""

import contextlib
import io
import sys
from collections import defaultdict
from statistics import mean, stdev

import torch
from torch.utils.data import DataLoader

from engine.entries import exact_match, load_entries
from gpt_download import download_and_load_gpt2, load_tokenizer
from miniature.instructions import FILE
from previous_chapters import GPTModel, calc_loss_loader, gpt_config, load_weights_into_gpt, train_model_simple
from scripts.tutorial import MINIATURE_DIR, notebook_definitions

VARIANTS = {  # what is different from the notebook's recipe
    "the notebook's": {}, "3 epochs": {"num_epochs": 3}, "rate 5e-4": {"learning_rate": 5e-4},
    "rate 5e-4, 1 epoch": {"learning_rate": 5e-4, "num_epochs": 1},
    "rate 5e-4, 3 epochs": {"learning_rate": 5e-4, "num_epochs": 3},
    "rate 5e-4, 4 epochs": {"learning_rate": 5e-4, "num_epochs": 4},
    "rate 5e-4, dropout 0.1": {"learning_rate": 5e-4, "drop_rate": 0.1},
    "rate 5e-4, instructions scored too": {"learning_rate": 5e-4, "mask_instruction": False},
    "rate 1e-3": {"learning_rate": 1e-3},
}

NOTEBOOK, TOKENIZER = notebook_definitions(), load_tokenizer(MINIATURE_DIR)
RECIPE = {"drop_rate": 0.0, **NOTEBOOK["MINIATURE"]}
ENTRIES, _ = load_entries(FILE)
TRAIN, TEST, VALIDATION = ENTRIES[:935], ENTRIES[935:1045], ENTRIES[1045:]


def pretrained(drop_rate=0.0):
    settings, params = download_and_load_gpt2("7M", MINIATURE_DIR.parent)
    model = GPTModel(gpt_config(settings, drop_rate))
    load_weights_into_gpt(model, params)
    return model


def loader_of(entries, recipe, **settings):
    dataset = NOTEBOOK["InstructionDataset"](entries, TOKENIZER, recipe["mask_instruction"])
    return DataLoader(dataset, collate_fn=NOTEBOOK["custom_collate_fn"], **settings)


def fine_tuned(recipe, seed):
    """The model after a training like the notebook's, whose batches come in the order that the seed says."""
    torch.manual_seed(seed)
    model = pretrained(recipe["drop_rate"])
    train_loader = loader_of(TRAIN, recipe, batch_size=NOTEBOOK["BATCH_SIZE"], shuffle=True, drop_last=True)
    steps = recipe["num_epochs"] * len(train_loader)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe["learning_rate"], weight_decay=0.1, fused=True)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    with contextlib.redirect_stdout(io.StringIO()):
        train_model_simple(
            model, train_loader, loader_of(VALIDATION, recipe, batch_size=64), optimizer, torch.device("cpu"),
            recipe["num_epochs"], eval_freq=steps, eval_iter=1, start_context="", tokenizer=TOKENIZER,
            scheduler=scheduler, max_norm=recipe["max_norm"])
    return model.eval()


def scores(model, entries):
    """Exact match of each entry, 0 or 1, in lists by (task, wording); the task "all" has those of all tasks."""
    answers = NOTEBOOK["generate_responses"](model, entries, TOKENIZER, NOTEBOOK["MAX_NEW_TOKENS"])
    groups = defaultdict(list)
    for entry, answer in zip(entries, answers):
        for task in (entry["task"], "all"):
            groups[task, entry["wording"]].append(exact_match(answer, entry["output"]))
    return groups


def spread(values, form):
    """Mean and standard deviation over the seeds."""
    return f"{mean(values):{form}} ± {stdev(values):{form}}"


def row(*cells):
    print("|", " | ".join(cells), "|", flush=True)


def validation_row(name, recipe):
    """One line of a table: validation loss on the answers, and exact match in known and in new wordings."""
    loader = loader_of(VALIDATION, recipe | {"mask_instruction": True}, batch_size=64)
    losses, known, new = [], [], []
    for seed in range(3):
        model = fine_tuned(recipe, seed)
        losses.append(calc_loss_loader(loader, model, torch.device("cpu")))
        groups = scores(model, VALIDATION)
        known.append(mean(groups["all", "known"]))
        new.append(mean(groups["all", "new"]))
    row(name, spread(losses, ".3f"), spread(known, ".0%"), spread(new, ".0%"))


def choose():
    row("recipe", "validation loss", "known wordings", "new wordings")
    row(*["---"] * 4)
    for name, changes in VARIANTS.items():
        validation_row(name, RECIPE | changes)


def score():
    runs = [scores(fine_tuned(RECIPE, seed), TEST) for seed in range(5)]
    row("task", "known wordings", "new wordings")
    row(*["---"] * 3)
    for task in sorted({task for task, _ in runs[0]}, key=lambda task: (task == "all", task)):
        cells = [[mean(run[task, kind]) for run in runs] for kind in ("known", "new")]
        row(task, *(f"{spread(shares, '.0%')} of {len(runs[0][task, kind])}"
                    for shares, kind in zip(cells, ("known", "new"))))
    base = scores(pretrained().eval(), TEST)
    print(f"before: {mean(base['all', 'known'] + base['all', 'new']):.1%}")


if __name__ == "__main__":
    {"choose": choose, "score": score}[sys.argv[1]]()
