"""Ten classic mistakes of fine-tuning, and what tells each from all others.

Each changes one thing: the targets of a batch, how its loss is averaged, the learning rate, or the prompt at the end.
`FINGERPRINTS` has the signs of each.
"""

from math import exp
from statistics import mean

import torch

from engine.fast import packed_loss
from engine.texts import marked
from miniature.experiments.models import (
    answers,
    fine_tuned,
    log_probs,
    pretrained,
    right,
    tokenizer,
    train,
    validation_loss,
)
from miniature.experiments.questions import phi3_prompt
from miniature.experiments.trainings import FIRST, rounded
from miniature.recipe import RECIPE, TEST, TOKENIZER
from tutorial.instructions import custom_collate_fn, format_input, format_prompt
from tutorial.scores import normalize

IGNORED = -100
SHOWN = next(i for i, entry in enumerate(TEST) if entry["output"] == "The sum of 2 and 14 is 16.")  # its answer is kept

# --- Wrong targets: each of these changes the targets (B, T) of a batch; inputs are (B, T), too ---


def end_ignored(inputs, targets, end):
    """Padding is the end-of-text token, and all of it is ignored: so is the end of each answer."""
    return targets.masked_fill(targets == end, IGNORED)


def first_token_ignored(inputs, targets, end):
    """The mask of the instruction is one token too long."""
    first = (targets != IGNORED).int().argmax(dim=1, keepdim=True)
    return targets.scatter(1, first, IGNORED)


def padding_counts(inputs, targets, end):
    """Nothing masks the padding: the model learns that the end is followed by the end."""
    after = (targets == end).cumsum(dim=1) > 0
    return targets.masked_fill(after, end)


def shift_forgotten(inputs, targets, end):
    """The target of a position is its own token."""
    counts = torch.cat((torch.zeros_like(targets[:, :1]) == 1, targets[:, :-1] != IGNORED), dim=1)
    return inputs.masked_fill(~counts, IGNORED)


def shifted_twice(inputs, targets, end):
    """The target of a position is the token after the next: the data set shifts, and so does the loss."""
    return torch.cat((targets[:, 1:], torch.full_like(targets[:, :1], IGNORED)), dim=1)


def collate_with(fault):
    """The collate function with a fault."""
    def collate(batch, pad_token_id):
        inputs, targets = custom_collate_fn(batch, pad_token_id=pad_token_id)
        return inputs, fault(inputs, targets, pad_token_id)
    return collate


# --- A wrong mean, and wrong prompts ---


def mean_of_means(inputs, targets, model, device):
    """Gradient accumulation that averages the mean losses of single rows, whatever number of tokens they have."""
    losses = [packed_loss(inputs[i:i + 1], targets[i:i + 1], model, device) for i in range(len(inputs))]
    return torch.stack(losses).mean()


def with_a_space(entry):
    """The header ends with a space, where the training entries have a line feed."""
    return format_prompt(entry).removesuffix("\n") + " "


TRAINING = {  # fault: what differs in the training
    "none": {},
    "the end is ignored": {"collate": collate_with(end_ignored)},
    "the first answer token is ignored": {"collate": collate_with(first_token_ignored)},
    "padding counts": {"collate": collate_with(padding_counts)},
    "the shift is forgotten": {"collate": collate_with(shift_forgotten)},
    "shifted twice": {"collate": collate_with(shifted_twice)},
    "rate × 20": {"learning_rate": 20 * RECIPE["learning_rate"]},
    "mean of means": {"loss_of": mean_of_means},
}
ASKING = {  # fault: the prompt with which a well-trained model is asked
    "a space for the line feed": with_a_space,
    "no header": format_input,
    "another template": phi3_prompt,
}

# --- What is measured ---


def end_and_beginning(model, prompt_of):
    """After the right answers of the test: the mean probability of the end, and of the answers' first tokens."""
    end = tokenizer().eot_token
    found = log_probs(model, [tokenizer().encode_ordinary(prompt_of(entry)) for entry in TEST],
                      [tokenizer().encode_ordinary(entry["output"]) + [end] for entry in TEST])
    return {name: round(mean(exp(values[place]) for values, _ in found), 4)
            for name, place in (("P(end)", -1), ("P(first token)", 0))}


def faults(fault, seed):
    """A training with a fault, or a well-trained model asked with one. `notes`: after steps 1, 2, 4, ..., the mean loss
    since the last note, the validation loss as this training sees it, and the true one."""
    notes, losses, prompt_of = [], [], ASKING.get(fault, format_prompt)
    if fault in ASKING:
        model = fine_tuned(seed)
    else:
        model, options = pretrained(), TRAINING[fault]
        collate = options.get("collate", custom_collate_fn)

        def note(losses):
            since = notes[-1][0] if notes else 0
            notes.append([len(losses), *rounded([mean(losses[since:]), validation_loss(model, collate),
                                                 validation_loss(model)])])
        losses = train(model, seed, watch=note, **options)
    answered = answers(model, TEST, prompt_of)
    begun = [normalize(answer).startswith(normalize(entry["output"])) for answer, entry in zip(answered, TEST)]
    lengths = [len(TOKENIZER.encode_ordinary(answer)) for answer in answered]
    return {"losses": rounded(losses[:FIRST]), "last loss": round(mean(losses[-16:]), 4) if losses else None,
            "notes": notes, "right": right(answered), "begins right": sum(begun),
            "mean length": round(mean(lengths), 1), **end_and_beginning(model, prompt_of),
            "answer": answered[SHOWN]}


# --- Fingerprints ---


def signs(run):
    """The numbers by which mistakes are told apart. `shown` and `true` are the validation losses at the end of the
    training, None where the mistake is made later; scores are fractions."""
    *_, shown, true = run["notes"][-1] if run["notes"] else (None, None)
    marks = run["right"]
    return {"shown": shown, "true": true, "right": marks.count("1") / len(marks),
            "begins right": run["begins right"] / len(marks), "P(end)": run["P(end)"],
            "P(first)": run["P(first token)"]}


FINGERPRINTS = {  # mistake: the number to look at first, and whether the signs of a run are this mistake's
    marked("the end is ignored"): (
        marked("answers begin right and go on"), lambda of: of["begins right"] > of["right"] + 0.1),
    marked("the first answer token is ignored"): (
        marked("P(first token) is low after good training"), lambda of: of["shown"] and (
        of["P(first)"] < 0.9 and of["shown"] < 0.9 * of["true"] < 1)),
    marked("padding counts"): (
        marked("validation below “true”, and good answers"), lambda of: of["shown"] and (
        of["right"] > 0.8 and of["shown"] < 0.9 * of["true"] < 1)),
    marked("the shift is forgotten"): (
        marked("losses that look perfect, and no answer"), lambda of: of["shown"] and (
        of["shown"] < 0.05 and of["true"] > 3)),
    marked("shifted twice"): (
        marked("a loss that falls, and no answer"), lambda of: of["shown"] and (
        of["shown"] > 0.05 and of["true"] > 3)),
    marked("rate × 20"): (
        marked("the loss stays high"), lambda of: of["shown"] and of["shown"] == of["true"] > 0.5),
    marked("a space for the line feed"): (
        marked("good losses; P(first token) is 0"), lambda of: of["shown"] is None and (
        of["P(first)"] < 0.01 and of["right"] > 0.1)),
    marked("no header"): (
        marked("good losses; P(first token) is 0, answers are short"), lambda of: of["shown"] is None and (
        of["P(first)"] < 0.01 and of["right"] < 0.1)),
    marked("another template"): (
        marked("good losses; no answer is right"), lambda of: of["shown"] is None and of["P(first)"] > 0.01),
}
