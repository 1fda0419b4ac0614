"""Linear layers with the matrix products of oneDNN, which are faster on a CPU.

`fast_layers` gives a model such layers for the duration of a `with` block. `reference_layers` gives it PyTorch's own
again, also within that block. `reordered_weights` rearranges the weights once for many products.
"""

from contextlib import contextmanager

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable

LAYOUT_ROWS = 64  # oneDNN chooses the layout of reordered weights for this many rows; it serves others as well


def onednn_linear(x, weight, bias):
    """F.linear by oneDNN: x (..., D_in), weight (D_out, D_in), bias (D_out,) or None -> (..., D_out)."""
    # torch.compile's operator for a linear layer with a fused activation; "none", [] and "" mean no activation.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class OneDNNLinear(torch.autograd.Function):
    """F.linear: forward by oneDNN, backward by PyTorch's own product (MKL).

    Each is the faster one there. With two threads of an AMD EPYC, all products of 64 rows of the 124M take 172 ms
    instead of 271. Backward, MKL reaches 114 to 144 GFLOP/s instead of 80 to 110.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return onednn_linear(x, weight, bias)                                   # (..., D_out)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors                                           # (..., D_in), (D_out, D_in)
        grad_rows = grad.flatten(0, -2)                                         # (rows, D_out)
        need_x, need_weight, need_bias = ctx.needs_input_grad
        grad_x = (grad_rows @ weight).view_as(x) if need_x else None            # (..., D_in)
        grad_weight = grad_rows.T @ x.flatten(0, -2) if need_weight else None   # (D_out, D_in)
        grad_bias = grad_rows.sum(0) if need_bias else None                     # (D_out,)
        return grad_x, grad_weight, grad_bias


class FastLinear(nn.Linear):
    """nn.Linear with oneDNN's product, in float32 on a CPU."""

    reordered = None  # the weight in oneDNN's own layout, inside `reordered_weights`

    def forward(self, x):
        """x (..., D_in) -> (..., D_out)."""
        if not self.can_use_onednn(x):
            return super().forward(x)
        if torch.is_grad_enabled():
            return OneDNNLinear.apply(x, self.weight, self.bias)
        return onednn_linear(x, self.weight if self.reordered is None else self.reordered, self.bias)

    def can_use_onednn(self, x):
        """Whether oneDNN's product computes for x (..., D_in) what nn.Linear computes."""
        return (
            not torch.compiler.is_compiling()                               # the compiler chooses the product
            and has_float32_weight(self)
            and x.is_cpu
            and x.dtype == torch.float32
            and x.dim() > 1                                                 # `backward` needs rows
            and not torch.is_autocast_enabled("cpu")                        # which doesn't know oneDNN's operator
        )


def has_float32_weight(layer):
    """Whether a layer's weight is a tensor of float32 on a CPU. Tensors of other types have products of their own."""
    return (layer.weight.is_cpu and layer.weight.dtype == torch.float32 and layer.weight.layout == torch.strided
            and type(layer.weight) in (torch.Tensor, nn.Parameter))


@contextmanager
def reordered_weights(model):
    """Inside the `with` block, a model's FastLinear layers also hold their weights in oneDNN's own layout, into which
    each product would otherwise copy them. The weights must not change there. This doubles the memory of these weights.

    With the 124M, the copies take 16 ms of a step of generation, which takes 44 ms with two rows and 184 with 64 (two
    threads of an AMD EPYC). Making them once takes 150 ms.
    """
    layers = [module for module in model.modules() if type(module) is FastLinear and has_float32_weight(module)
              and type(module.weight) is nn.Parameter]  # not one that a hook computes anew
    try:
        for layer in layers:
            layer.reordered = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), LAYOUT_ROWS)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("reordered", None)


@contextmanager
def swap_class(model, old, new):
    """The model's modules of the class `old` are of the class `new` inside the `with` block.

    Only `__class__` is set: names, hooks and tied weights of the modules stay.
    """
    modules = [module for module in model.modules() if type(module) is old]
    try:
        for module in modules:
            module.__class__ = new
        yield
    finally:
        for module in modules:
            module.__class__ = old


def fast_layers(model):
    """A `with` block in which the model's linear layers are FastLinear, if PyTorch has oneDNN."""
    return swap_class(model, nn.Linear, FastLinear if torch.backends.mkldnn.is_available() else nn.Linear)


def reference_layers(model):
    """A `with` block in which the model's linear layers are PyTorch's own, also within that of `fast_layers`."""
    return swap_class(model, FastLinear, nn.Linear)
