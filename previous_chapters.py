"""GPT-2 as a textbook, complete in one file: the model, OpenAI's weights, generation, the loss and the training loop.

It needs PyTorch alone, and matplotlib for `plot_losses`. `engine/` has faster paths with the same results. Attention is
the only part in which a token sees others. It is an argument of `forward`: `engine/` passes one with a key/value cache.

Shapes in comments: B rows in the batch, T tokens in a row, D embedding width, nh attention heads, V vocabulary size.
`cfg` has the keys vocab_size (V), context_length, emb_dim (D), n_heads (nh), n_layers, drop_rate and qkv_bias.
"""

from itertools import islice

import torch
import torch.nn as nn
import torch.nn.functional as F

# --- The model ---


def causal_attention(qkv, dropout=0.0):
    """For each token, the weighted mean of its own and earlier tokens' values: (B, T, 3, nh, D/nh) -> (B, T, nh, D/nh).

    softmax(q @ k.T / sqrt(D/nh)) @ v in each head, with later tokens masked (Vaswani et al., 2017, section 3.2).
    `dropout` is the probability of dropping an attention weight.
    """
    q, k, v = qkv.permute(2, 0, 3, 1, 4)                                        # each (B, nh, T, D/nh)
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)  # (B, nh, T, D/nh)
    return y.transpose(1, 2)                                                    # (B, T, nh, D/nh)


class MultiHeadAttention(nn.Module):
    """Self-attention, (B, T, D) -> (B, T, D): project to queries, keys and values, attend in each head, project again.
    Raises ValueError when the heads don't divide the width."""

    def __init__(self, cfg):
        super().__init__()
        D, self.n_heads = cfg["emb_dim"], cfg["n_heads"]
        if D % self.n_heads:
            raise ValueError(f"emb_dim {D} can't be divided among n_heads {self.n_heads}")
        self.qkv = nn.Linear(D, 3 * D, bias=cfg["qkv_bias"])
        self.out_proj = nn.Linear(D, D)
        self.dropout = nn.Dropout(cfg["drop_rate"])  # holds rate and mode; `attend` drops the weights

    def forward(self, x, attend=causal_attention):
        qkv = self.qkv(x).unflatten(2, (3, self.n_heads, -1))                   # (B, T, 3, nh, D/nh)
        y = attend(qkv, self.dropout.p if self.dropout.training else 0.0)       # (B, T, nh, D/nh)
        return self.out_proj(y.flatten(2))                                      # (B, T, D)


class FeedForward(nn.Module):
    """Two layers applied to each token alone: D -> 4D -> D, with the GELU of GPT-2 (the tanh approximation)."""

    def __init__(self, cfg):
        super().__init__()
        D = cfg["emb_dim"]
        self.layers = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(approximate="tanh"), nn.Linear(4 * D, D))

    def forward(self, x):
        return self.layers(x)                                                   # (B, T, D)


class TransformerBlock(nn.Module):
    """A pre-norm block, (B, T, D) -> (B, T, D): attention, then feed-forward, each added to the residual stream."""

    def __init__(self, cfg):
        super().__init__()
        self.norm1 = nn.LayerNorm(cfg["emb_dim"])
        self.att = MultiHeadAttention(cfg)
        self.norm2 = nn.LayerNorm(cfg["emb_dim"])
        self.ff = FeedForward(cfg)
        self.drop_shortcut = nn.Dropout(cfg["drop_rate"])

    def forward(self, x, attend=causal_attention):
        x = x + self.drop_shortcut(self.att(self.norm1(x), attend))             # (B, T, D)
        return x + self.drop_shortcut(self.ff(self.norm2(x)))                   # (B, T, D)


class GPTModel(nn.Module):
    """GPT-2 (Radford et al., 2019): token and position embeddings, blocks, a final norm, and an output head that is
    tied to the token embedding (one parameter, counted once).

    A new model's matrices are normal with standard deviation 0.02 (OpenAI: 0.01 for positions), its biases zero. Layers
    that add to the residual stream have 0.02 / sqrt(2 * n_layers), since so many of them add up (section 2.3).
    """

    def __init__(self, cfg):
        super().__init__()
        V, D = cfg["vocab_size"], cfg["emb_dim"]
        self.tok_emb = nn.Embedding(V, D)
        self.pos_emb = nn.Embedding(cfg["context_length"], D)
        self.drop_emb = nn.Dropout(cfg["drop_rate"])
        self.trf_blocks = nn.ModuleList(TransformerBlock(cfg) for _ in range(cfg["n_layers"]))
        self.final_norm = nn.LayerNorm(D)
        self.out_head = nn.Linear(D, V, bias=False)
        self.tie_weights()

        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.trf_blocks:
            for added_to_stream in (block.att.out_proj, block.ff.layers[2]):
                nn.init.normal_(added_to_stream.weight, std=0.02 / (2 * cfg["n_layers"]) ** 0.5)

    def tie_weights(self):
        """Make the output head's weight the token embedding's: the same Parameter, not a copy."""
        self.out_head.weight = self.tok_emb.weight

    def forward(self, idx, pos=None, attend=causal_attention, logits_at=slice(None)):
        """Token ids (B, T) -> logits (B, T, V): at each position, a score for every token that could come next.

        `engine/` uses the other arguments. pos: each token's position in its text, (B, T), if that isn't 0 to T - 1.
        attend: called in place of `causal_attention`, once for each block, in order. logits_at: an index into (B, T),
        such as a mask with N true values. Only these logits are computed, (N, V): the output head is the largest matrix
        product. Raises ValueError when T exceeds the context length and `pos` isn't given.
        """
        if pos is None:
            T, context_length = idx.shape[1], self.pos_emb.num_embeddings
            if context_length < T:
                raise ValueError(f"{T} tokens in a row, but the context length is {context_length}: shorten the text")
            pos = torch.arange(T, device=idx.device)                            # (T,)
        x = self.drop_emb(self.tok_emb(idx) + self.pos_emb(pos))                # (B, T, D)
        for block in self.trf_blocks:
            x = block(x, attend)                                                # (B, T, D)
        return self.out_head(self.final_norm(x[logits_at]))                     # (B, T, V) or (N, V)


# --- OpenAI's weights ---

BLOCK_LAYERS = {  # where OpenAI's layers go in a TransformerBlock
    "ln_1": "norm1", "attn/c_attn": "att.qkv", "attn/c_proj": "att.out_proj",
    "ln_2": "norm2", "mlp/c_fc": "ff.layers.0", "mlp/c_proj": "ff.layers.2",
}


def openai_names(n_layers):
    """Where OpenAI's tensors go in a GPTModel: {their path in `params`: our parameter's name}."""
    names = {"wte": "tok_emb.weight", "wpe": "pos_emb.weight",
             "g": "final_norm.weight", "b": "final_norm.bias"}  # in `params`, the final norm has no name
    for i in range(n_layers):
        for theirs, ours in BLOCK_LAYERS.items():
            weight = "g" if ours.startswith("norm") else "w"
            names[f"blocks/{i}/{theirs}/{weight}"] = f"trf_blocks.{i}.{ours}.weight"
            names[f"blocks/{i}/{theirs}/b"] = f"trf_blocks.{i}.{ours}.bias"
    return names


def flatten_params(params, path=""):
    """The arrays of OpenAI's nested dictionary `params`, by their paths: {"blocks/0/attn/c_attn/w": array, ...}."""
    if not isinstance(params, (dict, list)):
        return {path.removesuffix("/"): params}
    arrays = {}
    for key, value in params.items() if isinstance(params, dict) else enumerate(params):
        arrays |= flatten_params(value, f"{path}{key}/")
    return arrays


def mismatch(tensors, shapes):
    """The first difference between {name: tensor} and the expected {name: shape}, in words; None if there is none."""
    for name in [*shapes, *tensors]:
        if name not in tensors:
            return f"lacks the tensor {name}"
        if name not in shapes:
            return f"has an unexpected tensor {name}"
        if tensors[name].shape != shapes[name]:
            return f"has {name} of shape {tuple(tensors[name].shape)}, not {tuple(shapes[name])}"
    return None


def load_weights_into_gpt(gpt, params):
    """Put OpenAI's weights (`params`, as `gpt_download.download_and_load_gpt2` returns them) into a GPTModel.

    OpenAI stores the matrix of a linear layer input-first, (D_in, D_out) for x @ w + b; PyTorch's is its transpose.
    The weights are copied, except into a model on the meta device: it takes over the arrays themselves. Raises
    ValueError, before the model changes, that names the first tensor missing, unexpected or of a wrong shape.
    """
    arrays = flatten_params(params)
    if any("h.0.attn" in path for path in arrays):
        raise ValueError("the tensors have Hugging Face's names, such as 'h.0.attn.c_attn.weight', which transformers' "
                         "GPT2LMHeadModel.from_pretrained takes; expected those of download_and_load_gpt2")
    tensors = {path: torch.from_numpy(array.T if path.endswith("/w") else array) for path, array in arrays.items()}
    names = openai_names(len(gpt.trf_blocks))
    parameters = dict(gpt.named_parameters())  # with qkv_bias=False, some of OpenAI's are not among them
    shapes = {theirs: parameters[ours].shape for theirs, ours in names.items() if ours in parameters}
    if wrong := mismatch(tensors, shapes):
        raise ValueError(f"the checkpoint {wrong}: does the model's config fit it?")
    state = {names[path]: tensor for path, tensor in tensors.items()} | {"out_head.weight": tensors["wte"]}
    gpt.load_state_dict(state, assign=gpt.tok_emb.weight.is_meta)
    gpt.tie_weights()  # `assign` gave embedding and head a parameter each


# --- Text and generation ---


def text_to_token_ids(text, tokenizer):
    """The ids of a text as a batch of one row: (1, T). A literal <|endoftext|> becomes the special token."""
    return torch.tensor([tokenizer.encode(text, allowed_special={"<|endoftext|>"})], dtype=torch.long)


def token_ids_to_text(token_ids, tokenizer):
    """The text of one row of ids, (1, T) or (T,)."""
    return tokenizer.decode(token_ids.flatten().tolist())


@torch.no_grad()
def generate_text_simple(model, idx, max_new_tokens, context_size):
    """Continue every row of ids (B, T) by its most likely tokens: (B, T + max_new_tokens). Each step reads the last
    `context_size` tokens. Call `model.eval()` first."""
    for _ in range(max_new_tokens):
        logits = model(idx[:, -context_size:])[:, -1]                           # (B, V), after the last token
        idx = torch.cat((idx, logits.argmax(dim=-1, keepdim=True)), dim=1)      # (B, T + 1)
    return idx


@torch.no_grad()
def generate(model, idx, max_new_tokens, context_size, temperature=0.0, top_k=None, eos_id=None):
    """Continue every row of ids (B, T) by up to `max_new_tokens` tokens: (B, T + longest continuation).

    A row stops at its first `eos_id`, which is not returned; shorter rows are padded with it. At temperature 0 the most
    likely token is taken. Above 0, a token is drawn from softmax(logits / temperature), among the `top_k` most likely
    if that is given. Call `model.eval()` first.
    """
    stopped = torch.zeros(len(idx), 1, dtype=torch.bool, device=idx.device)     # (B, 1)
    for _ in range(max_new_tokens):
        logits = model(idx[:, -context_size:])[:, -1]                           # (B, V), after the last token
        if top_k is not None:
            weakest_kept = logits.topk(min(top_k, logits.shape[1])).values[:, -1:]  # (B, 1)
            logits = logits.masked_fill(logits < weakest_kept, -torch.inf)
        if temperature > 0:
            idx_next = torch.multinomial((logits / temperature).softmax(dim=-1), num_samples=1)  # (B, 1)
        else:
            idx_next = logits.argmax(dim=-1, keepdim=True)                      # (B, 1)
        if eos_id is not None:
            stopped |= idx_next == eos_id
            if stopped.all():
                break
            idx_next = idx_next.masked_fill(stopped, eos_id)
        idx = torch.cat((idx, idx_next), dim=1)                                 # (B, T + 1)
    return idx


# --- Losses and training ---

IGNORE_INDEX = -100  # the target of a position that doesn't count in the loss: F.cross_entropy's default


def calc_loss_batch(input_batch, target_batch, model, device):
    """Mean cross-entropy of a batch, in nats per token: inputs and targets (B, T) -> scalar.

    The target of a position is the token that follows it, or IGNORE_INDEX (-100) if it doesn't count, as in padding.
    Padding needs no other mask: it is at the end of each row, where no real token sees it.
    """
    input_batch, target_batch = input_batch.to(device), target_batch.to(device)
    logits = model(input_batch)                                                 # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1), target_batch.flatten())


@torch.no_grad()
def calc_loss_loader(data_loader, model, device, num_batches=None):
    """Mean loss over the first `num_batches` batches of a loader (all, if None), in nats per token: a float.

    Every token that counts has the same weight, whichever batch it is in. The model's mode and torch's random state are
    restored, so evaluation doesn't affect training. Raises ValueError for a loader without batches.
    """
    if len(data_loader) == 0:
        raise ValueError("the data loader has no batches: fewer entries than one batch, with drop_last=True?")
    was_training = model.training
    model.eval()
    loss_sum, n_targets = 0.0, 0
    with torch.random.fork_rng(devices=[]):  # a pass through a loader draws random numbers
        for input_batch, target_batch in islice(data_loader, num_batches):
            n = int((target_batch != IGNORE_INDEX).sum())  # targets that count
            if n > 0:
                loss_sum += n * calc_loss_batch(input_batch, target_batch, model, device).item()
                n_targets += n
    model.train(was_training)
    return loss_sum / max(n_targets, 1)


def train_model_simple(model, train_loader, val_loader, optimizer, device, num_epochs, eval_freq, eval_iter,
                       start_context, tokenizer):
    """Train a model that is on `device`, printing losses and, after each epoch, how it continues `start_context`.

    Loaders yield inputs and targets, both (B, T). After step 0 and every `eval_freq` steps it logs the mean training
    loss per token since the last log entry, the validation loss over `eval_iter` batches (all, if None), and the number
    of tokens seen so far, without padding. Returns the log as three lists: train_losses, val_losses, tokens_seen.
    """
    train_losses, val_losses, tokens_seen = [], [], []
    step, n_seen = 0, 0
    loss_sum, n_targets = 0.0, 0  # since the last log entry
    for epoch in range(num_epochs):
        model.train()
        for input_batch, target_batch in train_loader:
            optimizer.zero_grad()
            loss = calc_loss_batch(input_batch, target_batch, model, device)
            loss.backward()
            optimizer.step()

            n = int((target_batch != IGNORE_INDEX).sum())  # targets that count
            if n > 0:
                loss_sum += n * loss.item()
                n_targets += n
            n_seen += int((input_batch != tokenizer.eot_token).sum())  # the padding is <|endoftext|>
            if step % eval_freq == 0:
                train_losses.append(loss_sum / max(n_targets, 1))
                val_losses.append(calc_loss_loader(val_loader, model, device, eval_iter))
                tokens_seen.append(n_seen)
                loss_sum, n_targets = 0.0, 0
                print(f"Ep {epoch + 1} (Step {step:06d}): "
                      f"Train loss {train_losses[-1]:.3f}, Val loss {val_losses[-1]:.3f}")
            step += 1

        if start_context:
            model.eval()
            ids = text_to_token_ids(start_context, tokenizer).to(device)
            ids = generate(model, ids, 50, context_size=model.pos_emb.num_embeddings, eos_id=tokenizer.eot_token)
            print(token_ids_to_text(ids, tokenizer).replace("\n", " "))
            model.train()
    return train_losses, val_losses, tokens_seen


def plot_losses(epochs_seen, tokens_seen, train_losses, val_losses):
    """A matplotlib figure of both losses on a logarithmic axis, over epochs (lower axis) and tokens (upper axis)."""
    import matplotlib.pyplot as plt  # only here: the rest needs PyTorch alone
    from matplotlib.ticker import LogLocator
    fig, ax = plt.subplots(figsize=(6, 3.5))
    ax.plot(epochs_seen, train_losses, label="training")
    ax.plot(epochs_seen, val_losses, linestyle="--", label="validation")
    ax.set(xlabel="epochs", ylabel="loss per token (nats)", yscale="log")
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter="")
    ax.locator_params(axis="x", integer=True)
    ax.legend()
    tokens_axis = ax.twiny()
    tokens_axis.plot(tokens_seen, train_losses, alpha=0)  # invisible: it only gives the upper axis its range
    tokens_axis.set_xlabel("tokens read, without padding")
    fig.tight_layout()
    return fig
