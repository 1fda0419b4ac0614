"""The number format in which training multiplies matrices: float32, or a faster one of 16 bits.

Only the inputs and outputs of matrix products are rounded (mixed precision; Micikevicius et al., 2018). Weights, their
gradients and AdamW's moments stay float32, and so do layer norms and the loss. Of the two formats with 16 bits,
bfloat16 has float32's range and 8 significant bits. Float16 has 11, but its smallest number is 6e-8: small gradients
vanish unless the loss is scaled up first.
"""

from contextlib import nullcontext

import torch

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def fastest_format(device):
    """The name of the format in which a device multiplies fastest, by what its hardware can do; emulation is slower
    than float32 and doesn't count."""
    kind = torch.device(device).type
    if kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):  # from Ampere on
        return "bfloat16"
    if kind == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0):  # tensor cores, such as the T4's
        return "float16"
    instructions = torch.cpu.get_capabilities()
    if kind == "cpu" and (instructions.get("avx512_bf16") or instructions.get("amx_bf16")):
        return "bfloat16"
    return "float32"


def number_format(precision, device):
    """The name of a format: the one that `precision` names, or with "auto" the fastest of the device. Raises ValueError
    for another name."""
    if precision not in ("auto", *FORMATS):
        raise ValueError(f"precision is {precision!r}: want auto, {', '.join(FORMATS)}")
    return fastest_format(device) if precision == "auto" else precision


def mixed_precision(device, precision):
    """Inside this `with` block matrix products are computed in the format that `number_format` gives.

    Open one for each forward pass. A weight is cast when it is first used, and the cast weight is kept until the block
    ends. FSDP2 makes its weights anew in each pass, so that the gradients of a second pass in one block would be lost.
    """
    precision = number_format(precision, device)
    return nullcontext() if precision == "float32" else torch.autocast(torch.device(device).type, FORMATS[precision])


class LossScaler(torch.amp.GradScaler):
    """PyTorch's scaling of the loss for float16; in the other formats nothing is scaled or left out.

    A step in which a gradient overflows is left out, and the scale is halved. This is no error, but how a good scale is
    found; `skipped` counts these steps. `precision` is one of FORMATS. Raises ValueError where no scale helps.
    """

    def __init__(self, device, precision):
        super().__init__(torch.device(device).type, enabled=precision == "float16")
        self.skipped = 0

    def step(self, optimizer):
        """Take the optimiser's step, unless a gradient overflowed, and choose the next scale."""
        super().step(optimizer)
        scale = self.get_scale()
        self.update()
        self.skipped += self.get_scale() < scale
        if self.get_scale() < 1:
            raise ValueError("gradients aren't finite, however small the loss is scaled; the weights are those from "
                             "before this step. Try precision float32, a lower learning rate or max_norm=1.0")

    def report(self):
        """How many steps were left out so far, as a text."""
        return f"steps left out so far, since their float16 gradients overflowed: {self.skipped}"

    def state_dict(self):
        return super().state_dict() | {"skipped": self.skipped}

    def load_state_dict(self, state):
        self.skipped = state["skipped"]
        super().load_state_dict({name: value for name, value in state.items() if name != "skipped"})
