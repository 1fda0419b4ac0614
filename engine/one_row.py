"""Generation for a single row, in NumPy: the textbook's model on the tokens of one text, with a key/value cache.

With a single token, each weight is used once, so a step can't be faster than reading the weights from memory. NumPy's
product takes no longer than that, whether a matrix is stored transposed or not. And between the products, a function of
a short vector costs NumPy 1 to 3 µs, PyTorch several times as much. PENDING
"""

from contextlib import contextmanager

import numpy as np
import torch
import torch.nn as nn

from engine.comparison import find_special_parts
from engine.layers import reference_layers
from previous_chapters import FeedForward, GPTModel, MultiHeadAttention, TransformerBlock

BLOCK = [TransformerBlock, nn.LayerNorm, MultiHeadAttention, nn.Linear, nn.Linear, nn.Dropout, nn.LayerNorm,
         FeedForward, nn.Sequential, nn.Linear, nn.GELU, nn.Linear, nn.Dropout]  # the textbook's modules, in order


def is_plain(model):
    """Whether a model is the textbook's in every part, with weights in float32 or float64 on a CPU. Only such a model
    is read here."""
    if type(model) is not GPTModel:
        return False
    with reference_layers(model):
        kinds = [type(module) for module in model.modules()]
    return (
        kinds == [GPTModel, nn.Embedding, nn.Embedding, nn.Dropout, nn.ModuleList, *BLOCK * len(model.trf_blocks),
                  nn.LayerNorm, nn.Linear]
        and all(module.approximate == "tanh" for module in model.modules() if type(module) is nn.GELU)
        and all(module.bias is not None for module in model.modules() if type(module) is nn.LayerNorm)
        and all(module.max_norm is None for module in model.modules() if type(module) is nn.Embedding)
        and all(type(weight) is nn.Parameter and weight.is_cpu and weight.dtype in (torch.float32, torch.float64)
                for weight in model.parameters())
        and not find_special_parts(model)
    )


def prefill_one(model, tokens, length, context_size, cache):
    """Read the only row's window. Arguments and result as in `generation.prefill`."""
    window = tokens[0, :length[0]][-context_size:]                              # (T,)
    cache.layers = [block.att.qkv.weight.new_zeros(2, 1, block.att.n_heads, cache.capacity,
                                                   block.att.out_proj.in_features // block.att.n_heads)
                    for block in model.trf_blocks]
    return read(model, window.numpy(), 0, cache)                                # (1, V)


def decode_one(model, tokens, length, cache):
    """Read the only row's last token. Arguments and result as in `generation.prefill`."""
    pos = int(length[0]) - 1
    return read(model, tokens[0, pos:pos + 1].numpy(), pos, cache)              # (1, V)


def read(model, ids, pos, cache):
    """Read the tokens `ids` (T,) from position `pos` on, and add their keys and values to the cache. Returns the logits
    (1, V) of the token that follows."""
    x = array(model.tok_emb.weight)[ids] + array(model.pos_emb.weight)[pos:pos + len(ids)]  # (T, D)
    for block, layer in zip(model.trf_blocks, cache.layers, strict=True):
        qkv = linear(norm(x, block.norm1), block.att.qkv)                       # (T, 3 * D)
        q, *keys_and_values = qkv.reshape(len(ids), 3, block.att.n_heads, -1).transpose(1, 2, 0, 3)  # (nh, T, D/nh)
        seen = layer[:, 0, :, :pos + len(ids)].numpy()                          # (2, nh, S, D/nh), S = pos + T
        seen[:, :, pos:] = keys_and_values
        x = x + linear(attend(q, *seen), block.att.out_proj)                    # (T, D)
        widen, _, narrow = block.ff.layers
        x = x + linear(gelu(linear(norm(x, block.norm2), widen)), narrow)       # (T, D)
    return torch.from_numpy(linear(norm(x[-1:], model.final_norm), model.out_head))  # (1, V)


def attend(q, keys, values):
    """Causal attention of the last T of S tokens: q (nh, T, D/nh), keys and values (nh, S, D/nh) -> (T, D)."""
    T, S = q.shape[1], keys.shape[1]
    scores = q @ keys.transpose(0, 2, 1) / q.shape[2] ** 0.5        # (nh, T, S)
    scores = np.where(np.tri(T, S, S - T, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ values).transpose(1, 0, 2).reshape(T, -1)                 # (nh, T, D/nh) -> (T, D)


def norm(x, layer):
    """nn.LayerNorm of rows: (T, D) -> (T, D)."""
    x = x - x.mean(axis=-1, keepdims=True)
    variance = (x * x).mean(axis=-1, keepdims=True)                             # (T, 1)
    return x / np.sqrt(variance + layer.eps) * array(layer.weight) + array(layer.bias)


def linear(x, layer):
    """nn.Linear of rows: (T, D_in) -> (T, D_out)."""
    y = (array(layer.weight) @ x.T).T  # in this order the product is fast for both ways of storing the weight
    return y if layer.bias is None else y + array(layer.bias)


def gelu(x):
    """GPT-2's GELU, the approximation by tanh (Hendrycks and Gimpel, 2016), of an array of any shape."""
    return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x)))


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
