"""Small models with the same random weights, ours and the peers', batches for them, and a training run on these."""

from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from engine import trainer
from gpt_download import nest_params
from previous_chapters import GPTModel, load_weights_into_gpt
from tests.helpers import random_tensors, transformers_state

V, D, LAYERS, CONTEXT, EOT = 97, 16, 3, 24, 96
CFG = {"vocab_size": V, "context_length": CONTEXT, "emb_dim": D, "n_heads": 2, "n_layers": LAYERS, "drop_rate": 0.0,
       "qkv_bias": True}


def random_params(dtype=np.float64):
    """Weights in OpenAI's form, all of them random: gains, biases and matrices."""
    settings = {"n_vocab": V, "n_ctx": CONTEXT, "n_embd": D, "n_layer": LAYERS}
    return nest_params(random_tensors(settings, dtype, deviation=0.3), LAYERS)


def our_model(**changes):
    model = GPTModel(CFG | changes)
    load_weights_into_gpt(model, random_params())
    return model.eval()


def float32_model():
    model = GPTModel(CFG)
    load_weights_into_gpt(model, random_params(np.float32))
    return model.eval()


def meta_model():
    with torch.device("meta"):
        model = GPTModel(CFG)
    load_weights_into_gpt(model, random_params(np.float32))
    return model.eval()


def transformers_model():
    """transformers' GPT-2 with the same weights."""
    from transformers import GPT2Config, GPT2LMHeadModel  # only for the tests that ask for it, as below
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=V, n_positions=CONTEXT, n_embd=D, n_layer=LAYERS, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=None, eos_token_id=None, pad_token_id=EOT, attn_implementation="eager"))
    model.transformer.load_state_dict(transformers_state(random_params()))
    model.tie_weights()
    return model.eval()


def book_model():
    """The book's GPT-2 with the same weights."""
    from llms_from_scratch import ch04, ch05
    model = ch04.GPTModel(CFG)
    ch05.load_weights_into_gpt(model, random_params())
    model.out_head.weight = model.tok_emb.weight  # the book copies the head: tie it
    return model.double().eval()


def logits_of(model, inputs):
    output = model(inputs)
    return output if torch.is_tensor(output) else output.logits


def cross_entropy_by_torch(model, inputs, targets):
    return F.cross_entropy(logits_of(model, inputs).flatten(0, 1), targets.flatten(), ignore_index=-100)


def mean_per_token(model, batches):
    """Mean loss over the scored tokens of several batches, token by token."""
    losses = []
    for inputs, targets in batches:
        chances = logits_of(model, inputs).softmax(dim=-1)
        losses += [-chances[row, at, targets[row, at]].log().item() for row, at in (targets != -100).nonzero().tolist()]
    return sum(losses) / len(losses)


def mean_losses(steps, *places):
    """The mean loss per token of the steps between these places, from steps of (loss, tokens that count, ...)."""
    return [sum(loss * count for loss, count, *_ in steps[a:b]) / sum(count for _, count, *_ in steps[a:b])
            for a, b in zip((0, *places), places)]


def instruction_batch(seed, rows=3, longest=15, beginning=0):
    """Inputs and targets as the collate function makes them: end-of-text after each row, padding not scored. The first
    `beginning` tokens, 3 at most, are the same in all rows."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, longest, (rows,), generator=generator).tolist()
    texts = [torch.randint(0, EOT, (n,), generator=generator) for n in lengths]
    for text in texts:
        text[:beginning] = texts[0][:beginning]
    width = max(lengths) + 1
    inputs, targets = torch.full((rows, width), EOT), torch.full((rows, width), -100)
    for row, text in enumerate(texts):
        inputs[row, :len(text)] = text
        targets[row, :len(text)] = torch.cat((text[1:], torch.tensor([EOT])))
    return inputs, targets


@torch.no_grad()
def continue_naively(model, row, new, context_size, eos_id):
    """One row, one full forward pass a step, the window cut to the last `context_size` tokens."""
    row = list(row)
    for _ in range(new):
        token = model(torch.tensor([row[-context_size:]]))[0, -1].argmax().item()
        if token == eos_id:
            break
        row.append(token)
    return row


PROMPTS = [[1, 2, 3], [40] * 13, [7], [9, 8, 7, 6, 5, 4, 3, 2], [11, 80, 33, 2, 65]]


def positions_computed(model):
    """A list to which each pass through the model will add the shape of what it computes. (No hook: it would be
    noticed.)"""
    feed_forward, shapes = model.trf_blocks[0].ff, []
    forward = feed_forward.forward
    feed_forward.forward = lambda x: shapes.append(x.shape[:-1]) or forward(x)
    return shapes


BATCHES = [instruction_batch(seed, rows=2 + seed) for seed in range(4)]
VALIDATION = [instruction_batch(seed) for seed in (10, 11)]
TOY_TOKENIZER = SimpleNamespace(eot_token=EOT, encode=lambda text, allowed_special: [ord(c) % EOT for c in text],
                                decode=lambda ids: "\n".join(map(str, ids)))


def train(model, loader=BATCHES, epochs=2, eval_freq=3, eval_iter=1, optimizer=None, val_loader=VALIDATION,
          start_context="", **options):
    """A call as readers of the book write it; without a sample after each epoch, which takes as long as the epoch."""
    if optimizer is None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    return trainer.train(model, loader, val_loader, optimizer, "cpu", epochs, eval_freq, eval_iter, start_context,
                         TOY_TOKENIZER, **options)


def equal(one, other):
    """Bit for bit, through dictionaries, lists and tuples."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if torch.is_tensor(one) else one == other
