"""Saving and resuming a training run, so that a process may die at any moment.

A checkpoint gets its name when all of it is on the disk, so there are whole checkpoints only, and the last two are
kept: a damaged one is noticed by its checksums and passed over for the one before it. Only tensors and plain values are
read back (`weights_only=True`), so that a file from a stranger can't run code.
"""

import hashlib
import os
import time
import zlib
from contextlib import contextmanager
from itertools import islice
from math import inf
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch

from .params import misfit

CONFIG_KEYS = {"vocab_size", "context_length", "emb_dim", "n_heads", "n_layers", "drop_rate", "qkv_bias"}


@contextmanager
def whole_file(path):
    """Gives a path to write to in the `with` block; what was written there gets the name `path` at its end. After an
    error, or if the process dies, a file that had that name is still there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


class Checkpoints:
    """The checkpoints of one run, `step-<number>.pt` in a folder; without a folder nothing is saved or resumed.

    stateful: what the run changes, objects with `state_dict` and `load_state_dict`, the model first; train_loader,
    val_loader: the loaders it draws from; minutes: how long after a checkpoint the next one is due; settings: what else
    decides the run's result, plain values. A folder with the checkpoints of a run that began differently is an error.
    """

    def __init__(self, folder, stateful, train_loader=None, val_loader=None, minutes=inf, **settings):
        self.folder = Path(folder) if folder else None
        self.stateful, self.minutes, self.saved_at = stateful, minutes, time.monotonic()
        # What a run draws from: PyTorch's generator on the CPU, the loaders' own if they have any, those on CUDA GPUs.
        own = [loader.generator for loader in (train_loader, val_loader) if getattr(loader, "generator", None)]
        self.generators = [torch.default_generator, *own, *torch.cuda.default_generators]
        self.epoch_start = self.random_states()
        self.run = settings
        if self.folder:
            self.run |= {"generators": [str(generator.device) for generator in self.generators]}
            for name, loader in (("training", train_loader), ("validation", val_loader)):
                if loader is not None:
                    self.run |= {f"{name} data": hash_of(getattr(loader, "dataset", loader)),
                                 f"{name} batch size": getattr(loader, "batch_size", None),
                                 f"{name} batches": len(loader)}
            for number, one in enumerate(stateful):
                self.run |= {f"{key} ({number})" if key in self.run else key: value for key, value in describe(one)}

    def random_states(self):
        """The states of the random generators."""
        return [generator.get_state() for generator in self.generators]

    def set_random_states(self, states):
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)

    def batches(self, train_loader, taken):
        """The batches of an epoch, without those that had been `taken` when the run stopped."""
        now = self.random_states()
        if taken:  # the order of the batches was drawn at the start of the epoch
            self.set_random_states(self.epoch_start)
        else:
            self.epoch_start = now
        batches = iter(train_loader)
        for _ in islice(batches, taken):
            pass
        if taken:
            self.set_random_states(now)
        yield from batches

    def save_when_due(self, step):
        """Save after this step if the last checkpoint is so many minutes old."""
        if self.folder and time.monotonic() - self.saved_at >= 60 * self.minutes:
            self.save(step)

    def save(self, step):
        """Write all that the run depends on after this step, and keep only the checkpoint before it besides.

        Raises ValueError if the model's weights aren't finite: the checkpoints before are worth more.
        """
        if self.folder is None:
            return
        states = [changing_state(one) for one in self.stateful]
        if not all(weight.isfinite().all() for weight in states[0].values()):
            raise ValueError(f"after step {step} the weights aren't finite, so they aren't saved: try a lower learning "
                             f"rate or max_norm=1.0, and go on from the checkpoint before, in {self.folder}")
        path = self.folder / f"step-{step}.pt"
        with whole_file(path) as unfinished, open(unfinished, "wb") as file:
            torch.save({"run": self.run, "states": states, "generators": self.random_states(),
                        "epoch_start": self.epoch_start}, file)
        self.saved_at = time.monotonic()
        for leftover in self.folder.glob("step-*.pt.part"):  # of a process that died while it wrote
            leftover.unlink()
        # Newer ones that are there, too, were damaged: the run would have gone on from them.
        saved = numbered(self.folder, ".pt")
        kept = [path, *(older for older in saved if number_of(older) < step)][:2]
        for other in set(saved) - set(kept):
            other.unlink()

    def resume(self):
        """Restore all from the newest undamaged checkpoint; without one nothing happens.

        Raises ValueError, saying what differs, if the checkpoint is of another run.
        """
        for path in numbered(self.folder, ".pt") if self.folder else ():
            if not is_sound(path):
                print(f"{path} is damaged: trying the one before it")
                continue
            saved = torch.load(path, map_location="cpu", weights_only=True)
            if difference := differences(self.run, saved["run"]):
                raise ValueError(f"{path} is of another run ({difference}): empty that folder or name another. To "
                                 "train a saved model further, begin with it (in the notebook, set START_FROM)")
            for one, state in zip(self.stateful, saved["states"], strict=True):
                one.load_state_dict(state, **({"strict": False} if isinstance(one, torch.nn.Module) else {}))
            self.set_random_states(saved["generators"])
            self.epoch_start = saved["epoch_start"]
            print(f"Going on from {path}")
            return


def numbered(folder, ending):
    """The checkpoints in a folder, `step-<number>` and this ending, the newest first."""
    paths = Path(folder).glob(f"step-*{ending}")
    return sorted((path for path in paths if path.name.removeprefix("step-").removesuffix(ending).isdecimal()),
                  key=number_of, reverse=True)


def number_of(path):
    """The number of steps in a checkpoint's name."""
    return int(path.stem.removeprefix("step-"))


def differences(run, saved):
    """In which settings, {name: value}, a run differs from a saved one: a text, empty if in none."""
    return "; ".join(f"{name} {run.get(name)!r}, was {saved.get(name)!r}"
                     for name in saved | run if run.get(name) != saved.get(name))


def changing_state(one):
    """The `state_dict` of a model, an optimiser or the like, without a model's frozen weights."""
    frozen = set()
    if isinstance(one, torch.nn.Module):
        frozen = {name for name, weight in one.named_parameters(remove_duplicate=False) if not weight.requires_grad}
    return {name: value for name, value in one.state_dict().items() if name not in frozen}


def describe(one):
    """What a run begins with in a model, an optimiser or a schedule: pairs of a name and a plain value."""
    name = type(one).__name__
    if isinstance(one, torch.nn.Module):
        checksum = 0
        for weight in one.state_dict().values():
            checksum = zlib.crc32(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy(), checksum)
        yield "initial weights", f"{checksum:08x}"
        yield "dropout", [module.p for module in one.modules() if isinstance(module, torch.nn.Dropout)]
        yield "trained parameters", sum(parameter.numel() for parameter in one.parameters() if parameter.requires_grad)
    elif isinstance(one, torch.optim.Optimizer):
        for number, group in enumerate(one.param_groups):
            for key, value in group.items():
                if key not in ("params", "initial_lr"):
                    yield f"{name} {key}" + f" of group {number}" * (len(one.param_groups) > 1), value
    elif isinstance(one, torch.optim.lr_scheduler.LRScheduler):
        for key, value in one.state_dict().items():
            if not key.startswith("_") and key not in ("base_lrs", "last_epoch"):
                yield f"{name} {key}", value


def hash_of(items):
    """A short hash of what a list or a data set holds, in order: numbers, texts, tensors, and what is made of them."""
    digest = hashlib.sha256()
    for number in range(len(items)):
        digest.update(repr(plain(items[number])).encode())
    return digest.hexdigest()[:16]


def plain(item):
    """Tensors and arrays, also within tuples, lists and dictionaries, as lists of numbers."""
    if isinstance(item, dict):
        item = list(item.items())
    if isinstance(item, (tuple, list)):
        return list(map(plain, item))
    return item.tolist() if hasattr(item, "tolist") else item


def read_saved_model(path):
    """What `save_model` wrote to a file: {"config": ..., "weights": ...}. Raises ValueError for any other file."""
    with open(path, "rb") as file:
        try:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever PyTorch's unpickler makes of foreign bytes
            raise ValueError(f"{path} is no file that save_model wrote: it is damaged, or holds more than weights, "
                             "which weights_only=True refuses to read") from error
    if not isinstance(saved, dict) or saved.keys() != {"config", "weights"}:
        raise ValueError(f"{path} is no file that save_model wrote, which holds a config and weights: if it is a bare "
                         "state_dict, load it into a GPTModel(cfg) with load_state_dict, and save that with save_model")
    if missing := CONFIG_KEYS.difference(saved["config"]):
        raise ValueError(f"{path} is no file that save_model wrote: its config lacks {', '.join(sorted(missing))}")
    return saved


def check_fit(weights, model):
    """Raise ValueError unless weights, {name: tensor}, are as in `model`: none missing, left over or of another
    shape."""
    if fault := misfit(weights, {name: weight.shape for name, weight in model.state_dict().items()}):
        raise ValueError(f"the model {fault}, so it is no GPTModel of its config. To save a model, merge adapters "
                         "first and take it out of wrappers such as DistributedDataParallel")


def is_sound(path):
    """Whether a file that `torch.save` wrote, a zip archive with checksums, is undamaged."""
    try:
        with ZipFile(path) as archive:
            return archive.testzip() is None
    except (BadZipFile, EOFError, RuntimeError, ValueError, zlib.error):  # what zipfile raises for damaged contents
        return False
