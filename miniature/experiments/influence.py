"""Which training entries taught a mistake? Those whose gradients point where the mistake's gradient points, perhaps.

The gradients of the loss of a wrong answer and of each training entry are compared by their cosine (TracIn, Pruthi et
al., 2020, at the last checkpoint and with normalised gradients). Whether that is true is tested: the model is trained
again without the first 30 entries, and without 30 others.
"""

from collections import Counter
from random import Random

import torch

from engine.fast import packed_loss
from miniature.experiments import results
from miniature.experiments.models import (
    DEVICE,
    answers,
    fine_tuned,
    loader_of,
    log_probs,
    pretrained,
    right,
    tokenizer,
    train,
)
from miniature.experiments.trainings import FIRST, rounded
from miniature.recipe import TEST, TRAIN
from tutorial.instructions import format_prompt

MISTAKES, REMOVED = 4, 30
SEEDS = range(3)


def gradients(model, entries):
    """For each entry the gradient of its loss over all weights, of length 1: tensors (P,)."""
    for inputs, targets in loader_of(entries, batch_size=1):
        model.zero_grad()
        packed_loss(inputs, targets, model, DEVICE).backward()
        gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        yield gradient / gradient.norm()


def cosines(model, mistakes):
    """The cosine of each mistake's gradient with each training entry's: (mistakes, entries). A mistake is an entry with
    the wrong answer as its output."""
    wrong = torch.stack(list(gradients(model, mistakes)))                       # (M, P)
    return torch.stack([wrong @ gradient for gradient in gradients(model, TRAIN)], dim=1)


def common_mistakes():
    """The test entries that the most seeds answer wrongly, among those that seed 0 does, with the answer of seed 0."""
    answered = [answers(fine_tuned(seed)) for seed in range(5)]
    wrong = Counter(i for texts in answered for i, mark in enumerate(right(texts)) if mark == "0")
    chosen = sorted((i for i, mark in enumerate(right(answered[0])) if mark == "0"), key=lambda i: (-wrong[i], i))
    return [{"entry": i, "seeds": wrong[i], "answer": answered[0][i]} for i in chosen[:MISTAKES]]


def as_entry(mistake):
    """A test entry with the wrong answer in the place of the right one."""
    return TEST[mistake["entry"]] | {"output": mistake["answer"]}


def total_log_prob(model, entry):
    """The log-probability of an entry's output and the end after it, in nats."""
    encode = tokenizer().encode_ordinary
    [(values, _)] = log_probs(model, [encode(format_prompt(entry))],
                              [encode(entry["output"]) + [tokenizer().eot_token]])
    return sum(values)




def at_random(mistake, seed):
    """So many other entries at random, of the same tasks as the first by cosine."""
    tasks, random = Counter(TRAIN[i]["task"] for i in mistake["first"]), Random(seed)
    others = set(range(len(TRAIN))) - set(mistake["first"])
    return [i for task, number in sorted(tasks.items())
            for i in random.sample(sorted(j for j in others if TRAIN[j]["task"] == task), number)]


def influence(condition, seed):
    """`cosines`: the mistakes of seed 0, and the entries that are nearest to each. `none removed`, `mistake 1: first
    removed`, `mistake 1: others removed`, ...: the log-probabilities of wrong and right answers after a training
    without those entries."""
    if condition == "cosines":
        mistakes = common_mistakes()
        for mistake, row in zip(mistakes, cosines(fine_tuned(0), list(map(as_entry, mistakes)))):
            order = row.argsort(descending=True).tolist()
            mistake |= {"first": order[:REMOVED], "cosines": rounded(row[order[:REMOVED]].tolist(), 3),
                        "median": round(row.median().item(), 3),
                        "same task": sum(TRAIN[i]["task"] == TEST[mistake["entry"]]["task"] for i in order[:REMOVED])}
        return {"mistakes": mistakes}
    mistakes = results.read()["influence", "cosines", 0]["mistakes"]
    losses = []
    if condition == "none removed":
        model = fine_tuned(seed)
    else:
        mistake = mistakes[int(condition.split()[1].rstrip(":")) - 1]
        removed = set(mistake["first"] if "first" in condition else at_random(mistake, seed))
        model = pretrained()
        losses = train(model, seed, [entry for i, entry in enumerate(TRAIN) if i not in removed])
    answered = answers(model)
    return {"losses": rounded(losses[:FIRST]), "right": right(answered), "mistakes": [
        {"wrong": round(total_log_prob(model, as_entry(mistake)), 3),
         "right": round(total_log_prob(model, TEST[mistake["entry"]]), 3), "answer": answered[mistake["entry"]]}
        for mistake in mistakes]}


CONDITIONS = ["none removed", *(f"mistake {i + 1}: {which} removed" for i in range(MISTAKES)
                                for which in ("first", "others"))]
