"""What a model is made of: what its result depends on besides its weights, and its custom parts, which are neither the
textbook's nor PyTorch's."""

from itertools import count
from weakref import WeakKeyDictionary

import torch.nn as nn
from torch.nn.modules import module as torch_modules

import previous_chapters

CUSTOM_PARTS = WeakKeyDictionary()  # model: {its structure: its custom parts, in words}
IDENTITIES = WeakKeyDictionary()    # function, class or module: a number that stands for it
NEXT_IDENTITY = count()
# As imported: a method that was patched afterwards isn't among them.
TEXTBOOK_FORWARDS = {kind.forward for kind in vars(previous_chapters).values()
                     if isinstance(kind, type) and issubclass(kind, nn.Module)}


def structure_of(model):
    """What a model's result depends on besides its weights, as far as its modules show it, as a tuple: their classes,
    `forward` methods, hooks and modes, and the settings of those that aren't PyTorch's own."""
    parts = []
    for module in model.modules():
        parts += [identity(module), identity(type(module)), identity(type(module).forward), *hooks_of(module).keys(),
                  module.training, *settings_of(module)]
        if "forward" in vars(module):  # patched on this instance
            parts.append(identity(getattr(module.forward, "__func__", module.forward)))
    return (*parts, *hooks_of(torch_modules, "_global").keys())


def settings_of(module):
    """The attributes that are numbers or texts, [(name, value), ...], without the mode, `training`; lists, tuples and
    functions aren't read. Nor are those of PyTorch's own modules: some count calls, as DistributedDataParallel does."""
    if is_pytorchs(module):
        return []
    return [(name, value) for name, value in vars(module).items()
            if type(value) in (bool, int, float, str) and name[0] != "_" and name != "training"]


def is_pytorchs(module):
    """Whether a module computes what a class of PyTorch's own does."""
    return type(module).forward.__module__.startswith("torch.")


def identity(item):
    """The number of a function, class or module. Like `id`, but never reused when an item is gone."""
    return IDENTITIES.setdefault(item, next(NEXT_IDENTITY))


def hooks_of(module, prefix=""):
    """The hooks of a module, {PyTorch's number for it, which is never reused: hook}. With the prefix "_global", those
    hooks that PyTorch calls for all modules, and keeps in `torch_modules`."""
    return {number: hook for kind in ("forward_pre", "forward", "backward_pre", "backward")
            for number, hook in getattr(module, f"{prefix}_{kind}_hooks").items()}


def custom_parts(model, structure):
    """`find_custom_parts(model)`, remembered for each structure of the model, its `structure_of`."""
    known = CUSTOM_PARTS.setdefault(model, {})
    if structure not in known:
        known[structure] = find_custom_parts(model)
    return known[structure]


def find_custom_parts(model):
    """The parts that are neither the textbook's nor PyTorch's, or have hooks: a list of texts."""
    found = ["all modules have a hook"] if hooks_of(torch_modules, "_global") else []
    for name, module in model.named_modules():
        forward = type(module).forward
        shown = f"{name or 'the model'} ({type(module).__name__})"
        if "forward" in vars(module) and not hasattr(module, "_orig_mod"):  # torch.compile's wrapper has one, too
            found.append(f"{shown} has another forward")
        elif (forward not in TEXTBOOK_FORWARDS and not is_pytorchs(module)
              and not forward.__module__.startswith("engine.")):
            found.append(f"{shown} has a forward of its own")
        if any(not str(getattr(hook, "__module__", "")).startswith("torch.") for hook in hooks_of(module).values()):
            found.append(f"{shown} has a hook")
    return found
