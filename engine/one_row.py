"""Generation for a single row, in NumPy: the textbook's model on the tokens of one text, with a key/value cache.

With a single token, each weight is used once, so a step can't be faster than reading the weights from memory. NumPy's
product takes little longer than that, whether a matrix is stored transposed or not. And between the products, a
function of a short vector costs NumPy less than PyTorch. Measured in turns with PyTorch's modules, with the 124M and
two threads of an AMD EPYC: the first token after a prompt of 44 tokens takes 0.19 s instead of 0.33, each further token
33 ms instead of 47.
"""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn as nn

from engine.layers import FastLinear
from engine.structure import find_custom_parts, hooks_of
from previous_chapters import FeedForward, GPTModel, MultiHeadAttention, TransformerBlock

BLOCK = [TransformerBlock, nn.LayerNorm, MultiHeadAttention, nn.Linear, nn.Linear, nn.Dropout, nn.LayerNorm,
         FeedForward, nn.Sequential, nn.Linear, nn.GELU, nn.Linear, nn.Dropout]  # the textbook's modules, in order


class Weights(NamedTuple):
    """The weight and the bias of an nn.Linear or an nn.LayerNorm, as arrays."""

    weight: np.ndarray
    bias: np.ndarray | int  # 0, if there is none
    eps: float | None       # an nn.LayerNorm's


def is_plain(model):
    """Whether a model has the textbook's parts and no others, with weights in float32 or float64 on a CPU.

    `OneRowReader` takes the arrays of such a model and calls none of its modules, so it would ignore another module,
    parameter or hook. The comparison with the reference path doesn't replace this: it is made once, not after each
    change of the weights.
    """
    return (type(model) is GPTModel and has_textbook_modules(model) and has_dense_weights(model)
            and not find_custom_parts(model)
            and not any(map(hooks_of, model.modules()))  # also PyTorch's, such as pruning's, which compute weights anew
            and not torch.is_autocast_enabled("cpu"))


def has_textbook_modules(model):
    """Whether a GPTModel has the textbook's modules, in its order and with its settings."""
    modules = list(model.modules())
    kinds = [nn.Linear if type(module) is FastLinear else type(module) for module in modules]
    expected = [GPTModel, nn.Embedding, nn.Embedding, nn.Dropout, nn.ModuleList, *BLOCK * len(model.trf_blocks),
                nn.LayerNorm, nn.Linear]
    return (kinds == expected
            and all(module.approximate == "tanh" for module in modules if type(module) is nn.GELU)
            and all(module.bias is not None for module in modules if type(module) is nn.LayerNorm)
            and all(module.max_norm is None for module in modules if type(module) is nn.Embedding))


def has_dense_weights(model):
    """Whether a model's weights are dense tensors of float32 or float64 on a CPU, and all are in layers that have
    weights in the textbook."""
    with_weights = nn.Embedding, nn.LayerNorm, nn.Linear
    return (all(type(weight) is nn.Parameter and weight.is_cpu and weight.dtype in (torch.float32, torch.float64)
                and weight.layout == torch.strided for weight in model.parameters())
            and not any(module._parameters or module._buffers for module in model.modules()
                        if not isinstance(module, with_weights)))


class OneRowReader:
    """A plain model that reads one row. Its arrays share the memory of the model's weights."""

    def __init__(self, model):
        self.tok_emb, self.pos_emb = (array(part.weight) for part in (model.tok_emb, model.pos_emb))
        self.blocks = [(block.att.n_heads, *map(arrays_of, (block.norm1, block.att.qkv, block.att.out_proj, block.norm2,
                                                            block.ff.layers[0], block.ff.layers[2])))
                       for block in model.trf_blocks]
        self.final_norm, self.out_head = arrays_of(model.final_norm), arrays_of(model.out_head)

    def prefill(self, tokens, lengths, context_size, cache):
        """Read the row's window. Arguments and result as in `generation.BatchReader.prefill`."""
        window = tokens[0, :lengths[0]][-context_size:].numpy()                 # (T,)
        D, dtype = self.tok_emb.shape[1], torch.from_numpy(self.tok_emb).dtype
        cache.layers = [torch.zeros(2, 1, n_heads, cache.capacity, D // n_heads, dtype=dtype)
                        for n_heads, *_ in self.blocks]
        return self.read(window, 0, cache)                                      # (1, V)

    def decode_step(self, tokens, lengths, cache):
        """Read the row's last token. Arguments and result as in `generation.BatchReader.decode_step`."""
        pos = int(lengths[0]) - 1
        return self.read(tokens[0, pos:pos + 1].numpy(), pos, cache)            # (1, V)

    def read(self, ids, pos, cache):
        """Read the tokens `ids` (T,) from position `pos` on, and add their keys and values to the cache. Returns the
        logits (1, V) of the token that follows."""
        T = len(ids)
        x = self.tok_emb[ids] + self.pos_emb[pos:pos + T]                       # (T, D)
        for (n_heads, norm1, qkv, out_proj, norm2, widen, narrow), stored in zip(self.blocks, cache.layers):
            y = linear(norm(x, norm1), qkv).reshape(T, 3, n_heads, -1).transpose(1, 2, 0, 3)  # (3, nh, T, D/nh)
            seen = stored.numpy()[:, 0, :, :pos + T]                            # (2, nh, S, D/nh), S = pos + T
            seen[:, :, pos:] = y[1:]
            n = 1 if stored is cache.layers[-1] else T  # no block reads what the last one gives for earlier tokens
            x = x[-n:]                                                          # (n, D)
            x += linear(attend(y[0, :, -n:], *seen), out_proj)                  # (n, D)
            x += linear(gelu(linear(norm(x, norm2), widen)), narrow)            # (n, D)
        return torch.from_numpy(linear(norm(x, self.final_norm), self.out_head))  # (1, V)


def attend(q, keys, values):
    """Causal attention of the last T of S tokens: q (nh, T, D/nh), keys and values (nh, S, D/nh) -> (T, D)."""
    T, S = q.shape[1], keys.shape[1]
    scores = q @ keys.transpose(0, 2, 1)                                        # (nh, T, S)
    scores /= q.shape[2] ** 0.5
    if T > 1:
        scores[:, ~np.tri(T, S, S - T, dtype=bool)] = -np.inf
    scores -= scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores, out=scores)
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ values).transpose(1, 0, 2).reshape(T, -1)                 # (nh, T, D/nh) -> (T, D)


def norm(x, layer):
    """nn.LayerNorm of rows: (T, D) -> (T, D)."""
    D = x.shape[1]
    x = x - (x.sum(axis=1) / D)[:, None]
    x *= ((np.vecdot(x, x) / D + layer.eps) ** -0.5)[:, None]
    x *= layer.weight
    x += layer.bias
    return x


def linear(x, layer):
    """nn.Linear of rows: (T, D_in) -> (T, D_out)."""
    y = (layer.weight @ x.T).T  # in this order the product is fast for both ways of storing the weight
    y += layer.bias
    return y


def gelu(x):
    """GPT-2's GELU, the approximation by tanh (Hendrycks and Gimpel, 2016), of an array of any shape.

    0.5 x (1 + tanh(u)) equals x / (1 + exp(-2u)), and NumPy's exp is faster than its tanh: this saves 3 % of the first
    token's time.
    """
    scale = -2 * (2 / np.pi) ** 0.5
    y = x * x
    y *= 0.044715 * scale
    y += scale
    y *= x                                                                      # -2u
    np.minimum(y, 80, out=y)  # so that exp doesn't overflow; the result is 0 there
    np.exp(y, out=y)
    y += 1
    return np.divide(x, y, out=y)


def arrays_of(module):
    """The Weights of an nn.Linear or an nn.LayerNorm."""
    return Weights(array(module.weight), 0 if module.bias is None else array(module.bias), getattr(module, "eps", None))


def array(weight):
    """A weight as an array that shares its memory."""
    return weight.detach().numpy()


@contextmanager
def single_thread():
    """PyTorch has one thread inside the `with` block. Between its loops, its other threads keep their cores busy for a
    while, and would hinder NumPy's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
