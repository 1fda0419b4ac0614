"""What a training run draws random numbers from, saved and restored, so that a resumed run draws the same."""

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
        """The states of all generators, tensors and plain values."""
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
        """The states of all generators as one text, which differs if anything was drawn."""
        return repr(plain(self.states()))

    @contextmanager
    def fixed(self):
        """Inside the `with` block all generators begin at the same point; afterwards they are where they were."""
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
        """Short hashes of what a loader reads, in the order of its data set, and of the order in which it does when all
        generators begin at the same point: {"<name> data": hash, "<name> order": hash}. A loader without a data set, or
        with one that has no numbers, is known by its batches alone; the order of a DistributedSampler by its seed.

        Raises ValueError if data or order are others the second time: then a run could not be resumed.
        """
        dataset, order = getattr(loader, "dataset", None), []
        numbered = dataset is not None and not isinstance(dataset, IterableDataset)
        hashes = []
        for _ in range(2):
            with self.fixed():
                batches = list(loader)
                hashes.append({"data": hash_of(dataset if numbered else batches), "order": hash_of(batches)})
        for what, value in hashes[0].items():
            if value != hashes[1][what]:
                raise ValueError(f"the {what} of the {name} loader can't be repeated, so the run could not be resumed: "
                                 "it depends on something that can't be saved. Have it draw from a torch.Generator "
                                 "that data set or sampler hold, or from a global random state, and count nothing")
        if numbered and not isinstance(getattr(loader, "sampler", None), DistributedSampler):
            with self.fixed():
                order = [number for batch in getattr(loader, "batch_sampler", None) or () for number in batch]
        return {f"{name} data": hashes[0]["data"], f"{name} order": hash_of(order)}


def generators_of(item):
    """The torch.Generators that a model's modules, or a loader, its data set and its samplers hold, each as often as it
    is held."""
    if isinstance(item, torch.nn.Module):
        holders = item.modules()
    else:
        batch_sampler = getattr(item, "batch_sampler", None)
        holders = (item, getattr(item, "dataset", None), getattr(item, "sampler", None), batch_sampler,
                   getattr(batch_sampler, "sampler", None))
    return [value for holder in holders for value in getattr(holder, "__dict__", {}).values()
            if isinstance(value, torch.Generator)]


def hash_of(items):
    """A short hash of what a list or a data set holds, in order: numbers, texts, tensors, and what is made of them."""
    digest = hashlib.sha256()
    for number in range(len(items)):
        digest.update(repr(plain(items[number])).encode())
    return digest.hexdigest()[:16]
