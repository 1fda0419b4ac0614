"""Faster products on a CPU: oneDNN's in linear layers, weights that lie in rows, and memory that is kept.

`fast_layers` takes oneDNN's product for a model's linear layers, `plain_layers` PyTorch's own again. What else slows
products and steps down is where weights lie, and how often memory goes back to the system.
"""

import ctypes
import sys
from contextlib import contextmanager

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor

# --- Products ---


class OneDNNLinear(torch.autograd.Function):
    """F.linear, forward by oneDNN and backward by PyTorch's own product (MKL), each where it is the faster one on a
    CPU: with two threads of an AMD EPYC, 172 and not 271 ms for all products of 64 rows of the 124M; backward, 114 to
    144 GFLOP/s and not 80 to 110.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)                                              # (rows, D_out)
        need_x, need_weight, need_bias = ctx.needs_input_grad
        return ((rows @ weight).view_as(x) if need_x else None,
                rows.T @ x.flatten(0, -2) if need_weight else None, rows.sum(0) if need_bias else None)


class FastLinear(nn.Linear):
    """nn.Linear with oneDNN's product, in float32 on a CPU."""

    def forward(self, x):
        """x (..., D_in) -> (..., D_out)."""
        if torch.compiler.is_compiling() or not (
                x.is_cpu and x.dtype == self.weight.dtype == torch.float32 and x.dim() > 1 and x.numel() and not
                torch.is_autocast_enabled("cpu") and type(self.weight) in (torch.Tensor, nn.Parameter)):
            return super().forward(x)
        if torch.is_grad_enabled():
            return OneDNNLinear.apply(x, self.weight, self.bias)
        if x.numel() == self.in_features and self.in_features % 2 == 0 and self.weight.mT.is_contiguous():
            return self.in_halves(x)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")

    def in_halves(self, x):
        """One row (..., D_in) -> (..., D_out), by a weight that lies transposed, as OpenAI's do: the sum of two
        products, each with half of the inputs. They take 14 % less time than oneDNN's product."""
        halves = torch.bmm(x.view(2, 1, -1), self.weight.mT.view(2, -1, self.out_features))  # (2, 1, D_out)
        y = halves.sum(dim=0).view(*x.shape[:-1], -1)                           # (..., D_out)
        return y if self.bias is None else y.add_(self.bias)


@contextmanager
def fast_layers(model):
    """Have a model's linear layers be FastLinear inside the `with` block, and nn.Linear again afterwards."""
    changed = [module for module in model.modules() if type(module) is nn.Linear]
    try:
        for module in changed if torch.backends.mkldnn.is_available() else ():
            module.__class__ = FastLinear
        yield
    finally:
        for module in changed:
            module.__class__ = nn.Linear


@contextmanager
def plain_layers(model):
    """PyTorch's own linear layers inside the `with` block, also within that of `fast_layers`."""
    fast = [module for module in model.modules() if type(module) is FastLinear]
    try:
        for module in fast:
            module.__class__ = nn.Linear
        yield
    finally:
        for module in fast:
            module.__class__ = FastLinear


# --- Memory ---


def own_memory(model):
    """Copy each trained weight into contiguous memory of its own. OpenAI's weights lie transposed in their files.
    Training them as they are takes 5 to 7 % longer, since the optimiser reorders every gradient. Frozen weights
    stay."""
    copies = {}  # tied parameters stay tied
    for parameter in model.parameters():
        if parameter.requires_grad:
            place = id(parameter) if isinstance(parameter, DTensor) else (parameter.data_ptr(), parameter.stride())
            if place not in copies:
                copies[place] = parameter.data.clone(memory_format=torch.contiguous_format)
            parameter.data = copies[place]


def in_rows(model):
    """Copy weights that lie transposed, as those from OpenAI's files do, into rows, but for frozen ones. With several
    rows of tokens oneDNN then multiplies up to 1.8 times as fast; for a single one the copy isn't worth its time and
    memory."""
    with torch.inference_mode(False):  # what is made in that mode could not be trained
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.is_cpu and not parameter.is_contiguous():
                parameter.data = parameter.data.contiguous()


@contextmanager
def freed_memory():
    """Gives a function: from its call to the end of the `with` block the process keeps the memory that it frees.

    Fetching it from the system again, page after page, each zeroed first, takes 5 to 15 % of a training step. This
    needs glibc, the usual C library on Linux; elsewhere nothing happens. The two switches and their default values, to
    which they return: mallopt(3). Huge pages were tried as well: no clear gain, and up to 4 % more memory.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def switch(trim_threshold, largest_number_of_maps):
        libc.mallopt(-1, trim_threshold)          # M_TRIM_THRESHOLD: when the heap's free end is given back
        libc.mallopt(-4, largest_number_of_maps)  # M_MMAP_MAX: how many large tensors lie outside the heap

    if not hasattr(libc, "mallopt"):
        yield lambda: None
        return
    try:
        yield lambda: switch(-1, 0)
    finally:
        switch(128 * 1024, 65536)
        libc.malloc_trim(0)
