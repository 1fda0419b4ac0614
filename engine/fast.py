"""The loss without padding: less to compute, in less memory, with the textbook's result up to rounding.

`packed_loss` gives what the textbook's `calc_loss_batch` gives. Much of a batch need not be computed: its padding not
at all, and the prefix that all rows share only once. A `Packing` holds what is left. The output head, the model's
largest matrix product, reads only the positions that count in the loss.

Packing doesn't suit every model. So before a model is packed, `comparison.computes_the_same` compares both paths on two
rows. Where they differ, the reference path is used, and a line says so.
"""

from functools import partial

import torch
from torch.autograd.function import once_differentiable

from engine.comparison import computes_the_same
from engine.layers import reference_layers
from engine.models import context_length, has_dropout
from engine.packing import Packing, on_device
from engine.probes import loss_and_gradients, repeated_to, with_other_end
from engine.texts import marked
from previous_chapters import IGNORE_INDEX, calc_loss_batch, causal_attention

SLICE_ROWS = 8  # rows of logits that fit a processor's cache


def packed_loss(input_batch, target_batch, model, device):
    """Mean cross-entropy of a batch, in nats per token: inputs and targets (B, T) -> scalar, on `device`.

    Same loss and gradients as the textbook's `calc_loss_batch`. With dropout, other random numbers are drawn. If no
    target counts, the loss is 0, not 0/0. Batches should be on the CPU, where they are packed: counting on a GPU would
    make the CPU wait for it. Raises ValueError for rows longer than the context, and for a negative target other than
    IGNORE_INDEX.
    """
    if input_batch.shape[1] > context_length(model):
        raise ValueError(f"{input_batch.shape[1]} tokens in a row, but the context length is {context_length(model)}: "
                         "shorten the text")
    is_target = target_batch != IGNORE_INDEX                                    # (B, T)
    if (target_batch[is_target] < 0).any():
        raise ValueError(f"target {int(target_batch[is_target].min())}: expected token ids, or {IGNORE_INDEX} where "
                         "nothing counts")
    if packing_works(model, input_batch, target_batch, device):
        return loss_of_packed(input_batch, target_batch, model, device)
    with reference_layers(model):
        if not is_target.any():
            return model(input_batch.to(device))[:0].sum()  # 0, with gradients of 0
        return calc_loss_batch(input_batch, target_batch, model, device)


def packing_works(model, input_batch, target_batch, device):
    """Whether the packed loss of this model, and in training every gradient, equal the reference path's.

    Two rows are compared: the batch's first tokens, and a row with the same prefix, another end, and padding.
    """
    def compute(loss_of, length):
        tokens, targets = (repeated_to(batch.flatten().cpu(), length) for batch in (input_batch, target_batch))
        rows = torch.stack((tokens, with_other_end(tokens)))                    # (2, length)
        targets = torch.stack((targets, rows[1].roll(-1)))                      # (2, length)
        targets[1, length - length // 4:] = IGNORE_INDEX
        with torch.autocast(torch.device(device).type, enabled=False):
            return loss_and_gradients(partial(loss_of, rows, targets, model, device), model)

    what = marked("Loss and gradients") if torch.is_grad_enabled() else marked("Loss")
    return computes_the_same(model, what, input_batch.shape[1], partial(compute, loss_of_packed),
                             partial(compute, calc_loss_batch))


def loss_of_packed(input_batch, target_batch, model, device):
    """The fast path itself, without the check that it fits the model. Arguments and result as in `packed_loss`.

    S targets count in the loss; P positions give the logits for them, and the head reads no others. If it read all, a
    step would take about twice as long and 0.8 GB more (124M, batches of 8).
    """
    input_batch, target_batch = input_batch.cpu(), target_batch.cpu()
    is_target = target_batch != IGNORE_INDEX                                    # (B, T)
    targets = target_batch[is_target]                                           # (S,)
    packing = Packing(input_batch, is_target, share=not has_dropout(model))
    # All rows share the prefix's logits, so several targets may point to one row of logits.
    positions, logit_index = packing.source[is_target].unique(return_inverse=True)  # (P,), (S,)
    positions, logit_index, targets = (on_device(tensor, device) for tensor in (positions, logit_index, targets))
    logits = packing.to(device).logits(model, causal_attention, positions)      # (P, V)
    log_probs = TargetLogProbs.apply(logits, logit_index, targets)              # (S,)
    return -log_probs.sum() / max(len(log_probs), 1)


class TargetLogProbs(torch.autograd.Function):
    """log_softmax(logits, dim=-1)[logit_index, targets]: logits (P, V), logit_index and targets (S,) -> (S,), in nats.

    Logits are the largest tensor of a step. They are read in slices that fit the processor's cache, and no second
    tensor of their size is made: neither log-probabilities nor a float32 copy of 16-bit logits. This saves 0.1 GB of a
    124M step, and up to 5 % of its time.
    """

    @staticmethod
    def forward(ctx, logits, logit_index, targets):
        dtype = torch.promote_types(logits.dtype, torch.float32)
        logsumexp = torch.cat([rows.to(dtype).logsumexp(dim=1) for rows in in_slices(logits)])  # (P,)
        ctx.save_for_backward(logits, logsumexp, logit_index, targets)
        return logits[logit_index, targets] - logsumexp[logit_index]            # (S,)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        logits, logsumexp, logit_index, targets = ctx.saved_tensors
        # The gradient of log_softmax(logits)[target] is 1 at the target, less softmax(logits) everywhere.
        row_grads = grad.new_zeros(len(logits)).index_add_(0, logit_index, grad)  # (P,), summed over a row's targets
        grads = torch.empty_like(logits)                                        # (P, V)
        for rows, log_total, row_grad, out in zip(*map(in_slices, (
                logits, logsumexp[:, None], row_grads[:, None], grads))):
            out.copy_((rows - log_total).exp_().mul_(-row_grad))                # (rows, V)
        grads.index_put_((logit_index, targets), grad.to(grads.dtype), accumulate=True)
        return grads, None, None


def in_slices(tensor):
    """A tensor (P, ...) as slices of rows: few rows each on a CPU, and enough to keep a GPU busy."""
    return tensor.split(SLICE_ROWS if tensor.is_cpu else 64 * SLICE_ROWS)
