"""GPT-2, from its attention to its training loop: the toolbox of the earlier articles as a textbook.

The architecture is OpenAI's to the last detail. Only attention mixes tokens, so it alone is exchangeable: `forward`
takes another function that computes the same as `causal_attention`, such as one with a key/value cache.

Padding (end-of-text tokens) needs no mask in training: it stands at the end of a row, no token sees what comes after
it, and its own targets are -100, which no loss counts.

What is fast or long-winded lives in `engine/`, whose `__init__.py` lists the modules: a faster form computes what is
said here, up to rounding. (`Linear` is `nn.Linear` without initial weights of its own: GPTModel draws them.)

Shapes in comments: B rows in the batch, T tokens in a row, D embedding width, nh heads, V vocabulary size, S scored
positions.
"""

from itertools import islice

import torch
import torch.nn as nn
import torch.nn.functional as F

from engine.checkpoints import Checkpoints, check_fit, read_saved_model, whole_file
from engine.fast import Linear, count_scored, micro_batches, ready_to_train, scored_log_probs
from engine.figures import plot_losses  # noqa: F401  re-exported: readers of the article look for it here
from engine.generation import evaluation_mode, generate
from engine.params import check_params, flatten_params
from engine.precision import LossScaler, mixed_precision, number_format
from engine.training_log import TrainingLog, check_batches, check_counts

# --- The model ---


def causal_attention(qkv, dropout=0.0):
    """Each token's weighted mean of the values of itself and earlier tokens: (B, T, 3, nh, D/nh) -> (B, T, nh, D/nh).

    softmax(q @ k.T / sqrt(D/nh)) @ v in each head, with the scores of later tokens at minus infinity (Vaswani et al.,
    2017, section 3.2), in PyTorch's fused kernel. `dropout` is the share of the softmax's weights that are dropped.
    """
    q, k, v = qkv.permute(2, 0, 3, 1, 4)                                        # each (B, nh, T, D/nh)
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    return y.transpose(1, 2)                                                    # (B, T, nh, D/nh)


class MultiHeadAttention(nn.Module):
    """Self-attention, (B, T, D) -> (B, T, D): project to queries, keys, values; attend in each head; project."""

    def __init__(self, cfg):
        super().__init__()
        if cfg["emb_dim"] % cfg["n_heads"]:
            raise ValueError(f"emb_dim {cfg['emb_dim']} can't be divided among n_heads {cfg['n_heads']}")
        self.n_heads = cfg["n_heads"]
        self.qkv = Linear(cfg["emb_dim"], 3 * cfg["emb_dim"], bias=cfg["qkv_bias"])
        self.out_proj = Linear(cfg["emb_dim"], cfg["emb_dim"])
        self.dropout = nn.Dropout(cfg["drop_rate"])  # holds the rate, like the other ones; `attend` drops

    def forward(self, x, attend=causal_attention):
        qkv = self.qkv(x).unflatten(2, (3, self.n_heads, -1))                   # (B, T, 3, nh, D/nh)
        y = attend(qkv, self.dropout.p if self.training else 0.0)               # (B, T, nh, D/nh)
        return self.out_proj(y.flatten(2))                                      # (B, T, D)


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
    """Attention, then feed-forward, (B, T, D) -> (B, T, D); each reads a normalised copy of the residual stream and
    adds its result to it."""

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
    """GPT-2 (Radford et al., 2019): token and position embeddings, pre-norm blocks, a last norm, and an output head
    that *is* the token embedding (one parameter, counted once).

    `cfg` has the keys vocab_size, context_length, emb_dim, n_heads, n_layers, drop_rate and qkv_bias. A new model has
    random weights as `transformers` draws GPT-2's: normal with standard deviation 0.02, divided by sqrt(2 * n_layers)
    where a block adds to the residual stream, biases zero. Raises ValueError when the heads don't divide the width.
    """

    def __init__(self, cfg):
        super().__init__()
        V, D = cfg["vocab_size"], cfg["emb_dim"]
        self.tok_emb = nn.Embedding.from_pretrained(torch.empty(V, D), freeze=False)  # nn.Embedding, not drawn yet
        self.pos_emb = nn.Embedding.from_pretrained(torch.empty(cfg["context_length"], D), freeze=False)
        self.drop_emb = nn.Dropout(cfg["drop_rate"])
        self.trf_blocks = nn.ModuleList(TransformerBlock(cfg) for _ in range(cfg["n_layers"]))
        self.final_norm = nn.LayerNorm(D)
        self.out_head = Linear(D, V, bias=False)
        self.out_head.weight = self.tok_emb.weight  # tied: the same Parameter, not a copy

        for name, parameter in self.named_parameters():
            if parameter.is_meta:  # has shapes only; filling it would make PyTorch import its compiler, for a second
                continue
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:  # the gains of LayerNorm, with one dimension, stay at one
                adds_to_stream = name.endswith(("out_proj.weight", "layers.2.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * cfg["n_layers"]) ** 0.5 if adds_to_stream else 0.02)

    def forward(self, idx, pos=None, attend=causal_attention, logits_at=slice(None)):
        """Token ids (B, T) -> logits (B, T, V): at each position, a score for every token that could come next.

        pos: each token's position in its text, (B, T), if that isn't 0 to T - 1. attend: called once for each block, in
        order, as `causal_attention` is. logits_at: an index into (B, T), such as a mask with S true values, where
        logits are wanted for some positions only: then (S, V). Raises ValueError when T exceeds the context length
        (with `pos` that is the caller's to check).
        """
        if pos is None:
            length, context_length = idx.shape[1], self.pos_emb.num_embeddings
            if length > context_length:
                raise ValueError(f"{length} tokens in a row, but the context length is {context_length}: "
                                 "shorten the text")
            pos = torch.arange(length, device=idx.device)                       # (T,)
        x = self.drop_emb(self.tok_emb(idx) + self.pos_emb(pos))                # (B, T, D)
        for block in self.trf_blocks:
            x = block(x, attend)                                                # (B, T, D)
        return self.out_head(self.final_norm(x[logits_at]))                     # (B, T, V) or (S, V)


# --- OpenAI's weights, and our own files ---

BLOCK_LAYERS = {  # where OpenAI's layers go in a TransformerBlock
    "ln_1": "norm1", "attn/c_attn": "att.qkv", "attn/c_proj": "att.out_proj",
    "ln_2": "norm2", "mlp/c_fc": "ff.layers.0", "mlp/c_proj": "ff.layers.2",
}


def openai_names(n_layers):
    """Where OpenAI's tensors go in a GPTModel: {their path in `params`: our parameter's name}."""
    names = {"wte": "tok_emb.weight", "wpe": "pos_emb.weight", "g": "final_norm.weight", "b": "final_norm.bias"}
    for i in range(n_layers):
        for theirs, ours in BLOCK_LAYERS.items():
            weight = "g" if ours.startswith("norm") else "w"
            names[f"blocks/{i}/{theirs}/{weight}"] = f"trf_blocks.{i}.{ours}.weight"
            names[f"blocks/{i}/{theirs}/b"] = f"trf_blocks.{i}.{ours}.bias"
    return names


def load_weights_into_gpt(gpt, params):
    """Put OpenAI's weights (`params`, as `gpt_download.download_and_load_gpt2` returns them) into a GPTModel.

    OpenAI stores the matrix of a linear layer input-first, (D_in, D_out) for x @ w + b; PyTorch's is its transpose. A
    model with weights of its own gets copies; one built on the meta device, which has none, the arrays themselves.
    Raises ValueError, before the model changes, that names the first tensor missing, left over or of a wrong shape.
    """
    arrays = {path: torch.from_numpy(array.T if path.endswith("/w") else array)
              for path, array in flatten_params(params)}
    parameters = dict(gpt.named_parameters())
    names = {theirs: ours for theirs, ours in openai_names(len(gpt.trf_blocks)).items()
             if ours in parameters}  # without qkv_bias OpenAI's are left over: an error
    check_params(arrays, {theirs: parameters[ours].shape for theirs, ours in names.items()})
    state = {ours: arrays[theirs] for theirs, ours in names.items()}
    state["out_head.weight"] = state["tok_emb.weight"]
    gpt.load_state_dict(state, assign=gpt.tok_emb.weight.is_meta)
    gpt.out_head.weight = gpt.tok_emb.weight  # with `assign` they have become two parameters: tie them again


SIZE_NAMES = {"vocab_size": "n_vocab", "context_length": "n_ctx", "emb_dim": "n_embd", "n_heads": "n_head",
              "n_layers": "n_layer"}  # ours, and those in OpenAI's hparams.json


def gpt_config(settings, drop_rate=0.0):
    """A GPTModel's config from OpenAI's `settings`, as `hparams.json` has them."""
    return {ours: settings[theirs] for ours, theirs in SIZE_NAMES.items()} | {"drop_rate": drop_rate, "qkv_bias": True}


def save_model(model, cfg, path):
    """Write a GPTModel's weights and its config to one file, which `load_model` reads; whole or not at all. Raises
    ValueError for a model that isn't a plain one of this config, such as one with adapters."""
    weights = {name.replace("_orig_mod.", ""): weight  # what torch.compile adds to the names of what it wraps
               for name, weight in model.state_dict().items()}
    with torch.device("meta"):
        check_fit(weights, GPTModel(cfg))
    with whole_file(path) as unfinished:
        torch.save({"config": cfg, "weights": weights}, unfinished)


def load_model(path):
    """The GPTModel in a file that `save_model` wrote, on the CPU, in evaluation mode, with its config: (model, cfg).

    Nothing in the file can run code (`weights_only=True`). Raises ValueError for one that `save_model` didn't write, or
    that isn't whole.
    """
    saved = read_saved_model(path)
    with torch.device("meta"):
        model = GPTModel(saved["config"])
    check_fit(saved["weights"], model)
    model.load_state_dict(saved["weights"], assign=True)
    model.out_head.weight = model.tok_emb.weight  # as above
    return model.eval(), saved["config"]


# --- Text and generation ---


def text_to_token_ids(text, tokenizer):
    """The ids of a text as a batch of one row: (1, T). A literal <|endoftext|> becomes the special token."""
    return torch.tensor([tokenizer.encode(text, allowed_special={"<|endoftext|>"})])


def token_ids_to_text(token_ids, tokenizer):
    """The text of one row of ids, (1, T) or (T,)."""
    return tokenizer.decode(token_ids.flatten().tolist())


@torch.no_grad()
def generate_text_simple(model, idx, max_new_tokens, context_size):
    """Continue every row of ids (B, T) by its most likely tokens: (B, T + max_new_tokens). The plain form of
    `generate`, whose greedy continuation is the same without `eos_id`; call `model.eval()` first."""
    for _ in range(max_new_tokens):
        logits = model(idx[:, -context_size:])[:, -1]                           # (B, V), after the last token
        idx = torch.cat((idx, logits.argmax(dim=-1, keepdim=True)), dim=1)      # (B, T + 1)
    return idx


def sample_text(model, tokenizer, start_context):
    """How the model continues a text, greedily, by up to 50 tokens: prompt and continuation on one line."""
    ids = generate(model, text_to_token_ids(start_context, tokenizer), max_new_tokens=50,
                   context_size=model.pos_emb.num_embeddings, eos_id=tokenizer.eot_token)
    return token_ids_to_text(ids, tokenizer).replace("\n", " ")


# --- Losses and training ---


def calc_loss_batch(input_batch, target_batch, model, device):
    """Mean cross-entropy over the scored positions of a batch, in nats: inputs and targets (B, T) -> scalar.

    The target of a position is the token that follows it, or -100 where nothing is scored. This equals
    F.cross_entropy(model(input_batch).flatten(0, 1), target_batch.flatten()), computed from what it depends on
    only (`engine.fast.pack`). A batch without scored positions has loss 0, not 0/0. Raises ValueError for other
    negative targets, and for rows longer than the context.
    """
    input_batch, target_batch = input_batch.to(device), target_batch.to(device)
    log_probs = scored_log_probs(model, input_batch, target_batch, causal_attention)  # (S,)
    return -log_probs.sum() / max(len(log_probs), 1)


@torch.no_grad()
def calc_loss_loader(data_loader, model, device, num_batches=None, precision="float32"):
    """Mean loss per scored token over the first `num_batches` batches of a loader (all, if None), in nats: a float.

    Every token counts the same, whichever batch it is in. The model's mode and torch's random state on the CPU, from
    which every pass through a loader draws a seed, are put back: evaluating changes no training run. `precision`: see
    `train_model_simple`. Raises ValueError for a loader without batches, or none wanted.
    """
    check_batches(data=data_loader)
    check_counts(num_batches=num_batches)
    loss_sum, scored_sum = 0.0, 0
    with evaluation_mode(model), torch.random.fork_rng(devices=[]), mixed_precision(device, precision):
        for input_batch, target_batch in islice(data_loader, num_batches):
            scored = count_scored(target_batch)
            loss_sum += calc_loss_batch(input_batch, target_batch, model, device).item() * scored
            scored_sum += scored
    return loss_sum / max(scored_sum, 1)


def train_model_simple(model, train_loader, val_loader, optimizer, device, num_epochs, eval_freq, eval_iter,
                       start_context, tokenizer, scheduler=None, max_norm=None, checkpoint_dir=None,
                       checkpoint_minutes=10.0, precision="float32", micro_batch_size=None):
    """Train a model that is on `device`, in one process, printing losses as it goes and, after each epoch, how it
    continues `start_context`, unless that is "".

    Loaders yield (inputs, targets), both (B, T). After step 0 and every `eval_freq` steps it notes the mean training
    loss per scored token since the last note, the validation loss over `eval_iter` batches (all, if None), and the
    tokens read so far, without end-of-text and padding. `scheduler`, of torch.optim.lr_scheduler, steps after every
    step; with `max_norm` gradients are clipped to that norm. `precision`, of the matrix products, is "float32",
    "bfloat16", "float16" or "auto", the device's fastest. `micro_batch_size` rows are computed at a time, in less
    memory; their gradients add up to the batch's.

    With `checkpoint_dir` the training is saved there after each epoch and every `checkpoint_minutes`; the same call
    made again goes on from there and ends as if it had never stopped (on a CPU, bit for bit).

    Returns (train_losses, val_losses, tokens_seen), three lists with one item per note; after a KeyboardInterrupt, what
    was noted up to then. Raises ValueError for a loader without batches, an `eval_freq` or `eval_iter` below 1, a
    `checkpoint_dir` with a run in it that began differently, and a loss (or a gradient to be clipped) that isn't
    finite, before it is applied.
    """
    check_batches(training=train_loader, validation=val_loader)
    check_counts(eval_freq=eval_freq, eval_iter=eval_iter)
    log = TrainingLog(num_epochs, len(train_loader), tokenizer)
    precision = number_format(precision, device)
    scaler = LossScaler(device, precision)  # float16 only: enlarges the loss, lest small gradients vanish
    stateful = [model, optimizer, log, scaler] + ([scheduler] if scheduler else [])  # what a checkpoint restores
    checkpoints = Checkpoints(checkpoint_dir, stateful, train_loader, val_loader, checkpoint_minutes,
                              num_epochs=num_epochs, max_norm=max_norm, eval_freq=eval_freq, eval_iter=eval_iter,
                              precision=precision, micro_batch_size=micro_batch_size)
    ready_to_train(model, optimizer)  # lays out weights, and the process's memory until it ends, for speed
    checkpoints.resume()

    with log.shown():  # a progress bar; a notebook's stop button ends the block quietly
        for _ in log.remaining_epochs():
            model.train()
            for input_batch, target_batch in checkpoints.batches(train_loader, log.step % len(train_loader)):
                optimizer.zero_grad()
                loss = 0.0
                with mixed_precision(device, precision):  # around all parts: no weight is cast twice
                    for inputs, targets, share in micro_batches(input_batch, target_batch, micro_batch_size):
                        part_loss = share * calc_loss_batch(inputs, targets, model, device)
                        scaler.scale(part_loss).backward()
                        loss += part_loss.detach()
                log.check_finite("loss", loss, input_batch)
                if max_norm is not None:
                    scaler.unscale_(optimizer)
                    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                    if not scaler.is_enabled():  # which leaves out such a step itself
                        log.check_finite("gradient's norm", norm, input_batch)
                scaler.step(optimizer)
                if scheduler is not None:
                    scheduler.step()

                log.count(loss, input_batch, target_batch)
                if log.step % eval_freq == 0:
                    log.note(calc_loss_loader(val_loader, model, device, eval_iter, precision))
                log.step += 1
                checkpoints.save_when_due(log.step)
            checkpoints.save(log.step)
            if scaler.skipped:
                log.say(scaler.report())
            if start_context:
                log.say(sample_text(model, tokenizer, start_context))
    return log.history()
