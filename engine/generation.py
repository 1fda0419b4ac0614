"""Text generation: a key/value cache, prompts of different lengths in one batch, sampling, and answers as they come.

`generate` gives for each row what the textbook's `generate` gives for it alone. It is faster for three reasons: keys
and values of earlier tokens are kept, so that a step costs one token and not the whole text; what the prompts begin
with is read once for all of them, and their padding not at all; and rows that ended are dropped. Before the cache is
used on a model, it is compared with the plain form; where they differ, each step reads every row from its start, and a
line says so.

Which tokens there are, and how many, is kept on the CPU. A GPU gets the newest token of each row and gives back the
next one: this is all that a step waits for.
"""

import codecs
from contextlib import contextmanager
from functools import partial
from itertools import count

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from engine.comparison import computes_the_same, context_length, repeated_to, with_other_end
from engine.fast import Packing, on_device
from engine.layers import fast_layers, in_rows, plain_layers
from engine.texts import marked

DROP_AT = 0.75     # ended rows are dropped once at most this share goes on: not one by one, since that copies the cache
PROBE_LENGTH = 64  # tokens at most on which the cache is compared with the plain form


@contextmanager
def evaluation_mode(model):
    """Dropout off inside the `with` block; afterwards every part of the model is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        model.train(modes[model])  # some layers do more in `train` than set `training`
        for module, mode in modes.items():
            module.training = mode


class KeyValueCache:
    """Keys and values of the tokens read so far: for each layer a tensor (2, B, nh, S, D/nh), where S, the capacity, is
    the most tokens a row can have."""

    def __init__(self, capacity):
        self.capacity, self.layers = capacity, []

    def attend_at(self, pos, width):
        """The attention for reading tokens at the positions `pos` (B, T), on the model's device, all of them below
        `width`.

        Each call of it adds the tokens' keys and values to a layer's cache, and lets every token see the positions up
        to its own. The model calls it once for each layer, in order, so a count of the calls tells the layer.
        """
        rows = torch.arange(len(pos), device=pos.device)[:, None]               # (B, 1)
        visible = torch.arange(width, device=pos.device) <= pos[..., None]      # (B, T, width)
        layer_numbers = count()

        def attend(qkv, dropout=0.0):
            B, _, _, nh, d = qkv.shape
            layer = next(layer_numbers)
            if layer == len(self.layers):
                self.layers.append(qkv.new_zeros(2, B, nh, self.capacity, d))
            cache = self.layers[layer][..., :width, :]                          # (2, B, nh, width, D/nh)
            cache[:, rows, :, pos] = qkv[:, :, 1:]                              # (B, T, 2, nh, D/nh)
            q = qkv[:, :, 0].transpose(1, 2)                                    # (B, nh, T, D/nh)
            y = F.scaled_dot_product_attention(q, cache[0], cache[1], attn_mask=visible[:, None])
            return y.transpose(1, 2)                                            # (B, T, nh, D/nh)
        return attend

    def keep(self, rows):
        """Drop all rows but those where the mask `rows` (B,), on the CPU, is true."""
        kept = rows.nonzero()[:, 0]
        self.layers = [layer.index_select(1, on_device(kept, layer.device)) for layer in self.layers]


# --- One step: logits (B, V) of the token after the first `length` (B,) of each row of `tokens` (B, S) ---


def prefill(model, tokens, length, context_size, cache):
    """Read each row's window from its start: its last `context_size` tokens, which take the positions from 0."""
    T, device = min(int(length.max()), context_size), device_of(model)
    start = (length - context_size).clamp(min=0)                                # (B,)
    pos = torch.arange(T).repeat(len(tokens), 1)                                # (B, T)
    window = tokens.gather(1, start[:, None] + pos)                             # (B, T)
    last = (length - start - 1)[:, None]                                        # (B, 1)
    packing = Packing(window, pos <= last)
    read = packing.source.gather(1, last)[:, 0]                                 # (B,)
    attend = cache.attend_at(on_device(pos, device), T)
    return packing.to(device).run(model, attend, on_device(read, device))


def decode_step(model, tokens, length, cache):
    """Read each row's last token, the one before position `length`; the others are in the cache."""
    pos = length[:, None] - 1                                                   # (B, 1)
    newest, pos = (on_device(tensor, device_of(model)) for tensor in (tokens.gather(1, pos), pos))
    return model(newest, pos=pos, attend=cache.attend_at(pos, int(length.max())))[:, 0]


def recompute(model, tokens, length, context_size):
    """Read each row's last `context_size` tokens by themselves, as the textbook does."""
    windows = (row[:n][-context_size:] for row, n in zip(tokens, length.tolist()))
    with plain_layers(model):
        return torch.cat([model(window[None].to(device_of(model)))[:, -1] for window in windows])


def device_of(model):
    """Where the model's weights lie."""
    return next(model.parameters()).device


def cache_works(model, tokens):
    """Whether the cache gives the plain form's logits for this model. Compared are a row of the tokens and a short one
    with the same beginning: all but the last token is read by `prefill`, the last by `decode_step`."""
    def rows_of(length):
        row = repeated_to(tokens.flatten(), length)
        return row, with_other_end(row[:8])

    def plain(length):
        return [model(row[None].to(device_of(model)))[0, -2:] for row in rows_of(length)]  # each (2, V)

    def fast(length):
        rows = pad_sequence(rows_of(length), batch_first=True)                  # (2, length)
        lengths = torch.tensor([len(row) for row in rows_of(length)])
        cache = KeyValueCache(length)
        logits = (prefill(model, rows, lengths - 1, length, cache), decode_step(model, rows, lengths, cache))
        return list(torch.stack(logits, dim=1))                                 # each (2, V)

    length = min(tokens.shape[1], context_length(model))
    return length < 2 or computes_the_same(model, marked("Generation"), min(length, PROBE_LENGTH), fast, plain)


def decode(model, tokens, length, max_new_tokens, context_size, pick, eos_id):
    """Write up to `max_new_tokens` tokens into each row of `tokens` (B, S), after its first `length` (B,), which grow
    with them, both on the CPU; `pick` takes them from logits (B, V). A row ends before its own `eos_id`. A generator
    that yields after each step."""
    cache = KeyValueCache(min(tokens.shape[1], context_size)) if max_new_tokens and cache_works(model, tokens) else None
    active = torch.arange(len(tokens))                                          # the rows in the cache
    unfinished = torch.ones_like(active, dtype=torch.bool)                        # those of them that haven't ended
    for step in range(max_new_tokens):
        if cache is None:
            logits = recompute(model, tokens[active], length[active], context_size)
        elif step == 0 or length[active].max() > context_size:
            # Once a row outgrows the context, every token's position changes at each step, and with it all keys and
            # values.
            logits = prefill(model, tokens[active], length[active], context_size, cache)
        else:
            logits = decode_step(model, tokens[active], length[active], cache)
        picked = pick(logits).cpu()                                             # (B,)
        if eos_id is not None:
            unfinished &= picked != eos_id
            if not unfinished.any():
                return
        extended = active[unfinished]
        tokens[extended, length[extended]] = picked[unfinished]
        length[extended] += 1
        yield
        if unfinished.sum() <= DROP_AT * len(active):
            if cache is not None:
                cache.keep(unfinished)
            active, unfinished = extended, unfinished[unfinished]


# --- The next token ---


def sample(logits, temperature, top_k, top_p):
    """The next token of each row: logits (B, V) -> ids (B,). The most likely one where temperature is 0, else drawn."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    # The largest logit becomes 0, so that dividing by a tiny temperature overflows to -inf only.
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / max(temperature, 1e-30)
    if top_k is not None:
        weakest_kept = logits.topk(min(top_k, logits.shape[1])).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < weakest_kept, -torch.inf)
    if top_p is not None and top_p < 1:  # nucleus sampling (Holtzman et al., 2020): the fewest tokens that reach top_p
        ordered, order = logits.sort(descending=True)                           # (B, V)
        probs = ordered.softmax(dim=-1)
        ordered = ordered.masked_fill(probs.cumsum(dim=-1) - probs >= top_p, -torch.inf)
        logits = torch.empty_like(logits).scatter(1, order, ordered)
    # What torch.multinomial does, but for its check of the probabilities, for which it waits for the device.
    probs = logits.softmax(dim=-1)                                              # (B, V)
    return (probs / torch.empty_like(probs).exponential_()).argmax(dim=-1)


def check_arguments(model, idx, max_new_tokens, context_size, temperature, top_k, top_p):
    """Raise ValueError for no or an empty prompt, a context_size below 1 or above the model's, a negative
    max_new_tokens, or a sampling argument out of its range."""
    if not 0 < context_size <= context_length(model):
        raise ValueError(f"context_size is {context_size}, but the model reads {context_length(model)}")
    if not temperature >= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError(f"want temperature >= 0, top_k >= 1 and 0 < top_p <= 1, got {temperature}, {top_k}, {top_p}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}: want 0 or more")
    if len(idx) == 0 or not all(len(row) for row in idx):
        raise ValueError("no prompt, or an empty one: give at least one row, and each row at least one token")


# --- Whole answers, and answers as they come ---


def begin(model, idx, max_new_tokens, context_size, temperature, top_k, top_p):
    """What `decode` starts with, on the CPU, from id lists or ids (B, T): the tokens (B, T + new), with room for those
    to come, the rows' lengths (B,), and `pick`. Raises ValueError as `check_arguments` says."""
    check_arguments(model, idx, max_new_tokens, context_size, temperature, top_k, top_p)
    rows = [torch.as_tensor(row, dtype=torch.long, device="cpu") for row in idx]
    tokens = F.pad(pad_sequence(rows, batch_first=True), (0, max_new_tokens))   # (B, T + new)
    length = torch.tensor([len(row) for row in rows])                           # (B,)
    return tokens, length, partial(sample, temperature=temperature, top_k=top_k, top_p=top_p)


@torch.inference_mode()
def generate(model, idx, max_new_tokens, context_size, temperature=0.0, top_k=None, eos_id=None, top_p=None,
             on_step=None):
    """Continue each row of `idx` by up to `max_new_tokens` tokens; a row ends before its own `eos_id`.

    idx: ids (B, T), or a list of B id lists of any lengths. Returns the rows with their continuations in the same form:
    a tensor (B, T + longest continuation), in which rows that ended earlier are filled up with `eos_id`, or id lists.

    temperature 0 takes the most likely token each time; above 0, tokens are drawn from the softmax of logits /
    temperature, limited to the `top_k` most likely and to the fewest that together have probability `top_p`. Draws come
    from torch's global random state: the same seed and the same batch give the same tokens. `on_step` is called after
    each step, in which every row that hasn't ended got a token.

    A row longer than `context_size` is continued from its last `context_size` tokens, which take the positions from 0
    again; from then on each step reads that whole window. Dropout is off. Raises ValueError as `check_arguments` says.
    """
    tokens, length, pick = begin(model, idx, max_new_tokens, context_size, temperature, top_k, top_p)
    if len(tokens) > 1:
        in_rows(model)
    with evaluation_mode(model), fast_layers(model):
        for _ in decode(model, tokens, length, max_new_tokens, context_size, pick, eos_id):
            if on_step is not None:
                on_step()
    if not torch.is_tensor(idx):
        return [row[:n].tolist() for row, n in zip(tokens, length, strict=True)]
    if eos_id is not None:
        tokens[torch.arange(tokens.shape[1]) >= length[:, None]] = eos_id
    with torch.inference_mode(False):  # what is made in that mode could not be read by a model in training
        return tokens[:, :int(length.max())].clone().to(device_of(model))


@torch.inference_mode()
def stream(model, ids, max_new_tokens, context_size, temperature=0.0, top_k=None, eos_id=None, top_p=None):
    """The tokens with which `generate` continues one prompt, a list of ids, each as soon as it is there: a generator of
    ids. Closing it stops the generation. Raises ValueError as `generate` does, when the first token is asked for."""
    tokens, length, pick = begin(model, [ids], max_new_tokens, context_size, temperature, top_k, top_p)
    with evaluation_mode(model), fast_layers(model):
        for _ in decode(model, tokens, length, max_new_tokens, context_size, pick, eos_id):
            yield tokens[0, length[0] - 1].item()


def whole_text(ids, tokenizer):
    """The text of a stream of ids, in pieces that are whole characters: a character may take several tokens."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in ids:
        if text := decoder.decode(tokenizer.decode_single_token_bytes(token)):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
