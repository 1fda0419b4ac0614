"""What the engine asks of any model: its device, its context length, its dropout; and evaluation mode for a while."""

from contextlib import contextmanager
from math import inf

import torch.nn as nn


def device_of(model):
    """The device of the model's weights."""
    return next(model.parameters()).device


def context_length(model):
    """The most tokens in a row that a model reads; infinity if it doesn't say."""
    gpt = getattr(model, "module", model)  # inside DistributedDataParallel
    return getattr(getattr(gpt, "pos_emb", None), "num_embeddings", inf)


def has_dropout(model):
    """Whether dropout is active, so that equal tokens get different hidden states in different rows."""
    return any(type(module) is nn.Dropout and module.training and module.p for module in model.modules())


@contextmanager
def evaluation_mode(model):
    """Dropout is off inside the `with` block. Afterwards, every part of the model is in its earlier mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        model.train(modes[model])  # some layers do more in `train` than set `training`
        for module, mode in modes.items():
            module.training = mode
