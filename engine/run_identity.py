"""Is it the same run? A description of what a run's result depends on, {name: value}, which its checkpoints hold."""

import hashlib
import zlib
from weakref import WeakKeyDictionary

import torch
from torch.nn.modules.dropout import _DropoutNd  # the base of nn.Dropout, nn.AlphaDropout and the others
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DistributedSampler, IterableDataset

from engine.distributed import full_tensor, world_size
from engine.structure import settings_of
from weights.values import bytes_of, plain

# Model, optimiser or schedule: {folder: its description when the run began}. Training changes all three, and so their
# descriptions: the initial one is kept so that a stopped run can continue in the same process.
INITIAL_DESCRIPTIONS = WeakKeyDictionary()
# What a schedule's state_dict has besides its settings.
SCHEDULE_STATE = {"base_lrs", "last_epoch", "_last_lr", "_step_count", "_is_initial", "_get_lr_called_within_step",
                  "_schedulers"}


def describe_run(stateful, loaders, randomness, settings, folder):
    """The description of a run that saves its checkpoints in `folder`, as numbers, texts and lists.

    stateful: the model, the optimiser and other objects with a state; loaders: {name: data loader}, each read twice;
    settings: {name: value}. Raises ValueError as `hashes_of_data` says.
    """
    generators = [str(generator.device) for generator in randomness.generators]
    description = plain(settings | {"generators": generators})
    for name, loader in loaders.items():
        description |= hashes_of_data(name, loader, randomness) | sizes_of(name, loader)
    for number, item in enumerate(stateful):
        for key, value in initial_description(item, folder).items():
            # Numbered, since two objects of one class, such as two schedules, have the same keys.
            description[f"{key} ({number})" if key in description else key] = value
    return description


def has_changed(item, folder):
    """Whether a run that saves in `folder` has already changed this model, optimiser or schedule, in this process."""
    initial = INITIAL_DESCRIPTIONS.get(item, {}).get(folder)
    return initial is not None and initial != plain(dict(describe(item)))


def initial_description(item, folder):
    """The description of a model, an optimiser or a schedule when the run in `folder` began: {name: value}."""
    known = INITIAL_DESCRIPTIONS.setdefault(item, {})
    if folder not in known:
        known[folder] = plain(dict(describe(item)))
    return known[folder]


def differences(run, saved):
    """Where two descriptions differ: a text, empty if nowhere."""
    return "; ".join(f"{name} {run.get(name)!r}, was {saved.get(name)!r}"
                     for name in saved | run if run.get(name) != saved.get(name))


# --- Model, optimiser, schedule ---


def describe(item):
    """What a model, an optimiser or a schedule contributes to the result of a run: pairs of a name and a value.

    An edited `forward` has no description, and neither has a plain function in a schedule, such as LambdaLR's: two of
    them can't be told apart.
    """
    name = type(item).__name__
    if isinstance(item, torch.nn.Module):
        checksum = 0
        for weight in item.state_dict().values():
            checksum = zlib.crc32(bytes_of(full_tensor(weight.detach())), checksum)
        yield "initial weights", f"{checksum:08x}"
        yield "dropout", [module.p for module in item.modules() if isinstance(module, _DropoutNd)]
        yield "settings", [setting for module in item.modules() for setting in settings_of(module)]
        yield "trained parameters", sum(parameter.numel() for parameter in item.parameters() if parameter.requires_grad)
    elif isinstance(item, torch.optim.Optimizer):
        for number, group in enumerate(item.param_groups):
            of_group = f" of group {number}" if len(item.param_groups) > 1 else ""
            for key, value in group.items():
                if key not in ("params", "initial_lr"):
                    yield f"{name} {key}{of_group}", value
    elif isinstance(item, LRScheduler):
        yield from describe_schedule(item, name)


def describe_schedule(schedule, name):
    """The settings of a schedule and of those that it consists of: pairs of a name, which begins with `name`, and a
    value."""
    for key, value in schedule.state_dict().items():
        if key not in SCHEDULE_STATE:
            yield f"{name} {key.removeprefix('_')}", value
    for number, part in enumerate(getattr(schedule, "_schedulers", ())):  # of a SequentialLR or a ChainedScheduler
        yield from describe_schedule(part, f"{name}[{number}] {type(part).__name__}")


# --- Data ---


def sizes_of(name, loader):
    """How a loader divides its data: {name: value}. The batch size is that of all processes together; the seed is that
    of a DistributedSampler."""
    batch_size = getattr(loader, "batch_size", None)
    seed = getattr(getattr(loader, "sampler", None), "seed", None)
    total_size = None if batch_size is None else batch_size * world_size()
    sizes = {f"{name} batch size": total_size, f"{name} batches": len(loader)}
    return sizes | ({"seed": seed} if name == "training" and seed is not None else {})


def hashes_of_data(name, loader, randomness):
    """Short hashes of the data of a loader and of the order in which it reads them from seed 0: {"<name> data": hash,
    "<name> order": hash}. The run's own random states aren't described: its checkpoints restore them.

    The whole loader is read twice. Raises ValueError if its batches differ: then the run could not be resumed. If its
    data set can't be indexed, the hash of its batches covers data and order. The order of a DistributedSampler isn't
    hashed: it follows from its seed.
    """
    dataset = getattr(loader, "dataset", None)
    indexed = dataset is not None and not isinstance(dataset, IterableDataset)

    def read():
        with randomness.fixed():
            batches = list(loader)
            return {"data": hash_of(dataset if indexed else batches), "batches": hash_of(batches)}

    first, second = read(), read()  # the hash of the batches is only compared
    for what, value in first.items():
        if value != second[what]:
            raise ValueError(f"the {what} of the {name} loader can't be repeated, so the run could not be resumed: "
                             "they depend on something that can't be saved. Have the loader draw from a "
                             "torch.Generator held by the data set or sampler, or from a global random state, and not "
                             "depend on how often it was read")
    order = []
    if indexed and not isinstance(getattr(loader, "sampler", None), DistributedSampler):
        with randomness.fixed():
            order = [index for batch in getattr(loader, "batch_sampler", None) or () for index in batch]
    return {f"{name} data": first["data"], f"{name} order": hash_of(order)}


def hash_of(items):
    """A short hash of the items of a list or a data set, in order: numbers, texts, tensors, or lists of them."""
    digest = hashlib.sha256()
    for number in range(len(items)):
        digest.update(repr(plain(items[number])).encode())
    return digest.hexdigest()[:16]
