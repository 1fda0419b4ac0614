"""What saves time or memory and changes no result: each form here gives what the textbook's plain one gives, up to
rounding, and a test holds it to that.

Why it is fast, in the order of what it saves (`benchmarks/tricks.md` has the figures):

- A batch is mostly tokens whose logits nobody asks for. `pack` keeps what the scored positions depend on: no padding,
  and what all rows begin with only once. The output head, the model's largest matrix product, sees scored positions
  alone.
- A few rows through a large matrix wait for the memory, not for the processor. `Linear` then reads its weights in
  slices.
- A training step asks for the memory that the step before it freed. `keep_freed_memory` keeps it.

A large batch in little memory is read in parts: `micro_batches`.

Packing rests on one property of GPT-2: only attention looks along a row; every other part treats each token alone. So a
packed batch goes through the model as one long row, and `Packing.around` puts the tokens back in their rows for
attention.
"""

import ctypes
import sys
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

IGNORE_INDEX = -100  # the target that cross-entropy skips, by PyTorch's own default
FEW_ROWS = 64        # up to so many rows, reading the weights takes longer than multiplying by them
SLICE = 1024         # so many columns of logits, for a batch's few hundred rows, stay in the processor's cache


class Linear(nn.Linear):
    """PyTorch's linear layer, faster for few rows on a CPU, with less memory for the output head in training, and
    without initial weights: GPTModel fills them in."""

    def reset_parameters(self):
        pass

    def forward(self, x):
        """x (..., D_in) -> (..., D_out)."""
        rows = x.shape[:-1].numel()
        if 0 < rows <= FEW_ROWS and self.can_be_sliced(x):
            y = self.in_slices(x.reshape(rows, -1)).view(*x.shape[:-1], -1)     # (..., D_out)
            return y if self.bias is None else y + self.bias
        if self.bias is None and x.dim() == 2 and x.is_cpu:
            # Chosen positions before the output head: with the weights first, autograd adds the token embedding's
            # gradient to the head's in place. It would make a third copy of the largest matrix otherwise.
            return (self.weight @ x.T).T                                        # (rows, D_out)
        return super().forward(x)

    def can_be_sliced(self, x):
        """Only float32 gains from it. A tensor subclass, or a part of a matrix, may have no view in slices."""
        return (x.is_cpu and x.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
                and type(self.weight) in (torch.Tensor, nn.Parameter)
                and (self.weight.is_contiguous() or self.weight.mT.is_contiguous()))

    def in_slices(self, x):
        """x (rows, D_in) @ weight.T -> (rows, D_out), as a batch of small products: the weights are then read by all
        cores at once, each in the order of the memory, up to three times faster."""
        if self.weight.is_contiguous():
            slices = largest_divisor(self.out_features, 32)
            weights = self.weight.view(slices, -1, self.in_features).mT         # (slices, D_in, D_out/slices)
            y = torch.bmm(x.expand(slices, -1, -1), weights)                    # (slices, rows, D_out/slices)
            return y.transpose(0, 1).reshape(len(x), -1)
        # As OpenAI's files have them, input first: slices of the inputs, whose products add up.
        slices = largest_divisor(self.in_features, 8)
        weights = self.weight.mT.view(slices, -1, self.out_features)            # (slices, D_in/slices, D_out)
        return torch.bmm(x.view(len(x), slices, -1).transpose(0, 1), weights).sum(0)


def largest_divisor(number, limit):
    """The largest divisor of a number that is at most `limit`."""
    return next(n for n in range(limit, 0, -1) if number % n == 0)


# --- Batches without padding ---


class Packing(NamedTuple):
    """Which positions of a batch of token ids (B, T) are computed, N in all, as `pack` chooses them."""

    computed: torch.Tensor  # (B, T), true at those N
    source: torch.Tensor    # (B, T), for each position the number of the computed one that it equals, 0 to N - 1

    def around(self, attend):
        """The attention that puts the tokens back in their rows, attends there, and takes the computed ones out
        again."""
        def attend_in_rows(qkv, dropout=0.0):
            # A lookup, since its gradient is summed faster than that of an index.
            rows = F.embedding(self.source, qkv[0].flatten(1)).unflatten(2, qkv.shape[2:])  # (B, T, 3, nh, D/nh)
            return attend(rows, dropout)[self.computed][None]                   # (1, N, nh, D/nh)
        return attend_in_rows

    def run(self, model, idx, attend, chosen):
        """Logits of chosen ones, by number (P,), of the computed positions of the ids (B, T) that were packed: (P, V).
        """
        pos = torch.arange(idx.shape[1], device=idx.device).expand_as(idx)      # (B, T)
        return model(idx[self.computed][None], pos=pos[self.computed][None], attend=self.around(attend),
                     logits_at=(0, chosen))


def pack(idx, wanted, share=True):
    """The Packing of token ids (B, T) that computes what the `wanted` positions, a mask (B, T), depend on: each row up
    to its last wanted one, since no token sees what comes after it. What all rows begin with is computed once: the same
    tokens in the same places give the same hidden states. With `share=False` each row has its own, as dropout wants it.
    """
    computed = wanted.flip(1).cumsum(dim=1).flip(1) > 0                         # (B, T)
    shared = int(((idx == idx[:1]) & computed).all(dim=0).cumprod(dim=0).sum()) if share else 0
    computed[1:, :shared] = False
    computed[0, 0] = True  # so that there is something to compute even where nothing is wanted, and no source is -1
    source = computed.flatten().cumsum(dim=0).view_as(computed) - 1  # where nothing is computed: any number
    source[:, :shared] = torch.arange(shared, device=idx.device)
    return Packing(computed, source)


def scored_log_probs(model, idx, targets, attend):
    """The log-probability of every scored target, one after another: ids and targets (B, T) -> (S,), in nats.

    Raises ValueError for a negative target other than IGNORE_INDEX.
    """
    scored = targets != IGNORE_INDEX                                            # (B, T), S of them true
    targets = targets[scored]                                                   # (S,)
    if (targets < 0).any():
        raise ValueError(f"target {int(targets.min())}: want token ids, or {IGNORE_INDEX} where nothing is scored")
    gpt = getattr(model, "module", model)  # inside DistributedDataParallel
    if idx.shape[1] > gpt.pos_emb.num_embeddings or has_hooks(model):  # the plain way; too long a row is an error there
        logits = model(idx, attend=attend, logits_at=scored)                    # (S, V)
        which = torch.arange(len(targets), device=idx.device)                   # (S,)
    else:
        packing = pack(idx, scored, share=not has_dropout(model))
        chosen, which = packing.source[scored].unique(return_inverse=True)      # (P,), (S,)
        logits = packing.run(model, idx, attend, chosen)                        # (P, V)
    return TargetLogProbs.apply(logits, which, targets)


class TargetLogProbs(torch.autograd.Function):
    """log_softmax(logits, dim=-1)[which, targets]: logits (P, V), which and targets (S,) -> (S,).

    Logits are the largest tensor of a step. They are read here in columns, as the head makes them, in slices that fit
    the processor's cache; neither log-probabilities nor a float32 copy of 16-bit logits is made of them as a whole.
    """

    @staticmethod
    def forward(ctx, logits, which, targets):
        columns = logits.T                                                      # (V, P)
        largest = columns.amax(dim=0).to(torch.promote_types(logits.dtype, torch.float32))  # (P,)
        total = sum((some - largest).exp_().sum(dim=0) for some in columns.split(SLICE))
        log_total = largest + total.log()                                       # (P,)
        ctx.save_for_backward(logits, log_total, which, targets)
        return columns[targets, which] - log_total[which]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        logits, log_total, which, targets = ctx.saved_tensors
        # The gradient of log_softmax(logits)[target] is 1 at the target, less softmax(logits) everywhere.
        row_grads = grad.new_zeros(len(logits)).index_add_(0, which, grad)      # (P,), summed over a row's targets
        columns = logits.T                                                      # (V, P)
        grads = torch.empty_like(columns)
        for some, their_grads in zip(columns.split(SLICE), grads.split(SLICE)):
            their_grads.copy_((some - log_total).exp_().mul_(-row_grads))
        grads.index_put_((targets, which), grad.to(grads.dtype), accumulate=True)
        return grads.T, None, None


def has_dropout(model):
    """Whether the same token would come out different in different rows."""
    return any(isinstance(module, nn.Dropout) and module.training and module.p for module in model.modules())


def has_hooks(model):
    """Whether somebody has hooked a module: a hook may look along the rows, so it must see them. PyTorch's own hooks,
    such as those of sharded modules, do not."""
    hooks = (hook for module in model.modules() for registered in (
        module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
             for hook in registered.values())
    return any(not (getattr(hook, "__module__", None) or "").startswith("torch.") for hook in hooks)


# --- Memory ---


def count_scored(targets):
    """The number of targets that are scored: an int."""
    return int((targets != IGNORE_INDEX).sum())


def micro_batches(input_batch, target_batch, size=None, scored=None):
    """A batch, inputs and targets (B, T), in parts of at most `size` rows (all, if None): (inputs, targets, share), ...

    `share` is the part's share of the batch's scored tokens. So the batch's mean loss, and its gradients, are the sum
    of share * mean loss over the parts. `scored` is the number of tokens that the mean is over, if that isn't the
    batch's: in n processes that average their gradients, the number of all their scored tokens divided by n. Raises
    ValueError for a size below 1.
    """
    size = len(input_batch) if size is None else size
    if size < 1:
        raise ValueError(f"{size} rows at a time: want 1 or more")
    scored = scored or max(count_scored(target_batch), 1)
    for inputs, targets in zip(input_batch.split(size), target_batch.split(size)):
        yield inputs, targets, count_scored(targets) / scored


def ready_to_train(model, optimizer):
    """Before the first step: each trained weight gets memory of its own, and what a step frees is kept for the next
    one."""
    if not optimizer.state:  # moments that exist already lie as the weights do
        own_memory(model)
    # Not before the first step, in which AdamW makes its moments: they would come to lie among what is kept for reuse,
    # and cut it into pieces too small for the largest gradient.
    optimizer.register_step_post_hook(lambda *_: keep_freed_memory())


def own_memory(model):
    """Copy each trained weight into memory of its own, in rows. Weights that were taken over from OpenAI's files lie
    there transposed, and training would be slower: the optimiser would reorder every gradient. Frozen ones stay."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)


def keep_freed_memory():
    """Have the process keep the memory that it frees, until it ends (with glibc, the usual C library on Linux;
    elsewhere nothing happens). Fetching it from the system again, page after page, each zeroed first, takes 5 to 15% of
    a training step. See mallopt(3) for the two switches."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never give the heap's free end back
        libc.mallopt(-4, 0)   # M_MMAP_MAX: large tensors, too, come from the heap
