"""Does a fast path compute what the textbook computes, for this very model? Both are tried and compared.

A model may no longer be the textbook's: a layer was replaced, a method patched, a hook registered. Nothing is guessed
from that. `computes_the_same` computes both paths on a few tokens, once for each state of the model. The state, a
`structure_hash`, covers all that the result depends on besides the weights.
"""

import sys
from contextlib import contextmanager
from functools import partial
from itertools import count
from weakref import WeakKeyDictionary

import torch
import torch.nn as nn
from torch.nn.modules import module as torch_modules
from tqdm import tqdm

import previous_chapters
from engine.layers import reference_layers
from engine.models import context_length
from engine.randomness import Randomness
from engine.texts import marked, translate

CHECKED = WeakKeyDictionary()        # model: {(what was compared, its state, ...): whether both paths agree}
SPECIAL_PARTS = WeakKeyDictionary()  # model: {its state: its special parts, in words}
IDENTITIES = WeakKeyDictionary()     # function, class or module: its identity
NEXT_IDENTITY = count()
# As imported: a method that was patched afterwards isn't among them.
TEXTBOOK_FORWARDS = {kind.forward for kind in vars(previous_chapters).values()
                     if isinstance(kind, type) and issubclass(kind, nn.Module)}


def computes_the_same(model, what, length, fast, reference):
    """Whether `fast(length)` gives the same list of tensors for a model as `reference(length)`. Both compute rows of
    `length` tokens.

    `what` they compute, in words, is printed if they differ. Results are cached for each state of the model. Models
    with special parts are also checked on longer rows. Without gradients, they are checked again whenever weights
    change: a zero weight hides a difference that only its gradient shows.
    """
    checked = CHECKED.setdefault(model, {})
    state = structure_hash(model)
    special = special_parts(model, state)
    key = what, state
    if special:
        # The next power of two: batches of all lengths need few checks.
        length = min(2 ** length.bit_length(), context_length(model))
        versions = 0 if torch.is_grad_enabled() else sum(
            weight._version for weight in model.parameters() if not weight.is_inference())
        key = what, state, length, versions
    if key not in checked:
        difference = difference_between(model, partial(fast, length), partial(reference, length))
        checked[key] = not difference
        if difference:
            line = translate("{what}: using the reference path, which is slower, because the fast path {why}{special}")
            tqdm.write(line.format(what=translate(what), why=translate(difference), special=special), file=sys.stdout)
    return checked[key]


def difference_between(model, fast, reference):
    """How the fast path fails, in words; "" if both agree up to rounding. Dropout is off. Random states and the model's
    buffers are restored."""
    randomness = Randomness(model)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with randomness.fixed(), without_dropout(model), torch.compiler.set_stance("force_eager"):
            start = randomness.fingerprint()
            with reference_layers(model):
                expected = reference()
            if randomness.fingerprint() != start:
                return marked("can't draw the random numbers that the model draws")
            return "" if equal_up_to_rounding(fast(), expected) else marked("gives something else")
    except Exception as error:  # a model of the reader's own may not know `attend`, `pos` or `logits_at`
        return f"fails ({type(error).__name__}: {error})"
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def equal_up_to_rounding(found, expected):
    """Whether tensors are equal, each up to rounding for its norm and dtype. Infinite elements must be the same.

    A tensor may be zero except for rounding, as a gradient may be. So no tensor is measured against less than a
    thousandth of the largest norm.
    """
    largest = max(float(tensor.nan_to_num(0.0, 0.0, 0.0).norm()) for tensor in expected)
    for ours, theirs in zip(found, expected, strict=True):
        finite = theirs.isfinite()
        if not finite.all():
            if not ours.isfinite().equal(finite) or not ours[~finite].nan_to_num().equal(theirs[~finite].nan_to_num()):
                return False
            ours, theirs = ours[finite], theirs[finite]
        error = float((ours - theirs).norm())
        size = float(theirs.norm())
        exponent = 0.5 if theirs.dim() else 0.7  # a single number, such as a loss, has less rounding than many
        if not error <= torch.finfo(theirs.dtype).eps ** exponent * max(size, 1e-3 * largest):
            return False
    return True


@contextmanager
def without_dropout(model):
    """The textbook's own dropout is off inside the `with` block; the rest of training mode stays. The textbook's layers
    drop elements independently, so packing can't matter to them. Other dropout may drop whole rows."""
    rates = {module: module.p for parent in model.modules() if type(parent).forward in TEXTBOOK_FORWARDS
             for module in parent.children() if type(module) is nn.Dropout}
    try:
        for module in rates:
            module.p = 0.0
        yield
    finally:
        for module, rate in rates.items():
            module.p = rate


# --- The state of a model ---


def structure_hash(model):
    """A hash of what a model's result depends on besides its weights: its modules, their classes, `forward` methods and
    hooks, and attributes that are numbers or texts, such as the mode."""
    parts = []
    for module in model.modules():
        parts += [identity(module), identity(type(module)), identity(type(module).forward), *hooks_of(module)]
        for name, value in vars(module).items():
            if name == "forward":
                parts.append(identity(getattr(value, "__func__", value)))
            elif name == "training" or (type(value) in (bool, int, float, str) and name[0] != "_"
                                        and not is_pytorchs(module)):
                parts.append((name, value))
    return hash((*parts, *hooks_of(torch_modules, "_global")))


def is_pytorchs(module):
    """Whether a module computes what a class of PyTorch's own does."""
    return type(module).forward.__module__.startswith("torch.")


def identity(item):
    """The number of a function, class or module. Like `id`, but never reused when an item is gone."""
    return IDENTITIES.setdefault(item, next(NEXT_IDENTITY))


def hooks_of(module, prefix=""):
    """A module's hooks by PyTorch's numbers for them, {number: hook}. With the prefix "_global", those in `module` that
    PyTorch calls for all modules."""
    return {number: hook for kind in ("forward_pre", "forward", "backward_pre", "backward")
            for number, hook in getattr(module, f"{prefix}_{kind}_hooks").items()}


def special_parts(model, state):
    """Which parts of a model in this state are neither the textbook's nor PyTorch's, or have hooks: a text that starts
    with ": "; "" if there are none."""
    known = SPECIAL_PARTS.setdefault(model, {})
    if state not in known:
        found = find_special_parts(model)
        known[state] = f": {', '.join(found[:3])}{', …' if len(found) > 3 else ''}" if found else ""
    return known[state]


def find_special_parts(model):
    """A text for each special part of a model: a list."""
    found = ["all modules have a hook"] if hooks_of(torch_modules, "_global") else []
    for name, module in model.named_modules():
        name, forward = f"{name or 'the model'} ({type(module).__name__})", type(module).forward
        if "forward" in vars(module) and not hasattr(module, "_orig_mod"):  # which is what torch.compile makes
            found.append(f"{name} has another forward")
        elif (forward not in TEXTBOOK_FORWARDS and not is_pytorchs(module)
              and not forward.__module__.startswith("engine.")):
            found.append(f"{name} has a forward of its own")
        if any(not str(getattr(hook, "__module__", "")).startswith("torch.") for hook in hooks_of(module).values()):
            found.append(f"{name} has a hook")
    return found


# --- What is compared ---


def repeated_to(tokens, length):
    """The tokens, repeated and cut to this length: (N,) -> (length,)."""
    return tokens.repeat(-(-length // len(tokens)))[:length]


def with_other_end(tokens):
    """Tokens with the same first third, the rest reversed: (N,) -> (N,)."""
    prefix = len(tokens) // 3
    return torch.cat((tokens[:prefix], tokens[prefix:].flip(0)))


def loss_and_gradients(compute_loss, model):
    """[loss, every gradient], or [loss] alone where gradients aren't computed. The parameters keep their `grad`."""
    # Collected before the step: FSDP2 swaps parameters during it.
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = compute_loss()
    if not loss.requires_grad:
        return [loss]
    if not torch.distributed.is_initialized():
        grads = torch.autograd.grad(loss, trainable, allow_unused=True)
    else:  # FSDP's hooks average only gradients that backward() accumulates
        before = [parameter.grad for parameter in trainable]
        for parameter in trainable:
            parameter.grad = None
        loss.backward()
        grads = [parameter.grad for parameter in trainable]
        for parameter, grad in zip(trainable, before):
            parameter.grad = grad
    grads = [torch.zeros_like(parameter) if grad is None else grad for parameter, grad in zip(trainable, grads)]
    return [loss.detach(), *(grad.to_local() if hasattr(grad, "to_local") else grad for grad in grads)]
