"""Attention heads: where they look before and after fine-tuning, and what is lost without them.

Layers and heads are numbered from 1 in tables, from 0 here.
"""

from functools import partial
from itertools import count

import torch

from miniature.corpus import FACTS
from miniature.experiments.facts import right_ways
from miniature.experiments.models import answers, fine_tuned, pretrained, right, tokenizer, world
from miniature.experiments.questions import fact_of
from miniature.experiments.trainings import rounded
from miniature.recipe import TEST
from previous_chapters import causal_attention
from tutorial.instructions import format_prompt
from tutorial.observe import attention_weights

TASK_WORDS = {  # the words of an instruction that name its task
    "plural": {"plural", "pluralize"}, "past tense": {"past"}, "category": {
        "category", "kind", "type", "sort", "class", "group", "classify"},
    "antonym": {"opposite", "antonym", "contrary", "reverse"},
    "spelling": {"spelling", "spell", "spelled", "misspelled", "mistake", "error", "correct"},
    "definition": {"definition", "define", "meaning", "mean", "means", "meant", "explain"},
    "addition": {"sum", "add", "added", "plus", "total", "+"},
    "passive voice": {"passive"}, "question": {"question"}, "negation": {"negative", "negate", "negation", "not"},
    "past-tense rewriting": {"past"}, "future-tense rewriting": {"future"},
    "choice": {"choose", "pick", "select", "which", "find", "name"},
}
ASKED_AFTER_OF = ("plural", "past tense", "antonym", "category", "addition")  # "The plural of horse is ..."

# --- Where heads look ---


def attention_from(model, ids, position):
    """The weights with which each head at a position looks at all positions up to it: (layers, nh, position + 1)."""
    return attention_weights(model, ids[:position + 1])[:, :, -1]


def places_of(ids, words):
    """The positions of tokens that are, but for case and the space before them, one of the words."""
    return [i for i, token in enumerate(ids) if tokenizer().decode([token]).strip().lower() in words]


def views():
    """Where it matters, for every test entry that has such a place: (what, task, ids, position, positions looked at).

    "task": from the line feed after "### Response:" at the words that name the task; "Response": from there at the word
    Response; "word": from "of" in the right answer at what is asked about, in the prompt.
    """
    encode = tokenizer().encode_ordinary
    for entry in TEST:
        task, prompt = entry["task"], encode(format_prompt(entry))
        header = max(places_of(prompt, {"response"}))
        begin = min(places_of(prompt, {"instruction"}))                         # of "### Instruction:"
        yield "Response", task, prompt, len(prompt) - 1, [header]
        if places := [i for i in places_of(prompt, TASK_WORDS[task]) if begin < i < header]:
            yield "task", task, prompt, len(prompt) - 1, places
        if task in ASKED_AFTER_OF:
            ids = prompt + encode(entry["output"])
            of = next(i for i in places_of(ids, {"of"}) if i > header)
            asked_about = {tokenizer().decode([ids[of + 1]]).strip().lower()}
            yield "word", task, ids, of, [i for i in places_of(prompt, asked_about) if begin < i < header]


def looks(model):
    """For each of the `views` and each task: how many places there are, the mean weight with which each head looks
    there, and in how many of them it looks at nothing else as much: {what: {task: {"places", "weight", "most"}}}, the
    last two of them lists of layers of heads."""
    found = {}
    for what, task, ids, position, places in views():
        weights = attention_from(model, ids, position)                          # (layers, nh, T)
        there = weights[..., places].sum(dim=-1)                                # (layers, nh)
        most = torch.isin(weights.argmax(dim=-1), torch.tensor(places))         # (layers, nh)
        found.setdefault(what, {}).setdefault(task, []).append((there, most.int()))
    return {what: {task: summary(*zip(*rows)) for task, rows in by_task.items()} for what, by_task in found.items()}


def summary(there, most):
    return {"places": len(there), "weight": [rounded(layer, 3) for layer in torch.stack(there).mean(dim=0).tolist()],
            "most": torch.stack(most).sum(dim=0).tolist()}


# --- What is lost without a head ---


def without(head, attend=causal_attention):
    """An attention for `forward` that switches one head (layer, number) off: its values never reach the projection."""
    numbers = count()

    def switched_off(qkv, dropout=0.0):
        y = attend(qkv, dropout)                                                # (B, T, nh, D/nh)
        if next(numbers) == head[0]:
            y = y.index_fill(2, torch.tensor(head[1]), 0.0)
        return y
    return switched_off


def switch_off(model, head):
    """Have the projection read nothing of one head's output, for good. It is what `without` does, in a form that every
    way of calling the model obeys."""
    layer, number = head
    attention = model.trf_blocks[layer].att
    width = attention.out_proj.in_features // attention.n_heads
    with torch.no_grad():
        attention.out_proj.weight[:, number * width:(number + 1) * width] = 0.0
    return model


def all_heads(model):
    return [(layer, number) for layer, block in enumerate(model.trf_blocks) for number in range(block.att.n_heads)]


def known_by(model):
    """In how many of the pretraining text's own ways the model knows the facts of the test: {task: number}."""
    return {task: sum(right_ways(model, task, facts)) for task, facts in facts_of_the_test().items()}


def facts_of_the_test():
    """The facts that the test asks about: {task: list}."""
    found = {task: [] for task in FACTS}
    for task, i in filter(None, map(fact_of, TEST)):
        found[task].append(FACTS[task][i])
    return found


def heads(condition, seed):
    """`base`: where the heads of the base model look, and what it knows with all heads and without each. `fine-tuned`:
    the same, and what is answered rightly with all heads and without each."""
    make, measure = (pretrained, known_by) if condition == "base" else (
        partial(fine_tuned, seed), lambda model: right(answers(model)))
    model = make()
    return {"looks": looks(model), "all heads": measure(model), "without": {
        f"{layer + 1}.{number + 1}": measure(switch_off(make(), (layer, number)))
        for layer, number in all_heads(world()[0])}}
