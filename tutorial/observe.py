"""What a model says and expects, and where it looks, as the notebook's tables and figures show it.

Entries are dictionaries with an instruction, an input and an output; the prompt is the notebook's.
"""

import inspect
import re
import subprocess
import sys
from math import exp
from pathlib import Path
from statistics import mean
from textwrap import dedent

import torch
import torch.nn.functional as F
from IPython.display import Markdown, display

from engine.models import evaluation_mode
from previous_chapters import IGNORE_INDEX, causal_attention
from tutorial import ROOT
from tutorial.figures import ANSWER, END, PADDING, PROMPT, drawable, label
from tutorial.instructions import format_prompt, generate_responses
from tutorial.scores import count_right, exact_match


def token_texts(ids, tokenizer):
    """The texts of ids for a figure; the end of text is ■."""
    return ["■" if i == tokenizer.eot_token else drawable(tokenizer.decode([i]), i) for i in ids]


def likeliest(probabilities, tokenizer, n=3):
    """The n likeliest tokens of a distribution (V,): [(text in quotes, probability), ...]."""
    top = probabilities.topk(n)
    return [(drawable(f"'{tokenizer.decode([i])}'", i), p) for i, p in zip(top.indices.tolist(), top.values.tolist())]


def answer_losses(model, entry, answer, tokenizer):
    """The loss of each token of an answer and of its end, given the question and the tokens before: (N + 1,)."""
    asked = tokenizer.encode_ordinary(format_prompt(entry))
    ids = asked + tokenizer.encode_ordinary(answer) + [tokenizer.eot_token]
    ids = torch.tensor([ids], device=model.pos_emb.weight.device)               # (1, T)
    with torch.no_grad():
        logits = model(ids[:, :-1], logits_at=(0, slice(len(asked) - 1, None)))  # (N + 1, V): the head takes most time
    return F.cross_entropy(logits, ids[0, len(asked):], reduction="none").cpu()


def answer_probabilities(model, entry, answer, tokenizer):
    """The tokens of an answer and of its end, each with the probability that the model gives it after the question and
    the tokens before: [(text, probability), ...]."""
    ids = tokenizer.encode_ordinary(answer) + [tokenizer.eot_token]
    texts = [tokenizer.decode([i]) for i in ids]
    return list(zip(texts, answer_losses(model, entry, answer, tokenizer).neg().exp().tolist()))


def exact_share(model, entries, tokenizer, max_new_tokens):
    """The share of the entries that are answered exactly as wanted, 0 to 1."""
    return count_right(generate_responses(model, entries, tokenizer, max_new_tokens), entries) / len(entries)


def snapshot(model, watched, entries, tokenizer, max_new_tokens):
    """What a model answers at this point of its training, and how likely the right answers are: a dictionary.

    For the `watched` entries, lists: "answers", the texts; "right", whether each is as wanted; "said", its tokens and
    probabilities as `answer_probabilities` gives them; "chances", the probability of each right answer (the geometric
    mean over its tokens). For all `entries`, numbers: "exact", the share answered exactly; "loss", the mean loss of the
    right answers' tokens; "stop", the mean probability of the end after them. The model's mode is restored.
    """
    with evaluation_mode(model):
        answers = generate_responses(model, watched, tokenizer, max_new_tokens)
        losses = [answer_losses(model, entry, entry["output"], tokenizer) for entry in entries]
        return {"answers": answers,
                "right": [exact_match(answer, entry["output"]) for answer, entry in zip(answers, watched)],
                "said": [answer_probabilities(model, entry, answer, tokenizer)[:max_new_tokens]  # cut: without the end
                         for entry, answer in zip(watched, answers)],
                "chances": [exp(-answer_losses(model, entry, entry["output"], tokenizer).mean()) for entry in watched],
                "exact": exact_share(model, entries, tokenizer, max_new_tokens),
                "loss": torch.cat(losses).mean().item(), "stop": mean(exp(-row[-1]) for row in losses)}


def training_for_page(seen, entries, losses):
    """A training run for the page, as `page.live` describes it. seen: {step: snapshot}, with `entries` as the watched
    ones; losses: the training losses, (step, loss) pairs."""
    return {"steps": list(seen), "losses": {"train": losses, "val": [[step, of["loss"]] for step, of in seen.items()]},
            "answers": [{"question": f"{entry['instruction']} {entry['input']}".strip(), "answer": entry["output"],
                         "said": [of["said"][i] for of in seen.values()]} for i, entry in enumerate(entries)]}


def queries_and_keys(model, ids):
    """The queries and keys of all layers and heads for a list of ids: (L, nh, T, D/nh) each. `attend` sees them in each
    layer."""
    layers = []

    def attend(qkv, dropout=0.0):  # the model calls it once in each block
        layers.append(qkv[0, :, :2].permute(1, 2, 0, 3))                        # (2, nh, T, D/nh)
        return causal_attention(qkv, dropout)

    with torch.no_grad():
        model(torch.tensor([ids], device=model.pos_emb.weight.device), attend=attend)
    return torch.stack(layers, dim=1).cpu().unbind()


def attention_weights(model, ids):
    """The attention weights of all layers and heads for a list of ids: (L, nh, T, T)."""
    q, k = queries_and_keys(model, ids)                                         # each (L, nh, T, D/nh)
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5                         # (L, nh, T, T)
    future = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(diagonal=1)   # (T, T)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1)


def continue_in_new_process(path, ids, max_new_tokens):
    """The ids with which the model in the file `path` continues a list of ids. It is loaded in a new Python process."""
    script = """
import sys, torch
from previous_chapters import generate
from weights.saved import load_model
from weights.tokenizer import END_OF_TEXT
model, config = load_model(sys.argv[1])
ids = torch.tensor([list(map(int, sys.argv[3].split()))])
row = generate(model, ids, int(sys.argv[2]), config["context_length"], eos_id=END_OF_TEXT)[0]
print(*row[ids.shape[1]:].tolist())
"""
    reply = subprocess.run([sys.executable, "-c", script, str(Path(path).resolve()), str(max_new_tokens),
                            " ".join(map(str, ids))], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return list(map(int, reply.stdout.split()))


def batch_strips(inputs, targets, tokenizer, rows=3):
    """The first rows of a batch, inputs and targets (B, T), for `figures.draw_tokens`: ({row: texts}, {row: colours}).
    A token has the colour of an answer if it is a target that counts; all padding is one box."""
    texts, colours = {}, {}
    for number, (read, wanted) in enumerate(zip(inputs[:rows].tolist(), targets[:rows].tolist())):
        end = wanted.index(tokenizer.eot_token)                                 # the position of the last token
        ids = read[:end + 1] + [tokenizer.eot_token]
        counts = [False] + [target != IGNORE_INDEX for target in wanted[:end]]
        name, padding = label("row {}").format(number), label("{} × padding").format(len(read) - end - 1)
        texts[name] = token_texts(ids, tokenizer) + [padding]
        colours[name] = [ANSWER if count else PROMPT for count in counts] + [END, PADDING]
    return texts, colours


def show_source(*things):
    """Display classes and functions as they stand in their files."""
    display(Markdown(code_block(*things)))


def fold_source(*things):
    """Display them folded: a line with their names, which opens when it is clicked."""
    names = ", ".join(f"<code>{thing.__name__}</code>" for thing in things)
    file = Path(inspect.getsourcefile(things[0])).name
    summary = f'<details class="fold"><summary>{names} ({file})</summary>'  # the page opens it with its other folds
    display(Markdown(f"{summary}\n\n{code_block(*things)}\n\n</details>"))


def code_block(*things):
    """Their source as Markdown. In lines of more than 88 columns, which would wrap, a trailing comment moves to the
    left."""
    lines = "\n\n\n".join(dedent(inspect.getsource(thing)).rstrip() for thing in things).split("\n")
    code = "\n".join(re.sub(r"(?<=\S) {3,}# ", "  # ", line) if len(line) > 88 else line for line in lines)
    return f"```python\n{code}\n```"
