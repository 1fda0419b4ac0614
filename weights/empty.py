"""A model without memory for its weights, to load them into."""

import torch
from torch.overrides import TorchFunctionMode

from previous_chapters import GPTModel


class SkipNormalInit(TorchFunctionMode):
    """Makes `nn.init.normal_` do nothing. On the meta device it has nothing to fill, but makes PyTorch import its
    compiler, which takes seconds."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        # PyTorch passes all arguments of nn.init's functions by name.
        return kwargs["tensor"] if function is torch.nn.init.normal_ else function(*args, **(kwargs or {}))


def empty_model(config):
    """A GPTModel on the meta device, whose parameters and buffers have shapes but no values, to load weights into."""
    with torch.device("meta"), SkipNormalInit():
        return GPTModel(config)
