"""The random generators of a training run, saved and restored, so that a resumed run draws the same numbers."""

import hashlib
import random
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import DistributedSampler, IterableDataset

from weights.saved import plain


class Randomness:
    """The random generators of a run in this process: PyTorch's on the CPU and on CUDA GPUs, the global ones of Python
    and NumPy, and those that `items` hold: a model's modules, or loaders, their data sets and their samplers."""

    def __init__(self, *items):
        held = {id(generator): generator for item in items for generator in generators_of(item)}
        self.generators = [torch.default_generator, *held.values(), *torch.cuda.default_generators]

    def states(self):
        """The states of all generators, as tensors and plain values."""
        return {"torch": [generator.get_state() for generator in self.generators],
                "python": plain(random.getstate()), "numpy": plain(np.random.get_state(legacy=False))}

    def restore(self, states):
        """Put back what `states` gave."""
        for generator, state in zip(self.generators, states["torch"], strict=True):
            generator.set_state(state)
        version, numbers, gauss = states["python"]
        random.setstate((version, tuple(numbers), gauss))
        np.random.set_state(states["numpy"])

    def fingerprint(self):
        """The states of all generators as one text, which changes whenever something is drawn."""
        return repr(plain(self.states()))

    @contextmanager
    def fixed(self):
        """Inside the `with` block all generators begin with seed 0; afterwards they are as they were before."""
        states = self.states()
        try:
            for generator in self.generators:
                generator.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
        finally:
            self.restore(states)

    def hashes_of_data(self, name, loader):
        """Short hashes of the data of a loader and of the order in which it reads them: {"<name> data": hash, "<name>
        order": hash}. If its data set can't be indexed, both are in the hash of its batches. The order of a
        DistributedSampler isn't hashed: it follows from its seed.

        Raises ValueError if the loader gives other batches the second time: then a run could not be resumed.
        """
        dataset = getattr(loader, "dataset", None)
        indexed = dataset is not None and not isinstance(dataset, IterableDataset)

        def read():
            with self.fixed():
                batches = list(loader)
                return {"data": hash_of(dataset if indexed else batches), "order": hash_of(batches)}

        first, second = read(), read()
        for what, value in first.items():
            if value != second[what]:
                raise ValueError(f"the {what} of the {name} loader can't be repeated, so the run could not be resumed: "
                                 "it depends on something that can't be saved. Have it draw from a torch.Generator "
                                 "that data set or sampler hold, or from a global random state, and not depend on how "
                                 "often it was read")
        order = []
        if indexed and not isinstance(getattr(loader, "sampler", None), DistributedSampler):
            with self.fixed():
                order = [index for batch in getattr(loader, "batch_sampler", None) or () for index in batch]
        return {f"{name} data": first["data"], f"{name} order": hash_of(order)}


def generators_of(item):
    """The torch.Generators that a model's modules hold, or a loader, its data set and its samplers; some may come more
    than once."""
    if isinstance(item, torch.nn.Module):
        holders = item.modules()
    else:
        batch_sampler = getattr(item, "batch_sampler", None)
        holders = (item, getattr(item, "dataset", None), getattr(item, "sampler", None), batch_sampler,
                   getattr(batch_sampler, "sampler", None))
    return [value for holder in holders for value in getattr(holder, "__dict__", {}).values()
            if isinstance(value, torch.Generator)]


def hash_of(items):
    """A short hash of the items of a list or a data set, in order: numbers, texts, tensors, or lists of them."""
    digest = hashlib.sha256()
    for number in range(len(items)):
        digest.update(repr(plain(items[number])).encode())
    return digest.hexdigest()[:16]
