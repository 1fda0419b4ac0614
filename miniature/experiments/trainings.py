"""Experiments that train the miniature anew in each run."""

from random import Random

from engine.lora import add_lora, merge_lora
from miniature.experiments.models import (
    answers,
    fine_tuned,
    marks,
    pretrained,
    right,
    train,
    untrained,
    validation_loss,
)
from miniature.experiments.questions import (
    OUTSIDE,
    REFUSED_IN_TRAINING,
    UNKNOWN_KNOWN_WORDING,
    UNKNOWN_NEW_WORDING,
    has_form,
    refusals,
    says,
)
from miniature.recipe import RECIPE, TEST, TRAIN

FIRST = 8      # so many losses of each training are kept, which a test repeats
LONG = {"learning_rate": 1e-3, "num_epochs": 8}
CONTROL = {  # condition: the model before it is trained, and what differs from the recipe
    "pretrained, not fine-tuned": (lambda seed: pretrained(), None),
    "pretrained": (lambda seed: pretrained(), {}),
    "random": (untrained, {}),
    "random, 8 epochs at 1e-3": (untrained, LONG),
    "pretrained embeddings, random blocks": (lambda seed: untrained(seed, keep_embeddings=True), {}),
    "pretrained embeddings, random blocks, 8 epochs at 1e-3":
        (lambda seed: untrained(seed, keep_embeddings=True), LONG),
}
SIZES = (12, 25, 50, 100, 200, 400)       # besides the recipe's own 935 entries,
RATES = (2.5e-5, 8e-5, 8e-4, 2.5e-3)      # rate of 2.5e-4
EPOCHS = (1, 4, 8)                        # and 2 epochs, which are in the control
RANKS = (1, 2, 4, 8, 16)
ALL_STEPS = RECIPE["num_epochs"] * (len(TRAIN) // 8)  # those of the recipe


def trained(model, seed, **options):
    """Train a model, and give its numbers: the first losses, the validation loss, and the right answers."""
    losses = train(model, seed, **options)
    return {"losses": rounded(losses[:FIRST]), "validation loss": round(validation_loss(model), 4),
            "right": right(answers(model))}


def rounded(values, digits=4):
    return [round(value, digits) for value in values]


def control(condition, seed):
    """The recipe from other weights than the pretrained ones. `form`: which answers have the form of their task, for
    those tasks that have one."""
    make, options = CONTROL[condition]
    if condition == "pretrained":
        model, losses = fine_tuned(seed), []
    else:
        model = make(seed)
        losses = [] if options is None else train(model, seed, **options)
    answered = answers(model)
    return {"losses": rounded(losses[:FIRST]), "validation loss": round(validation_loss(model), 4),
            "right": right(answered), "form": marks(map(has_form, TEST, answered)),
            "says": marks(map(says, TEST, answered)), "answers": answered}


def never_shown(task, seed):
    """The recipe without the entries of one task. `says`: in which answers what is asked for stands somewhere."""
    model = pretrained()
    losses = train(model, seed, [entry for entry in TRAIN if entry["task"] != task])
    answered = answers(model)
    return {"losses": rounded(losses[:FIRST]), "right": right(answered), "says": marks(map(says, TEST, answered)),
            "answers": [answer for entry, answer in zip(TEST, answered) if entry["task"] == task]}


def examples(condition, seed):
    """The recipe with the first so many entries, in an order of the seed's own: in as many steps as all entries have in
    two epochs, or in two epochs."""
    size, _, how_long = condition.partition(", ")
    entries = Random(seed).sample(TRAIN, int(size))
    return trained(pretrained(), seed, entries=entries, steps=ALL_STEPS if how_long == "all steps" else None)


def rates(rate, seed):
    """The recipe at another learning rate."""
    return trained(pretrained(), seed, learning_rate=float(rate))


def epochs(number, seed):
    """The recipe for another number of epochs; the rate always falls to zero at the end."""
    return trained(pretrained(), seed, num_epochs=int(number))


def lora(rank, seed):
    """Adapters of a rank, with the notebook's settings: ten times the rate, alpha = 2 * rank."""
    model = pretrained()
    add_lora(model, int(rank))
    losses = train(model, seed, learning_rate=10 * RECIPE["learning_rate"])
    merge_lora(model)
    return {"losses": rounded(losses[:FIRST]), "validation loss": round(validation_loss(model), 4),
            "right": right(answers(model))}


def refusing(condition, seed):
    """The recipe with or without 120 entries more that say "I do not know the word ...". Which answers refuse: those to
    the test, to unknown words that no entry has, in known and in new wordings, and to questions from outside."""
    model, losses = fine_tuned(seed), []
    if condition == "with refusals":
        model = pretrained()
        losses = train(model, seed, TRAIN + refusals(REFUSED_IN_TRAINING, "known"))
    asked = {"test": TEST, "unknown words, known wordings": UNKNOWN_KNOWN_WORDING,
             "unknown words, new wordings": UNKNOWN_NEW_WORDING, "outside": OUTSIDE}
    answered = {name: answers(model, entries) for name, entries in asked.items()}
    refused = {name: marks(answer.startswith("I do not know") for answer in texts) for name, texts in answered.items()}
    return {"losses": rounded(losses[:FIRST]), "validation loss": round(validation_loss(model), 4),
            "right": right(answered["test"]), "refused": refused, "answers": answered["outside"],
            "to unknown words": answered["unknown words, known wordings"][:10]}
