"""The toolbox of the earlier articles: GPT-2, its weights, text generation, losses and the training loop.

What is notable here:
- the model is OpenAI's GPT-2 to the last detail: pre-norm blocks, one fused query/key/value projection, tanh GELU,
  dropout in its four places, and an output head that *is* the token embedding (one parameter, counted once)
- attention runs in PyTorch's fused kernel, in training and with a key/value cache
- nothing is computed that can't matter: no padding, the sentences that all rows of a batch begin with once, and in the
  output head, the model's largest matrix product, scored positions only
- `generate` continues prompts of different lengths in one batch, each row until its own end-of-text
- training can be stopped at any moment, even killed, and goes on after the last whole epoch as if it had not been

Shapes in comments: B rows in the batch, T tokens in a row, D embedding width, nh heads, V vocabulary size, S columns of
the key/value cache, N positions that a packed batch computes.
"""

import ctypes
import os
import sys
import zlib
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

IGNORE_INDEX = -100  # the target that cross-entropy skips, by PyTorch's own default


# --- The model ---


class Linear(nn.Linear):
    """PyTorch's linear layer, faster for few rows on a CPU, and without random initial weights of its own, since GPTModel
    draws GPT-2's for all of its parts."""

    def reset_parameters(self):
        pass

    def forward(self, x):
        """x (…, D_in) -> (…, D_out)."""
        rows, weight, bias = x.shape[:-1].numel(), self.weight, self.bias
        if rows > 64 or not x.is_cpu or not weight.is_contiguous():
            return super().forward(x)
        # Generation has few rows and waits for the weights to be read from memory. CPU libraries read them up to three times
        # faster in parts for a single row, and for more rows as columns to their right, eight or a multiple of it.
        if rows == 1:
            parts = next(n for n in range(32, 0, -1) if self.out_features % n == 0)
            weights = weight.view(parts, -1, self.in_features)
            column = x.reshape(1, -1).T.expand(parts, -1, 1)
            y = torch.bmm(weights, column) if bias is None else torch.baddbmm(bias.view(parts, -1, 1), weights, column)
            return y.view(*x.shape[:-1], -1)
        more = 0 if rows <= 4 else -rows % 8  # two to four columns are fast too
        columns = F.pad(x.reshape(rows, self.in_features), (0, 0, 0, more)).T   # (D_in, rows + more)
        y = weight @ columns if bias is None else torch.addmm(bias[:, None], weight, columns)
        return y.T[:rows].contiguous().view(*x.shape[:-1], self.out_features)


class Embedding(nn.Embedding):
    """PyTorch's embedding, also without random initial weights."""

    def reset_parameters(self):
        pass


class MultiHeadAttention(nn.Module):
    """Causal multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, cfg):
        super().__init__()
        if cfg["emb_dim"] % cfg["n_heads"]:
            raise ValueError(f"emb_dim {cfg['emb_dim']} can't be divided among n_heads {cfg['n_heads']}")
        self.n_heads = cfg["n_heads"]
        self.qkv = Linear(cfg["emb_dim"], 3 * cfg["emb_dim"], bias=cfg["qkv_bias"])
        self.out_proj = Linear(cfg["emb_dim"], cfg["emb_dim"])
        self.drop_rate = cfg["drop_rate"]

    def forward(self, x, cache=None, pos=None, packing=None):
        """x (B, T, D) -> (B, T, D). With `cache` (2, B, nh, S, D/nh), the tokens' keys and values are written to the
        columns `pos` (B, T) first, and each token sees the columns up to its own. With a `Packing`, x has the positions
        that are computed: (N, D) -> (N, D)."""
        qkv = self.qkv(x)                                                       # (B, T, 3D)
        if packing is not None:  # only attention looks along the rows: put the tokens back in their places
            qkv = F.embedding(packing.places, qkv)
        B, T, _ = qkv.shape
        qkv = qkv.view(B, T, 3, self.n_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)                                    # each (B, nh, T, D/nh)
        if cache is None:
            dropout = self.drop_rate if self.training else 0.0
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        else:
            rows = torch.arange(B, device=x.device)[:, None]
            cache[:, rows, :, pos] = qkv[:, :, 1:]                              # (B, T, 2, nh, D/nh)
            visible = torch.arange(cache.shape[3], device=x.device) <= pos[..., None]  # (B, T, S)
            y = F.scaled_dot_product_attention(q, cache[0], cache[1], attn_mask=visible[:, None])
        y = y.transpose(1, 2).flatten(2)                                        # (B, T, D)
        return self.out_proj(y if packing is None else y[packing.computed])


class FeedForward(nn.Module):
    """Two layers applied to every token alone: D -> 4D -> D, with the GELU that GPT-2 uses (its tanh form)."""

    def __init__(self, cfg):
        super().__init__()
        self.layers = nn.Sequential(
            Linear(cfg["emb_dim"], 4 * cfg["emb_dim"]),
            nn.GELU(approximate="tanh"),
            Linear(4 * cfg["emb_dim"], cfg["emb_dim"]),
        )

    def forward(self, x):
        return self.layers(x)                                                   # (B, T, D)


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each reads a normalised copy of the stream and adds its result to it."""

    def __init__(self, cfg):
        super().__init__()
        self.norm1 = nn.LayerNorm(cfg["emb_dim"])
        self.att = MultiHeadAttention(cfg)
        self.norm2 = nn.LayerNorm(cfg["emb_dim"])
        self.ff = FeedForward(cfg)
        self.drop_shortcut = nn.Dropout(cfg["drop_rate"])

    def forward(self, x, cache=None, pos=None, packing=None):
        x = x + self.drop_shortcut(self.att(self.norm1(x), cache, pos, packing))  # (B, T, D)
        return x + self.drop_shortcut(self.ff(self.norm2(x)))                   # (B, T, D)


class GPTModel(nn.Module):
    """GPT-2 (Radford et al., 2019), hand-written.

    `cfg` has the keys vocab_size, context_length, emb_dim, n_heads, n_layers, drop_rate and qkv_bias. A new model has
    random weights as `transformers` draws GPT-2's: normal with deviation 0.02, smaller by sqrt(2 * n_layers) where a block
    adds to the stream, biases zero. Raises ValueError when the heads don't divide the width.
    """

    def __init__(self, cfg):
        super().__init__()
        self.tok_emb = Embedding(cfg["vocab_size"], cfg["emb_dim"])
        self.pos_emb = Embedding(cfg["context_length"], cfg["emb_dim"])
        self.drop_emb = nn.Dropout(cfg["drop_rate"])
        self.trf_blocks = nn.ModuleList(TransformerBlock(cfg) for _ in range(cfg["n_layers"]))
        self.final_norm = nn.LayerNorm(cfg["emb_dim"])
        self.out_head = Linear(cfg["emb_dim"], cfg["vocab_size"], bias=False)
        self.out_head.weight = self.tok_emb.weight  # tied: the same Parameter, not a copy

        for name, parameter in self.named_parameters():
            if parameter.is_meta:  # nothing to fill; the attempt would make PyTorch import its compiler, for a second
                continue
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:  # the gains of LayerNorm, with one dimension, stay at one
                adds_to_stream = name.endswith(("out_proj.weight", "layers.2.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * cfg["n_layers"]) ** 0.5 if adds_to_stream else 0.02)

    def hidden_states(self, idx, cache=None, pos=None, packing=None):
        """What the output head reads: token ids (B, T) -> (B, T, D).

        With `cache` (n_layers, 2, B, nh, S, D/nh), as `new_cache` makes it, `pos` (B, T) is each token's place in its
        row; keys and values of earlier tokens are taken from the cache and those of the new ones are added to it.
        With a `Packing` only its N positions are computed, and the result has them row after row: (N, D).
        Raises ValueError when T exceeds the context length.
        """
        T, context_length = idx.shape[1], self.pos_emb.num_embeddings
        if T > context_length:
            raise ValueError(f"{T} tokens in a row, but the context length is {context_length}: shorten the text")
        if pos is None:
            pos = torch.arange(T, device=idx.device)                            # (T,)
        read = slice(None) if packing is None else packing.computed
        # On a CPU the gradient of looking up tokens stays sparse, to be added to the head's, of the same matrix.
        sparse = idx.is_cpu and self.out_head.weight is self.tok_emb.weight
        tok_embeds = F.embedding(idx[read], self.tok_emb.weight, sparse=sparse)
        x = self.drop_emb(tok_embeds + self.pos_emb(pos.expand_as(idx)[read]))  # (B, T, D)
        for i, block in enumerate(self.trf_blocks):
            x = block(x, None if cache is None else cache[i], pos, packing)
        return self.final_norm(x)

    def forward(self, idx):
        """Token ids (B, T) -> logits (B, T, V): at each place, a score for every token that could come next."""
        return self.out_head(self.hidden_states(idx))

    def new_cache(self, batch_size, columns):
        """Room for keys and values of `columns` tokens in each row: (n_layers, 2, B, nh, S, D/nh)."""
        weight, n_heads = self.tok_emb.weight, self.trf_blocks[0].att.n_heads
        return weight.new_zeros(len(self.trf_blocks), 2, batch_size, n_heads, columns, weight.shape[1] // n_heads)


@contextmanager
def evaluation_mode(model):
    """Dropout off inside the `with` block; afterwards the model is in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


class Packing(NamedTuple):
    """Which positions of a batch of token ids are computed, N in all, as `pack` chooses them."""

    computed: torch.Tensor  # (B, T), true at those N
    places: torch.Tensor  # (B, T), for each position the number of the computed one that it equals, 0 to N - 1


def pack(idx, wanted, share=True):
    """The Packing of token ids (B, T) that computes what the `wanted` positions, a mask (B, T), depend on: each row up to its
    last wanted one, since no token sees what comes after it. What all rows begin with is computed once: the same tokens in
    the same places give the same hidden states. With `share=False` each row has its own, as dropout wants it.
    """
    computed = wanted.flip(1).cumsum(dim=1).flip(1) > 0                         # (B, T)
    shared = int(((idx == idx[:1]) & computed).all(dim=0).cumprod(dim=0).sum()) if share else 0
    computed[1:, :shared] = False
    computed[0, 0] = True  # so that there is something to compute even where nothing is wanted
    places = computed.flatten().cumsum(dim=0).view_as(computed) - 1  # where nothing is computed: any number
    places[:, :shared] = torch.arange(shared, device=idx.device)
    return Packing(computed, places)


# --- OpenAI's weights, and our own files ---

BLOCK_WEIGHTS = {  # where OpenAI's name for a layer's tensor goes in a TransformerBlock
    "ln_1/g": "norm1.weight", "ln_1/b": "norm1.bias",
    "attn/c_attn/w": "att.qkv.weight", "attn/c_attn/b": "att.qkv.bias",
    "attn/c_proj/w": "att.out_proj.weight", "attn/c_proj/b": "att.out_proj.bias",
    "ln_2/g": "norm2.weight", "ln_2/b": "norm2.bias",
    "mlp/c_fc/w": "ff.layers.0.weight", "mlp/c_fc/b": "ff.layers.0.bias",
    "mlp/c_proj/w": "ff.layers.2.weight", "mlp/c_proj/b": "ff.layers.2.bias",
}


def flatten_params(tree, prefix=""):
    """The arrays of a nested `params` dictionary, each with its path: ("blocks/0/attn/c_attn/w", array), …"""
    for key, value in enumerate(tree) if isinstance(tree, list) else tree.items():
        if isinstance(value, (dict, list)):
            yield from flatten_params(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def load_weights_into_gpt(gpt, params):
    """Put OpenAI's weights (`params`, as `download_and_load_gpt2` returns them) into a GPTModel.

    OpenAI stores the matrix of a linear layer input-first, (D_in, D_out) for x @ w + b; PyTorch's is its transpose. A
    model with weights of its own gets copies. A model built on the meta device, which has none yet, takes the arrays
    themselves, so that loading makes no second copy; changing its weights in place then changes the arrays too.
    Raises ValueError that names the first tensor that is missing, left over or misshapen, before the model changes.
    """
    places = {"wte": "tok_emb.weight", "wpe": "pos_emb.weight", "g": "final_norm.weight", "b": "final_norm.bias"}
    for i in range(len(gpt.trf_blocks)):
        places |= {f"blocks/{i}/{theirs}": f"trf_blocks.{i}.{ours}" for theirs, ours in BLOCK_WEIGHTS.items()}
    parameters = dict(gpt.named_parameters())
    places = {theirs: ours for theirs, ours in places.items() if ours in parameters}  # qkv_bias=False has no such bias
    arrays = dict(flatten_params(params))
    for name in places:
        if name not in arrays:
            raise ValueError(f"the checkpoint has no tensor {name!r}, which the model needs: does the config fit it?")
    state = {}
    for name, array in arrays.items():
        if name not in places:
            raise ValueError(f"the checkpoint's tensor {name!r} has no place in the model: does the config fit it?")
        parameter = parameters[places[name]]
        tensor = torch.from_numpy(array.T if name.endswith("/w") else array)
        if tensor.shape != parameter.shape:
            raise ValueError(f"the checkpoint's tensor {name!r} has shape {array.shape}, which doesn't fit the model's "
                             f"{places[name]} {tuple(parameter.shape)}: does the config fit it?")
        state[places[name]] = tensor
    state["out_head.weight"] = state["tok_emb.weight"]
    gpt.load_state_dict(state, assign=gpt.tok_emb.weight.is_meta)
    gpt.out_head.weight = gpt.tok_emb.weight  # assigning has made them two parameters: tie them again


def save_model(model, cfg, path):
    """Write a GPTModel's weights and its config to one file, which `load_model` reads."""
    torch.save({"config": cfg, "weights": model.state_dict()}, path)


def load_model(path):
    """The GPTModel in a file that `save_model` wrote, on the CPU, in evaluation mode, with its config: (model, cfg).

    Only tensors and plain values are read from the file (`weights_only=True`): it can't run code.
    """
    saved = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        model = GPTModel(saved["config"])
    model.load_state_dict(saved["weights"], assign=True)
    model.out_head.weight = model.tok_emb.weight  # assigning has made them two parameters: tie them again
    return model.eval(), saved["config"]


# --- Text and generation ---


def text_to_token_ids(text, tokenizer):
    """The ids of a text as a batch of one row: (1, T). A literal <|endoftext|> becomes the special token."""
    return torch.tensor([tokenizer.encode(text, allowed_special={"<|endoftext|>"})])


def token_ids_to_text(token_ids, tokenizer):
    """The text of one row of ids, (1, T) or (T,)."""
    return tokenizer.decode(token_ids.flatten().tolist())


def pick_next(logits, temperature, top_k, top_p):
    """The next token of each row: logits (B, V) -> ids (B,). The most likely one where temperature is 0, else drawn."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits / temperature
    if top_k is not None:
        weakest_kept = logits.topk(min(top_k, logits.shape[1])).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < weakest_kept, -torch.inf)
    if top_p is not None:  # nucleus sampling (Holtzman et al., 2020): the fewest tokens that together reach top_p
        ordered, order = logits.sort(descending=True)                           # (B, V)
        probs = ordered.softmax(dim=-1)
        ordered = ordered.masked_fill(probs.cumsum(dim=-1) - probs >= top_p, -torch.inf)
        logits = torch.empty_like(logits).scatter(1, order, ordered)
    return torch.multinomial(logits.softmax(dim=-1), num_samples=1).squeeze(1)


@torch.inference_mode()
def generate(model, idx, max_new_tokens, context_size, temperature=0.0, top_k=None, eos_id=None, top_p=None):
    """Continue each row of `idx` by up to `max_new_tokens` tokens; a row ends before its own `eos_id`.

    idx: ids (B, T), or a list of B id lists of any lengths. Returns the rows with their continuations in the same form:
    a tensor (B, T + longest continuation), in which rows that ended earlier are filled up with `eos_id`, or id lists.

    temperature 0 takes the most likely token each time; above 0, tokens are drawn from the softmax of logits /
    temperature, limited to the `top_k` most likely and to the fewest that together have probability `top_p`. Draws come
    from torch's global random state: the same seed and the same batch give the same tokens.

    Keys and values of earlier tokens are kept, so that a step costs one token and not the whole text. A row longer than
    `context_size` is continued from its last `context_size` tokens, which take the positions from 0 again; from then on
    each step reads that whole window (positions, and with them the kept keys and values, change at every step).

    Raises ValueError for no or an empty prompt, a context_size above the model's, or a sampling argument out of its range.
    """
    if not 0 < context_size <= model.pos_emb.num_embeddings:
        raise ValueError(f"context_size is {context_size}, but the model reads {model.pos_emb.num_embeddings}")
    if temperature < 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError(f"want temperature >= 0, top_k >= 1 and 0 < top_p <= 1, got {temperature}, {top_k}, {top_p}")
    if len(idx) == 0 or not all(len(row) for row in idx):
        raise ValueError("no prompt, or an empty one: give at least one row, and each row at least one token")

    device = model.tok_emb.weight.device
    rows = [torch.as_tensor(row, dtype=torch.long, device=device) for row in idx]
    length = torch.tensor([len(row) for row in rows], device=device)            # (B,) tokens so far
    tokens = F.pad(pad_sequence(rows, batch_first=True), (0, max_new_tokens))   # (B, T + new)
    with evaluation_mode(model):
        cache = model.new_cache(len(rows), min(tokens.shape[1], context_size))
        active = torch.arange(len(rows), device=device)                         # the rows in the cache
        going_on = torch.ones_like(active, dtype=torch.bool)                    # those that haven't ended
        for step in range(max_new_tokens):
            n = length[active]
            longest = int(n.max())
            if step == 0 or longest > context_size:  # read each row's window from its start
                start = (n - context_size).clamp(min=0)                         # (B,)
                pos = torch.arange(min(longest, context_size), device=device).repeat(len(active), 1)  # (B, T)
                window = tokens[active].gather(1, start[:, None] + pos)
                packing = pack(window, pos < (n - start)[:, None])
                hidden = model.hidden_states(window, cache[..., :pos.shape[1], :], pos, packing)  # (N, D)
                newest = hidden[packing.places.gather(1, (n - start - 1)[:, None])[:, 0]]  # (B, D), each row's last
            else:  # read only the newest token of each row
                pos = n[:, None] - 1                                            # (B, 1)
                newest = model.hidden_states(tokens[active].gather(1, pos), cache[..., :longest, :], pos)[:, 0]  # (B, D)
            picked = pick_next(model.out_head(newest), temperature, top_k, top_p)
            if eos_id is not None:
                going_on &= picked != eos_id
                if not going_on.any():
                    break
            tokens[active[going_on], n[going_on]] = picked[going_on]
            length[active[going_on]] += 1
            if going_on.sum() <= 0.75 * len(active):  # drop the rows that ended, many at a time: it copies the cache
                active, cache, going_on = active[going_on], cache[:, :, going_on], going_on[going_on]

    if not torch.is_tensor(idx):
        return [row[:n].tolist() for row, n in zip(tokens, length)]
    if eos_id is not None:
        tokens[torch.arange(tokens.shape[1], device=device) >= length[:, None]] = eos_id
    with torch.inference_mode(False):  # what is made in that mode could not be read by a model in training
        return tokens[:, :int(length.max())].clone()


# --- Losses and training ---


def mixed_precision(device):
    """bfloat16 matrix products where the hardware has them (CUDA, from Ampere on), float32 everywhere else."""
    device_type = torch.device(device).type
    has_bf16 = device_type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device_type, torch.bfloat16, enabled=has_bf16)


class HeadCrossEntropy(torch.autograd.Function):
    """Output head and cross-entropy in one: hidden states (N, D), the head's weight (V, D), and pairs of a hidden state's
    number and a target for it, both (P,) -> the sum of the pairs' losses, in nats.

    Logits are the largest tensor of a step. Here they exist once: the backward pass makes them their own gradient in place,
    for each pair softmax minus one at the target. (`F.cross_entropy` holds three such tensors at that moment.)
    """

    @staticmethod
    def forward(ctx, hidden, head, numbers, targets):
        logits = head @ hidden.T                                                # (V, N)
        ctx.dtype = logits.dtype  # the backward pass's products are in bfloat16 if this one is
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits.sub_(logits.amax(dim=0))  # the largest becomes 0, so that no exponential overflows
        of_targets = logits[targets, numbers]                                   # (P,)
        exps = logits.exp_()
        sums = exps.sum(dim=0)                                                  # (N,)
        ctx.save_for_backward(hidden, head, numbers, targets, exps, sums)
        return (sums.log()[numbers] - of_targets).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss):
        hidden, head, numbers, targets, exps, sums = ctx.saved_tensors
        grad = exps.mul_(numbers.bincount(minlength=len(hidden)) * grad_loss / sums)  # (V, N)
        grad.index_put_((targets, numbers), -grad_loss.to(grad.dtype), accumulate=True)
        grad = grad.to(ctx.dtype)
        return grad.T @ head.to(ctx.dtype), grad @ hidden.to(ctx.dtype), None, None  # (N, D), (V, D)


def calc_loss_batch(input_batch, target_batch, model, device):
    """Mean cross-entropy over the scored positions of a batch, in nats: inputs and targets (B, T) -> scalar.

    Positions whose target is -100 are left out before the output head, and what comes after the last scored position
    of a row is left out altogether: it can't change the loss, since no token sees the tokens after it. What all rows begin
    with is computed once, unless dropout makes a difference between them. A batch without any scored position has loss 0,
    not 0/0.
    """
    input_batch, target_batch = input_batch.to(device), target_batch.to(device)
    scored = target_batch != IGNORE_INDEX                                       # (B, T)
    packing = pack(input_batch, scored, share=not (model.training and model.drop_emb.p))
    read, numbers = packing.places[scored].unique(return_inverse=True)          # (what the head reads,), (scored,)
    with mixed_precision(device):
        # The head comes before the lookup of the same weights, so that the backward pass has the lookup's gradient first:
        # it is sparse, and only then added in place instead of to a copy of the whole matrix.
        head = model.out_head.weight.expand_as(model.out_head.weight)           # (V, D)
        hidden = model.hidden_states(input_batch, packing=packing)              # (N, D)
        loss = HeadCrossEntropy.apply(hidden[read], head, numbers, target_batch[scored])
    return loss / scored.sum().clamp(min=1)


@torch.no_grad()
def calc_loss_loader(data_loader, model, device, num_batches=None):
    """Mean loss per scored token over the first `num_batches` batches of a loader (all, if None), in nats: a float.

    Every token counts the same, whichever batch it is in. The model's mode and torch's random state are as before
    afterwards, so evaluating never changes the order of a training run. Raises ValueError for a loader without batches.
    """
    if len(data_loader) == 0:
        raise ValueError("the loader has no batches: fewer entries than one batch, with drop_last=True?")
    loss_sum, scored_sum = 0.0, 0
    with evaluation_mode(model), torch.random.fork_rng(devices=[]):
        for input_batch, target_batch in islice(data_loader, num_batches):
            scored = int((target_batch != IGNORE_INDEX).sum())
            loss_sum += calc_loss_batch(input_batch, target_batch, model, device).item() * scored
            scored_sum += scored
    return loss_sum / max(scored_sum, 1)


def own_memory(model):
    """Copy each weight into memory of its own, in rows. Weights that were taken over from OpenAI's files lie there
    transposed, and training would be an eighth slower: the optimiser would reorder every gradient."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)


def keep_freed_memory():
    """Have the process keep the memory that it frees, until it ends (with glibc, the usual C library on Linux; elsewhere
    nothing happens). A training step asks for what the step before it freed, and fetching that from the system again, page
    after page, each zeroed first, would take 5 to 15 % of the time. See mallopt(3) for the two switches.

    Best called when what stays, the weights and AdamW's moments, is there already: otherwise it would come to lie among
    what is kept for reuse, and cut it into pieces too small for the largest gradient."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never give the heap's free end back
        libc.mallopt(-4, 0)   # M_MMAP_MAX: large tensors, too, come from the heap


def train_model_simple(model, train_loader, val_loader, optimizer, device, num_epochs, eval_freq, eval_iter,
                       start_context, tokenizer, scheduler=None, max_norm=None, checkpoint_dir=None):
    """Fine-tune a model, printing losses as it goes and, after each epoch, how it continues `start_context`.

    Every `eval_freq` steps it notes the mean training loss per scored token since the last note (taken from the steps
    themselves: no extra pass), the validation loss over `eval_iter` batches (all, if None), and the number of real
    tokens read so far, padding left out. `scheduler`, of torch.optim.lr_scheduler, has its `step()` called after every step;
    with `max_norm` gradients are clipped to that norm. Loaders yield (inputs, targets), both (B, T).

    With `checkpoint_dir` everything the run depends on is saved there after each epoch. Called again with a new model,
    the same loaders and settings, it goes on after the last epoch saved and ends as if it had never stopped (on a CPU,
    bit for bit). The two latest epochs are kept, each about three times the size of the weights.

    After the first step the process keeps the memory it frees, see `keep_freed_memory`.

    Returns (train_losses, val_losses, tokens_seen), three lists with one item per note; after a KeyboardInterrupt, what
    was noted up to then. Raises ValueError for a training loader without batches, for a `checkpoint_dir` with another
    run in it, and for a loss (or a gradient to be clipped) that isn't finite, before it is applied.
    """
    if len(train_loader) == 0:
        raise ValueError("the training loader has no batches: fewer entries than one batch, with drop_last=True?")
    run = {"num_epochs": num_epochs, "steps_per_epoch": len(train_loader), "optimizer": optimizer.defaults,
           "scheduler": type(scheduler).__name__, "max_norm": max_norm,
           "parameters": sum(parameter.numel() for parameter in model.parameters())}
    parts = [model, optimizer] + ([scheduler] if scheduler else [])
    if not optimizer.state:  # moments that exist already lie as the weights do
        own_memory(model)
    notes, loss_sum, scored_sum, tokens_seen, global_step = [], 0.0, 0, 0, -1
    if checkpoint_dir is not None and (progress := resume(checkpoint_dir, run, parts, train_loader)):
        notes, loss_sum, scored_sum, tokens_seen, global_step = progress

    # On standard output, like the printed losses: the bar and the lines then stay in order, in a notebook too.
    with keep_what_is_there_on_interrupt(), tqdm(initial=global_step + 1, total=num_epochs * len(train_loader),
                                                 desc="Fine-tuning", unit="step", file=sys.stdout) as bar:
        for epoch in range((global_step + 1) // len(train_loader), num_epochs):
            model.train()
            for input_batch, target_batch in train_loader:
                global_step += 1
                optimizer.zero_grad()
                loss = calc_loss_batch(input_batch, target_batch, model, device)
                check_finite("loss", loss, global_step, input_batch, tokenizer)
                loss.backward()
                if max_norm is not None:
                    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                    check_finite("gradient's norm", norm, global_step, input_batch, tokenizer)
                optimizer.step()
                keep_freed_memory()  # not before the first step, in which AdamW makes its moments
                if scheduler is not None:
                    scheduler.step()

                scored = int((target_batch != IGNORE_INDEX).sum())
                loss_sum, scored_sum = loss_sum + loss.item() * scored, scored_sum + scored
                tokens_seen += int((input_batch != tokenizer.eot_token).sum())
                bar.update()
                if global_step % eval_freq == 0:
                    train_loss = loss_sum / max(scored_sum, 1)
                    val_loss = calc_loss_loader(val_loader, model, device, num_batches=eval_iter)
                    notes.append((train_loss, val_loss, tokens_seen))
                    loss_sum, scored_sum = 0.0, 0
                    bar.write(f"Ep {epoch + 1} (Step {global_step:06d}): Train loss {train_loss:.3f}, "
                              f"Val loss {val_loss:.3f}", file=sys.stdout)
            bar.write(sample_text(model, tokenizer, start_context), file=sys.stdout)
            if checkpoint_dir is not None:
                progress = notes, loss_sum, scored_sum, tokens_seen, global_step
                save_checkpoint(checkpoint_dir, epoch + 1, run, parts, train_loader, progress)
    return tuple([note[i] for note in notes] for i in range(3))


@contextmanager
def keep_what_is_there_on_interrupt():
    """A KeyboardInterrupt (a notebook's stop button) ends the block with a message instead of an error."""
    try:
        yield
    except KeyboardInterrupt:
        print("Interrupted: the model keeps what it has learned up to here, and the losses noted so far are returned.")


def check_finite(what, value, step, input_batch, tokenizer):
    """Raise ValueError with the texts of the batch unless `value`, a tensor, is finite."""
    if not value.isfinite():
        texts = "\n".join(repr(tokenizer.decode(row[row != tokenizer.eot_token].tolist())) for row in input_batch)
        raise ValueError(f"the {what} at step {step} is {value.item()}; the weights are those from before this step. Try "
                         f"a lower learning rate or max_norm=1.0, and look at the texts of this batch:\n{texts}")


def random_generators(train_loader):
    """What training draws from: PyTorch's generator on the CPU, the loader's own if it has one, and those on CUDA GPUs."""
    own = getattr(train_loader, "generator", None)
    return [torch.default_generator] + ([own] if own else []) + list(torch.cuda.default_generators)


def save_checkpoint(folder, epoch, run, parts, train_loader, progress):
    """Write all that a run depends on to `folder`/epoch-<number>.pt, and keep only the one before it besides.

    The file gets its name when all of it is on the disk, so a process that dies leaves whole checkpoints only.
    """
    path = Path(folder, f"epoch-{epoch}.pt")
    path.parent.mkdir(parents=True, exist_ok=True)
    part_path = path.with_suffix(".part")
    with open(part_path, "wb") as file:
        torch.save({"run": run, "parts": [part.state_dict() for part in parts], "progress": progress,
                    "generators": [generator.get_state() for generator in random_generators(train_loader)]}, file)
        os.fsync(file.fileno())
    part_path.replace(path)
    for older in checkpoints(folder)[2:]:
        older.unlink()


def checkpoints(folder):
    """The files that `save_checkpoint` wrote in a folder, the newest first."""
    return sorted(Path(folder).glob("epoch-*.pt"), key=lambda path: int(path.stem[6:]), reverse=True)


def is_sound(path):
    """Whether a file that `torch.save` wrote, a zip archive with checksums, is undamaged."""
    try:
        with ZipFile(path) as archive:
            return archive.testzip() is None
    except (BadZipFile, RuntimeError, ValueError, zlib.error):  # what zipfile raises for a damaged list of contents
        return False


def resume(folder, run, parts, train_loader):
    """Put the newest undamaged checkpoint of `folder` into `parts`: its progress, or None if there is none.

    Only tensors and plain values are read from the files: they can't run code. Raises ValueError for another `run`.
    """
    for path in checkpoints(folder):
        if not is_sound(path):
            print(f"{path} is damaged: trying the epoch before it")
            continue
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["run"] != run:
            raise ValueError(f"{path} is of another run, {saved['run']}, not {run}: empty that folder or name another")
        for part, state in zip(parts, saved["parts"]):
            part.load_state_dict(state)
        for generator, state in zip(random_generators(train_loader), saved["generators"]):
            generator.set_state(state)
        print(f"Going on from {path}")
        return saved["progress"]
    return None


def sample_text(model, tokenizer, start_context):
    """How the model continues a text, greedily, by up to 50 tokens: prompt and continuation on one line."""
    ids = generate(model, text_to_token_ids(start_context, tokenizer), max_new_tokens=50,
                   context_size=model.pos_emb.num_embeddings, eos_id=tokenizer.eot_token)
    return token_ids_to_text(ids, tokenizer).replace("\n", " ")


def plot_losses(epochs_seen, tokens_seen, train_losses, val_losses):
    """Training and validation loss over epochs (lower axis) and real tokens (upper axis). Returns the figure."""
    import matplotlib.pyplot as plt  # only here: a third of a second that loading a model need not wait for
    from matplotlib.ticker import MaxNLocator
    fig, ax = plt.subplots(figsize=(6, 3.5))
    ax.plot(epochs_seen, train_losses, label="training")
    ax.plot(epochs_seen, val_losses, linestyle="--", label="validation")
    ax.set(xlabel="epochs", ylabel="loss per scored token (nats)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    tokens_axis = ax.twiny()
    tokens_axis.plot(tokens_seen, train_losses, alpha=0)  # invisible: it only gives the upper axis its range
    tokens_axis.set_xlabel("tokens read, without padding")
    fig.tight_layout()
    return fig
