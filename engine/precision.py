"""The dtype of the matrix products in training: float32, or a faster one of 16 bits.

Only the inputs and outputs of matrix products are rounded (mixed precision; Micikevicius et al., 2018). Weights, their
gradients and AdamW's moments stay float32, and so do layer norms and the loss. Of the two dtypes with 16 bits, bfloat16
has float32's range and 8 significant bits. Float16 has 11, but its smallest number is 6e-8: small gradients vanish
unless the loss is scaled up first.
"""

from contextlib import nullcontext

import torch

from engine.texts import translate

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def fastest_precision(device):
    """The name of the dtype in which a device multiplies fastest, by what its hardware can do. Emulation is slower than
    float32 and doesn't count."""
    kind = torch.device(device).type
    if kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):  # from Ampere on
        return "bfloat16"
    if kind == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0):  # tensor cores, such as the T4's
        return "float16"
    instructions = torch.cpu.get_capabilities()
    if kind == "cpu" and (instructions.get("avx512_bf16") or instructions.get("amx_bf16")):
        return "bfloat16"
    return "float32"


def resolve_precision(precision, device):
    """The name of a dtype: `precision` itself or, for "auto", the device's fastest. Raises ValueError for another
    name."""
    if precision not in ("auto", *DTYPES):
        raise ValueError(f"precision is {precision!r}: expected auto, {', '.join(DTYPES)}")
    return fastest_precision(device) if precision == "auto" else precision


def mixed_precision(device, precision):
    """A `with` block in which matrix products are computed in the dtype that `resolve_precision` gives.

    Open one for each forward pass. A weight is cast when it is first used, and the cast weight is kept until the block
    ends. FSDP2 makes its weights anew in each pass, so the gradients of a second pass in one block would be lost.
    """
    precision = resolve_precision(precision, device)
    return nullcontext() if precision == "float32" else torch.autocast(torch.device(device).type, DTYPES[precision])


class LossScaler(torch.amp.GradScaler):
    """PyTorch's scaling of the loss for float16. With the other dtypes nothing is scaled or skipped.

    A step in which a gradient overflows is skipped, and the scale is halved. This is no error, but how a good scale is
    found; `skipped` counts these steps. `precision` is one of DTYPES. Raises ValueError where no scale helps.
    """

    def __init__(self, device, precision):
        super().__init__(torch.device(device).type, enabled=precision == "float16")
        self.skipped = 0

    def step(self, optimizer):
        """Take the optimiser's step, unless a gradient overflowed. Also choose the next scale, which takes a call of
        `update` in PyTorch."""
        super().step(optimizer)
        scale = self.get_scale()
        self.update()
        self.skipped += self.get_scale() < scale
        if self.get_scale() < 1:
            raise ValueError("gradients aren't finite, however small the loss is scaled; the weights are those from "
                             "before this step. Try precision float32, a lower learning rate or max_norm=1.0")

    def report(self):
        """How many steps were skipped so far, as a text."""
        return translate("steps skipped so far, because their float16 gradients overflowed: {n}").format(n=self.skipped)

    def state_dict(self):
        return super().state_dict() | {"skipped": self.skipped}

    def load_state_dict(self, state):
        self.skipped = state["skipped"]
        super().load_state_dict({name: value for name, value in state.items() if name != "skipped"})
