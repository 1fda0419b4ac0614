"""Measures what a model says and expects, and where it looks, for the notebook's tables and figures.

Entries are dictionaries with an instruction, an input and an output; the prompt is the notebook's. In shapes, N counts
the tokens of an answer; the other letters are the notebook's.
"""

import subprocess
import sys
from math import exp
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F

from engine import generation
from engine.models import context_length, device_of, evaluation_mode
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
    """The ids of an answer and of the end of text."""
    return tokenizer.encode_ordinary(answer) + [tokenizer.eot_token]


def losses_of(model, prompt, ids):
    """The loss of each of N ids, given the prompt's ids and the ids before it: (N,), on the CPU."""
    row = torch.tensor([prompt + ids], device=device_of(model))              # (1, T)
    with torch.no_grad():
        # Only these positions pass through the output head, which takes most of the time.
        logits = model(row[:, :-1], logits_at=(0, slice(len(prompt) - 1, None)))  # (N, V)
    return F.cross_entropy(logits, row[0, len(prompt):], reduction="none").cpu()


def probabilities_of(model, prompt, ids, tokenizer):
    """The tokens `ids`, each with the probability that the model gives it after the prompt's ids and the ids before it:
    [(text, probability), ...]."""
    return list(zip([tokenizer.decode([i]) for i in ids], losses_of(model, prompt, ids).neg().exp().tolist()))


def answer_losses(model, entry, answer, tokenizer):
    """The loss of each token of an answer and of its end, given the question and the tokens before: (N + 1,)."""
    return losses_of(model, tokenizer.encode_ordinary(format_prompt(entry)), answer_ids(answer, tokenizer))


def exact_share(model, entries, tokenizer, max_new_tokens):
    """The share of the entries that are answered exactly as wanted, 0 to 1."""
    return count_right(generate_responses(model, entries, tokenizer, max_new_tokens), entries) / len(entries)


def snapshot(model, watched, entries, tokenizer, max_new_tokens):
    """What a model answers at this point of its training, and how likely the right answers are: a dictionary.

    Lists, with an item for each of the `watched` entries:
        "answers"   the answer, a stripped text
        "right"     whether the answer is as wanted
        "said"      the answer's tokens as the model generated them, each with its probability: [(text, probability),
                    ...]; the last is the end of text, unless the answer was cut at `max_new_tokens`
        "chances"   the probability per token of the right answer and its end, the geometric mean
    Numbers, for all `entries`:
        "exact"     the share that is answered exactly, 0 to 1
        "loss"      the mean loss of the tokens of the right answers and their ends, in nats
        "stop"      the mean probability of the end after the right answer

    The model's mode is restored.
    """
    with evaluation_mode(model):
        prompts = [tokenizer.encode_ordinary(format_prompt(entry)) for entry in watched]
        rows = generation.generate(model, prompts, max_new_tokens, context_length(model), eos_id=tokenizer.eot_token)
        # Ids, not texts: a stripped text would be split into other tokens.
        generated = [row[len(prompt):] for row, prompt in zip(rows, prompts)]
        answers = [tokenizer.decode(ids).strip() for ids in generated]
        with_end = [(ids + [tokenizer.eot_token])[:max_new_tokens] for ids in generated]
        losses = [answer_losses(model, entry, entry["output"], tokenizer) for entry in entries]
        return {"answers": answers,
                "right": [exact_match(answer, entry["output"]) for answer, entry in zip(answers, watched)],
                "said": [probabilities_of(model, prompt, ids, tokenizer) for prompt, ids in zip(prompts, with_end)],
                "chances": [exp(-answer_losses(model, entry, entry["output"], tokenizer).mean()) for entry in watched],
                "exact": exact_share(model, entries, tokenizer, max_new_tokens),
                "loss": torch.cat(losses).mean().item(), "stop": mean(exp(-row[-1]) for row in losses)}


def queries_and_keys(model, ids):
    """The queries and keys of all layers and heads for a list of ids: (L, nh, T, D/nh) each."""
    layers = []

    def attend(qkv, dropout=0.0):  # the model calls it once in each block, in place of causal_attention
        layers.append(qkv[0, :, :2].permute(1, 2, 0, 3))                        # (2, nh, T, D/nh)
        return causal_attention(qkv, dropout)

    with torch.no_grad():
        model(torch.tensor([ids], device=device_of(model)), attend=attend)
    return torch.stack(layers, dim=1).cpu().unbind()


def attention_weights(model, ids):
    """The attention weights of all layers and heads for a list of ids, by the formula of the textbook's
    `causal_attention`: (L, nh, T, T)."""
    q, k = queries_and_keys(model, ids)                                         # each (L, nh, T, D/nh)
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5                         # (L, nh, T, T)
    future = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(diagonal=1)   # (T, T)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1)


def continue_in_new_process(path, ids, max_new_tokens):
    """The ids, at most `max_new_tokens`, with which the model in the file `path` continues a list of ids. A new Python
    process loads it. Raises CalledProcessError if the process fails."""
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
