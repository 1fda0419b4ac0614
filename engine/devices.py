"""Whether a device computes what the CPU computes.

A device that gives wrong results gives no error, only a bad model: with several versions of PyTorch, GPT-2 on a Mac's
GPU (MPS) gave other outputs than on its CPU (https://github.com/TransformerLensOrg/TransformerLens/issues/1178,
https://github.com/rasbt/LLMs-from-scratch/pull/324). So training on another device begins with a comparison.
"""

from functools import partial

import torch
from torch.func import functional_call

from engine.distributed import world_size
from engine.models import evaluation_mode
from engine.precision import mixed_precision
from previous_chapters import calc_loss_batch

# Relative to the CPU's loss; devices that give wrong results are off by much more.
TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 3e-2}


@torch.no_grad()
def check_device(model, idx, device, precision):
    """Compare the loss of the first two rows of `idx` (B, T) on the model's device, in the dtype `precision`, with the
    CPU's. The weights are copied to the CPU for that.

    Raises ValueError if they differ by more than rounding. Nothing is compared on a CPU, and in several processes, none
    of which has the whole model.
    """
    if torch.device(device).type == "cpu" or world_size() > 1:
        return
    inputs, targets = idx[:2], idx[:2].roll(-1, dims=1)                         # (2, T)
    on_cpu = {name: tensor.cpu() for tensors in (model.named_parameters, model.named_buffers)
              for name, tensor in tensors(remove_duplicate=False)}
    with evaluation_mode(model):
        model_on_cpu = partial(functional_call, model, on_cpu, tie_weights=False)  # tied weights have both names
        expected = calc_loss_batch(inputs, targets, model_on_cpu, "cpu").item()
        with mixed_precision(device, precision):
            found = calc_loss_batch(inputs, targets, model, device).item()
    if not abs(found - expected) <= TOLERANCE[precision] * expected:
        raise ValueError(f"on {device} the loss of two rows is {found:.4f}, on the CPU {expected:.4f}: with torch "
                         f"{torch.__version__} this device gives wrong results. Train with device = \"cpu\", or "
                         "install another version of torch or of the device's driver")
