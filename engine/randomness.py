"""The random generators of a training run, saved and restored, so that a resumed run draws the same numbers."""

import random
from contextlib import contextmanager

import numpy as np
import torch

from weights.values import bytes_of, plain


class Randomness:
    """The random generators of a run in this process: PyTorch's on the CPU and on CUDA GPUs, the global ones of Python
    and NumPy, and those held by `items`: a model's modules, or loaders, their data sets and their samplers."""

    def __init__(self, *items):
        held = {id(generator): generator for item in items for generator in generators_of(item)}
        self.generators = [torch.default_generator, *held.values(), *torch.cuda.default_generators]

    def states(self):
        """The states of all generators, as tensors and Python's numbers. The long lists of numbers are tensors, which
        are saved faster."""
        version, numbers, gauss = random.getstate()
        numpy_state = np.random.get_state(legacy=False)
        numpy_state["state"]["key"] = torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))
        return {"torch": [generator.get_state() for generator in self.generators],
                "python": (version, torch.tensor(numbers), gauss), "numpy": numpy_state}

    def restore(self, states):
        """Put back what `states` gave."""
        for generator, state in zip(self.generators, states["torch"], strict=True):
            generator.set_state(state)
        version, numbers, gauss = states["python"]
        random.setstate((version, tuple(numbers.tolist()), gauss))
        np.random.set_state(states["numpy"])

    def fingerprint(self):
        """The states of all generators as one text, which changes whenever something is drawn."""
        return repr(plain(self.states(), lambda tensor: bytes_of(tensor).tobytes()))

    @contextmanager
    def fixed(self):
        """Inside the `with` block all generators begin with seed 0. Afterwards they are as they were before."""
        states = self.states()
        try:
            for generator in self.generators:
                generator.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
        finally:
            self.restore(states)


def generators_of(item):
    """The torch.Generators held by a model's modules, or by a loader, its data set and its samplers; some may come more
    than once."""
    if isinstance(item, torch.nn.Module):
        holders = item.modules()
    else:
        batch_sampler = getattr(item, "batch_sampler", None)
        holders = (item, getattr(item, "dataset", None), getattr(item, "sampler", None), batch_sampler,
                   getattr(batch_sampler, "sampler", None))
    return [value for holder in holders for value in getattr(holder, "__dict__", {}).values()
            if isinstance(value, torch.Generator)]
