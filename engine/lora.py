"""Low-rank adapters (LoRA; Hu et al., 2021): fine-tuning in little memory.

The change of a weight matrix W (D_out, D_in) is learned as the product of two thin matrices, B (D_out, rank) and A
(rank, D_in). W itself is frozen: it needs neither gradient nor moments, and can stay in a mapped file. Afterwards the
product is added to W, and the model is an ordinary one again.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


class LoRALinear(nn.Module):
    """A frozen linear layer and its adapter: W x + b + alpha / rank * B A x. B is zero at first, so nothing changes."""

    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear = linear
        self.scaling = alpha / rank
        like_A = linear.weight[:1].expand(rank, -1)  # no memory: gives A its shape, dtype and device
        # Divided so that A x is, at first, about as large as x.
        self.A = nn.Parameter(torch.randn_like(like_A) / linear.in_features ** 0.5)     # (rank, D_in)
        self.B = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))       # (D_out, rank)

    def forward(self, x):
        """x (..., D_in) -> (..., D_out)."""
        return self.linear(x) + F.linear(self.scaling * F.linear(x, self.A), self.B)

    def merge(self):
        """The linear layer with the adapter added to its weights, which are copied, not changed in place."""
        with torch.no_grad():
            self.linear.weight = nn.Parameter((self.scaling * self.B @ self.A).add_(self.linear.weight))
        return self.linear


def add_lora(model, rank, alpha=None):
    """Freeze a GPTModel and give each linear layer of its blocks an adapter. Only the adapters are trainable then.

    The adapters' change is scaled by alpha / rank (2, if alpha is None), so that another rank needs about the same
    learning rate. Adapters that are there already are merged first. Raises ValueError for a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}: expected 1 or more")
    merge_lora(model)
    model.requires_grad_(False)
    for name, layer in list(model.named_modules()):
        if name.startswith("trf_blocks.") and isinstance(layer, nn.Linear):
            model.set_submodule(name, LoRALinear(layer, rank, 2 * rank if alpha is None else alpha))


def merge_lora(model):
    """Add what the adapters have learned to the weights, and remove the adapters. The model is an ordinary GPTModel
    again, and all of its parameters are trainable."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoRALinear):
            model.set_submodule(name, layer.merge())
    model.requires_grad_(True)
