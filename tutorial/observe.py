"""What a model says and expects, and where it looks, as the notebook's tables and figures show it.

Entries are dictionaries with an instruction, an input and an output; the prompt is the notebook's.
"""

import subprocess
import sys
from math import exp
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F

from engine.models import evaluation_mode
from previous_chapters import causal_attention
from tutorial import ROOT
from tutorial.figure_style import drawable
from tutorial.instructions import format_prompt, generate_responses
from tutorial.scores import count_right, exact_match


def likeliest(probabilities, tokenizer, n=3):
    """The n likeliest tokens of a distribution (V,): [(text in quotes, probability), ...]."""
    top = probabilities.topk(n)
    return [(drawable(f"'{tokenizer.decode([i])}'", i), p) for i, p in zip(top.indices.tolist(), top.values.tolist())]


def answer_ids(answer, tokenizer):
    """The ids of an answer, with the end of text."""
    return tokenizer.encode_ordinary(answer) + [tokenizer.eot_token]


def answer_losses(model, entry, answer, tokenizer):
    """The loss of each token of an answer and of its end, given the question and the tokens before: (N + 1,)."""
    asked = tokenizer.encode_ordinary(format_prompt(entry))
    ids = torch.tensor([asked + answer_ids(answer, tokenizer)], device=model.pos_emb.weight.device)  # (1, T)
    with torch.no_grad():
        # The head takes most of the time.
        logits = model(ids[:, :-1], logits_at=(0, slice(len(asked) - 1, None)))  # (N + 1, V)
    return F.cross_entropy(logits, ids[0, len(asked):], reduction="none").cpu()


def answer_probabilities(model, entry, answer, tokenizer):
    """The tokens of an answer and of its end, each with the probability that the model gives it after the question and
    the tokens before: [(text, probability), ...]."""
    texts = [tokenizer.decode([i]) for i in answer_ids(answer, tokenizer)]
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
