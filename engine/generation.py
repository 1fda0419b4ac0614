"""Text generation: a key/value cache, prompts of different lengths in one batch, sampling, and answers as they come.

`generate` gives for each row what the textbook's `generate` gives for it alone. It is faster for five reasons:

- Keys and values of earlier tokens are cached, so a step computes one token and not the whole text.
- The prefix that all prompts share is read once, and their padding not at all.
- Finished rows are dropped, and few of the remaining ones are moved.
- Weights that many products share are rearranged for them once, and memory is reused (`ready_for_batches`).
- A row that is alone is computed in NumPy (`engine.one_row`), as fast as the weights can be read.

Before the cache is used on a model, it is compared with the reference path. Where they differ, each step reads every
row from its start, and a line says so.

Token ids and lengths stay on the CPU. A GPU gets the newest token of each row and gives back the next one: this is all
that a step waits for.
"""

import codecs
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import count

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from engine.comparison import computes_the_same
from engine.layers import fast_layers, reference_layers, reordered_weights
from engine.memory import keep_freed_memory
from engine.models import context_length, device_of, evaluation_mode
from engine.one_row import OneRowReader, is_plain, single_thread
from engine.packing import Packing, on_device
from engine.probes import repeated_to, with_other_end
from engine.texts import marked

SHORT_LENGTH = 8  # tokens of the second row when the cache is compared with the reference path


class KeyValueCache:
    """Keys and values of the tokens read so far: for each layer a tensor (2, B, nh, C, D/nh), where C, the capacity, is
    the most tokens that are read of a row."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.layers = []

    def attend_at(self, pos, n_keys):
        """The attention for reading tokens at the positions `pos` (B, T), on the model's device, all of them below
        `n_keys`.

        Each call of it adds the tokens' keys and values to a layer's cache, and lets every token see the positions up
        to its own. The model calls it once for each layer, in order, so a count of the calls tells the layer.
        """
        rows = torch.arange(len(pos), device=pos.device)[:, None]               # (B, 1)
        visible = torch.arange(n_keys, device=pos.device) <= pos[..., None]     # (B, T, n_keys)
        layer_numbers = count()

        def attend(qkv, dropout=0.0):  # qkv (B, T, 3, nh, D/nh); dropout is always 0: the model is in evaluation mode
            B, _, _, nh, d = qkv.shape
            layer = next(layer_numbers)
            if layer == len(self.layers):
                self.layers.append(qkv.new_empty(2, B, nh, self.capacity, d))
            cache = self.layers[layer][..., :n_keys, :]                         # (2, B, nh, n_keys, D/nh)
            cache[..., -1, :] = 0  # what shorter rows have there counts 0 times, but new memory could hold a NaN
            # Index tensors that a slice separates put their dimensions, (B, T), first.
            cache[:, rows, :, pos] = qkv[:, :, 1:]                              # (B, T, 2, nh, D/nh)
            q = qkv[:, :, 0].transpose(1, 2)                                    # (B, nh, T, D/nh)
            y = F.scaled_dot_product_attention(q, cache[0], cache[1], attn_mask=visible[:, None])
            return y.transpose(1, 2)                                            # (B, T, nh, D/nh)
        return attend

    def keep(self, order):
        """Keep the rows `order` (n,), on the CPU, in this order, as `filling_gaps` gives it; the others are dropped."""
        to = (order != torch.arange(len(order))).nonzero()[:, 0]                # the places whose rows change
        for layer in self.layers:
            layer[:, on_device(to, layer.device)] = layer[:, on_device(order[to], layer.device)]
        self.layers = [layer[:, :len(order)] for layer in self.layers]


def filling_gaps(kept):
    """The indices (n,) of the rows that a mask (B,) keeps, in an order that moves few of them: a row from the end takes
    the place of each row that isn't kept. [True, False, True, True] gives [0, 3, 2]."""
    n = int(kept.sum())
    order = torch.arange(n)
    order[~kept[:n]] = n + kept[n:].nonzero()[:, 0]
    return order


# --- Reading ---


class BatchReader:
    """Reads the rows of a batch, by the model's own modules. `engine.one_row.OneRowReader` has the same methods."""

    def __init__(self, model):
        self.model = model

    def prefill(self, tokens, lengths, context_size, cache):
        """Read each row's window, its last `context_size` tokens, numbered from position 0. Their keys and values
        replace those in `cache`.

        tokens (B, S), lengths (B,): the rows and how many tokens of each are filled. Returns the logits (B, V) of each
        row's next token.
        """
        T, device = min(int(lengths.max()), context_size), device_of(self.model)
        start = (lengths - context_size).clamp(min=0)                           # (B,), where the windows begin
        pos = torch.arange(T).repeat(len(tokens), 1)                            # (B, T)
        window = tokens.gather(1, start[:, None] + pos)                         # (B, T)
        last = (lengths - start - 1)[:, None]                                   # (B, 1), each window's last position
        packing = Packing(window, pos <= last)
        last_computed = packing.source.gather(1, last)[:, 0]                    # (B,)
        attend = cache.attend_at(on_device(pos, device), T)
        return packing.to(device).logits(self.model, attend, on_device(last_computed, device))  # (B, V)

    def decode_step(self, tokens, lengths, cache):
        """Read each row's last token, at position `lengths` - 1. The keys and values of the others are in `cache`, and
        those of this one are added. Arguments and result as in `prefill`."""
        pos = lengths[:, None] - 1                                              # (B, 1)
        newest, pos = (on_device(tensor, device_of(self.model)) for tensor in (tokens.gather(1, pos), pos))
        return self.model(newest, pos=pos, attend=cache.attend_at(pos, int(lengths.max())))[:, 0]  # (B, V)


def recompute(model, tokens, lengths, context_size):
    """Read each row's last `context_size` tokens by themselves, as the textbook does. Arguments and result as in
    `BatchReader.prefill`."""
    windows = (row[:n][-context_size:] for row, n in zip(tokens, lengths.tolist()))
    with reference_layers(model):
        return torch.cat([model(window[None].to(device_of(model)))[:, -1] for window in windows])  # (B, V)


def cache_works(model, tokens, context_size, reader_class, what, n_rows):
    """Whether a class of readers, BatchReader or OneRowReader, gives the reference path's logits for this model. what:
    what such a reader does, in words, for the printed line. n_rows: on how many rows it is compared, 1 or 2.

    The rows are one of the tokens (B, S), and a short one with the same prefix. `prefill` reads all except the last
    token of each, `decode_step` the last. In a context of one token nothing can be compared: the result is True.
    """
    def rows_of(length):
        row = repeated_to(tokens.flatten(), length)
        return [row, with_other_end(row[:SHORT_LENGTH])][:n_rows]

    def reference(length):
        return [model(row[None].to(device_of(model)))[0, -2:] for row in rows_of(length)]  # each (2, V)

    def fast(length):
        rows = pad_sequence(rows_of(length), batch_first=True)                  # (n_rows, length)
        lengths = torch.tensor([len(row) for row in rows_of(length)])           # (n_rows,)
        cache, reader = KeyValueCache(length), reader_class(model)
        logits = reader.prefill(rows, lengths - 1, length, cache), reader.decode_step(rows, lengths, cache)
        return list(torch.stack(logits, dim=1))                                 # each (2, V)

    length = min(max(context_size, 2), context_length(model))
    return length < 2 or computes_the_same(model, what, length, fast, reference)


class ModelReader:
    """The logits of each row's next token, by the fastest reader that computes what this model computes."""

    def __init__(self, model, tokens, context_size):
        """tokens (B, S): the rows, with room for what will be added; context_size is at most S. Compares the readers
        with the reference path."""
        self.model, self.context_size = model, context_size
        self.cache = self.one_row = None
        if cache_works(model, tokens, context_size, BatchReader, marked("Generation"), 2):
            self.cache = KeyValueCache(context_size)
            self.batch = BatchReader(model)
            what = marked("Generation of a single row")
            if is_plain(model) and cache_works(model, tokens, context_size, OneRowReader, what, 1):
                self.one_row = OneRowReader(model)

    def threads(self, n_rows):
        """A `with` block in which to read this many rows and to choose their tokens."""
        return single_thread() if n_rows == 1 and self.one_row else nullcontext()

    def next_logits(self, tokens, lengths):
        """Read what was added to the rows since the last call, or all of them in the first. Arguments and result as in
        `BatchReader.prefill`."""
        if self.cache is None:
            return recompute(self.model, tokens, lengths, self.context_size)
        reader = self.one_row if len(tokens) == 1 and self.one_row else self.batch
        # Once a row outgrows the context, every token's position changes at each step, and with it all keys and values.
        if not self.cache.layers or lengths.max() > self.context_size:
            return reader.prefill(tokens, lengths, self.context_size, self.cache)
        return reader.decode_step(tokens, lengths, self.cache)

    def keep(self, order):
        """Keep these rows, in this order, as in `KeyValueCache.keep`."""
        if self.cache is not None:
            self.cache.keep(order)


def extend_rows(model, tokens, lengths, max_new_tokens, context_size, pick, eos_id):
    """Append up to `max_new_tokens` tokens to each row. A row stops at its first `eos_id`, which is not appended. A
    generator: it yields after each step.

    tokens (B, S), lengths (B,): the rows and how many tokens of each are filled; both on the CPU, changed in place.
    pick: logits (B, V) -> ids (B,).
    """
    if max_new_tokens == 0:
        return
    reader = ModelReader(model, tokens, min(context_size, tokens.shape[1]))  # context_size may be infinite
    active = torch.arange(len(tokens))                                          # the rows that aren't dropped yet
    unfinished = torch.ones_like(active, dtype=torch.bool)                      # those of them that continue
    for _ in range(max_new_tokens):
        with reader.threads(len(active)):
            picked = pick(reader.next_logits(tokens[active], lengths[active])).cpu()  # (active rows,)
        if eos_id is not None:
            unfinished &= picked != eos_id
            if not unfinished.any():
                return
        extended = active[unfinished]
        tokens[extended, lengths[extended]] = picked[unfinished]
        lengths[extended] += 1
        yield  # before finished rows are dropped, so that nobody waits for that
        if not unfinished.all():
            order = filling_gaps(unfinished)
            reader.keep(order)
            active, unfinished = active[order], unfinished[order]


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
    # torch.multinomial's exponential race, without its check of the probabilities, which would synchronise.
    probs = logits.softmax(dim=-1)                                              # (B, V)
    return (probs / torch.empty_like(probs).exponential_()).argmax(dim=-1)


def sampler(temperature, top_k, top_p):
    """`sample` with these arguments: logits (B, V) -> ids (B,). Raises ValueError for one out of its range."""
    if not temperature >= 0:
        raise ValueError(f"temperature is {temperature}: expected 0 or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}: expected 1 or more")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}: expected more than 0, and at most 1")
    return partial(sample, temperature=temperature, top_k=top_k, top_p=top_p)


# --- Whole answers, and answers as they come ---


@contextmanager
def ready_for_batches(model):
    """Inside the `with` block, weights are rearranged for many products, and memory that is freed is used again.

    Memory that is used again need not come from the system. For 110 prompts with the 124M this saves 3 to 20 % of the
    time, depending on how fast the system gives memory, and takes 0.5 GB more at the peak.
    """
    with reordered_weights(model), keep_freed_memory() as start_keeping:
        start_keeping()
        yield


def prepare(model, idx, max_new_tokens, context_size):
    """The rows that `extend_rows` extends, from id lists or ids (B, T): tokens (B, T + new), with room for those to
    come, and lengths (B,), both on the CPU. Raises ValueError for no or an empty prompt, a negative id, a context_size
    below 1 or above the model's, and a negative max_new_tokens."""
    if not 0 < context_size <= context_length(model):
        raise ValueError(f"context_size is {context_size}, but the model reads {context_length(model)}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}: expected 0 or more")
    if len(idx) == 0 or not all(len(row) for row in idx):
        raise ValueError("no prompt, or an empty one: give at least one row, and each row at least one token")
    rows = [torch.as_tensor(row, dtype=torch.long, device="cpu") for row in idx]
    if any(row.min() < 0 for row in rows):
        raise ValueError("a token's id is below 0: ids count from 0")
    tokens = F.pad(pad_sequence(rows, batch_first=True), (0, max_new_tokens))   # (B, T + new)
    return tokens, torch.tensor([len(row) for row in rows])                     # (B, T + new), (B,)


@torch.inference_mode()
def generate(model, idx, max_new_tokens, context_size, temperature=0.0, top_k=None, eos_id=None, top_p=None,
             on_step=None):
    """Continue each row of `idx` by up to `max_new_tokens` tokens. A row stops at its first `eos_id`, which is not
    returned.

    idx: ids (B, T), or a list of B id lists of any lengths. Returns the rows with their continuations in the same form:
    id lists, or a tensor (B, T + longest continuation) on the model's device, in which shorter rows are padded with
    `eos_id`.

    temperature 0 takes the most likely token each time. Above 0, tokens are drawn from the softmax of logits /
    temperature, limited to the `top_k` most likely and to the fewest that together have probability `top_p`. Draws come
    from torch's global random state: the same seed and the same batch give the same tokens. `on_step` is called after
    each step, in which every unfinished row got a token.

    A row longer than `context_size` is continued from its last `context_size` tokens, which take the positions from 0
    again; from then on each step reads that whole window. Dropout is off. Raises ValueError as `prepare` and `sampler`
    say.
    """
    pick = sampler(temperature, top_k, top_p)
    tokens, lengths = prepare(model, idx, max_new_tokens, context_size)
    with evaluation_mode(model), fast_layers(model), ready_for_batches(model) if len(tokens) > 1 else nullcontext():
        for _ in extend_rows(model, tokens, lengths, max_new_tokens, context_size, pick, eos_id):
            if on_step is not None:
                on_step()
    if not torch.is_tensor(idx):
        return [row[:n].tolist() for row, n in zip(tokens, lengths, strict=True)]
    if eos_id is not None:
        tokens[torch.arange(tokens.shape[1]) >= lengths[:, None]] = eos_id
    with torch.inference_mode(False):  # tensors made in that mode could not be read by a model in training
        return tokens[:, :int(lengths.max())].clone().to(device_of(model))


@torch.inference_mode()
def stream(model, ids, max_new_tokens, context_size, temperature=0.0, top_k=None, eos_id=None, top_p=None):
    """The tokens with which `generate` continues one prompt, a list of ids, each as soon as it is known: a generator of
    ids. Closing it stops the generation.

    Until it ends or is closed, the model stays in evaluation mode, with layers of the class FastLinear. Raises
    ValueError as `generate` does, when the first token is requested.
    """
    pick = sampler(temperature, top_k, top_p)
    tokens, lengths = prepare(model, [ids], max_new_tokens, context_size)
    with evaluation_mode(model), fast_layers(model):
        for _ in extend_rows(model, tokens, lengths, max_new_tokens, context_size, pick, eos_id):
            yield tokens[0, lengths[0] - 1].item()


def text_pieces(ids, tokenizer):
    """The text of a stream of ids, in pieces that are whole characters: a character may take several tokens."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in ids:
        if text := decoder.decode(tokenizer.decode_single_token_bytes(token)):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
