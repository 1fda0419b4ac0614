"""A batch without what need not be computed: its padding, and repetitions of the prefix that all rows share.

Packing rests on one property of GPT-2: only attention looks along a row; every other part treats each token alone. So a
packed batch goes through the model as one long row, and `Packing.restore_rows` puts the tokens back in their rows for
attention. A layer of the reader's own, a hook or an edited textbook may also look along the row: then packing changes
the result, which `engine.comparison` finds.
"""

import torch
import torch.nn.functional as F


class Packing:
    """The N positions of a batch (B, T) that a model must compute so that its outputs at the `wanted` ones, a mask
    (B, T), are right. Token ids `idx` (B, T) and mask are on the CPU.

    computed (N,): their indices into the flattened batch; ids, pos (N,): their tokens, and their positions in their
    rows; source (B, T): for each position, which of the N has its value (meaningless where none has).

    These are each row's positions up to its last wanted one, since no token sees what comes after it. The prefix that
    all rows share is computed once: the same tokens in the same places give the same hidden states. With `share=False`
    each row computes the prefix for itself, as dropout needs it. Without packing a step takes about 1.5 times as long.
    Most of the gain is the prefix, which is two sentences in Alpaca's format.
    """

    def __init__(self, idx, wanted, share=True):
        needed = wanted.flip(1).cumsum(dim=1).flip(1) > 0                       # (B, T), up to the last wanted one
        # The length of the prefix that all rows share and need.
        prefix = int(((idx == idx[:1]) & needed).all(dim=0).cumprod(dim=0).sum()) if share else 0
        needed[1:, :prefix] = False  # the first row computes it
        needed[0, 0] = True  # so that something is computed, and `source` is never below 0
        self.computed = needed.flatten().nonzero()[:, 0]                        # (N,)
        self.ids = idx.flatten()[self.computed]                                 # (N,)
        self.pos = self.computed % idx.shape[1]                                 # (N,)
        # How many are computed up to here, less one: the index of this one.
        self.source = needed.flatten().cumsum(dim=0).view_as(needed) - 1        # (B, T)
        self.source[:, :prefix] = torch.arange(prefix)  # in each row, the first row's

    def to(self, device):
        """Move all of it to a device."""
        for name, tensor in vars(self).items():
            setattr(self, name, on_device(tensor, device))
        return self

    def restore_rows(self, attend):
        """An attention for the packed tokens: it puts them back in their rows, calls `attend`, and takes the computed
        positions out."""
        def attend_in_rows(qkv, dropout=0.0):                                   # qkv (1, N, 3, nh, D/nh)
            # F.embedding is an index whose gradient is summed faster.
            rows = F.embedding(self.source, qkv[0].flatten(1)).unflatten(2, qkv.shape[2:])  # (B, T, 3, nh, D/nh)
            return attend(rows, dropout).flatten(0, 1).index_select(0, self.computed)[None]  # (1, N, nh, D/nh)
        return attend_in_rows

    def logits(self, model, attend, positions):
        """The model's logits (P, V) at `positions` (P,), indices into the N computed ones."""
        return model(self.ids[None], pos=self.pos[None], attend=self.restore_rows(attend), logits_at=(0, positions))


def on_device(tensor, device):
    """A tensor of the CPU on a device. Only for a CUDA GPU is the copy queued, so that the CPU doesn't wait for it:
    CUDA reads ordinary memory at once. Elsewhere, as on MPS, that memory might be freed before the copy reads it."""
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")
