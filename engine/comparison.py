"""Does a fast form compute what the textbook computes, for this very model? Both are tried, and compared.

A model may have become something else than the textbook's: a layer was exchanged, a method patched, a hook registered.
Nothing is guessed from that. `computes_the_same` computes both forms on a few tokens, once for each state in which it
meets the model. The state, `composition`, is what the result depends on besides the weights.
"""

import sys
from contextlib import contextmanager
from functools import partial
from itertools import count
from math import inf
from weakref import WeakKeyDictionary

import torch
import torch.nn as nn
from torch.nn.modules import module as torch_modules
from tqdm import tqdm

from engine.layers import plain_layers
from engine.randomness import Randomness
from engine.texts import marked, translate
from previous_chapters import FeedForward, GPTModel, MultiHeadAttention, TransformerBlock

# For each model {its state: its special parts, (what was compared, in which state, ...): whether both are the same}.
CHECKED = WeakKeyDictionary()
NUMBERS = WeakKeyDictionary()  # function, class or module: a number that no other one ever has
NEXT_NUMBER = count()
TEXTBOOK = {kind.forward for kind in (MultiHeadAttention, FeedForward, TransformerBlock, GPTModel)}


def computes_the_same(model, what, length, fast, plain):
    """Whether `fast(length)` gives for a model the same list of tensors as `plain(length)`, which computes rows of
    `length` tokens.

    `what` they compute, in words, is compared once for each state of the model, and if the results differ, a line says
    so. A model with parts of the reader's own is compared on longer rows; and, where no gradients are computed, again
    after its weights have changed, since only gradients show what a weight of zero hides.
    """
    known, state = CHECKED.setdefault(model, {}), composition(model)
    special = known.get(state)
    if special is None:
        special = known[state] = special_parts(model)
    key = what, state
    if special:
        length = min(2 ** length.bit_length(), context_length(model))
        versions = 0 if torch.is_grad_enabled() else sum(
            weight._version for weight in model.parameters() if not weight.is_inference())
        key = what, state, length, versions
    if key not in known:
        difference = difference_between(model, partial(fast, length), partial(plain, length))
        known[key] = not difference
        if difference:
            line = translate("{what}: the plain form is taken, which is slower, since the fast one {why}{special}")
            tqdm.write(line.format(what=translate(what), why=translate(difference), special=special), file=sys.stdout)
    return known[key]


def difference_between(model, fast, plain):
    """How the fast form fails, in words; "" if it gives the same up to rounding. Dropout is off; random states and the
    model's buffers are restored."""
    randomness, buffers = Randomness(model), [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with randomness.fixed(), without_dropout(model), torch.compiler.set_stance("force_eager"):
            start = randomness.fingerprint()
            with plain_layers(model):
                expected = plain()
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
    """Whether tensors are equal, each up to rounding of its own size and number format; infinite numbers must be the
    same. A tensor that is zero but for rounding, as a gradient may be, is measured against a thousandth of the largest
    tensor."""
    largest = max(float(tensor.nan_to_num(0.0, 0.0, 0.0).norm()) for tensor in expected)
    for ours, theirs in zip(found, expected, strict=True):
        finite = theirs.isfinite()
        if not finite.all():
            if not ours.isfinite().equal(finite) or not ours[~finite].nan_to_num().equal(theirs[~finite].nan_to_num()):
                return False
            ours, theirs = ours[finite], theirs[finite]
        error, size = float((ours - theirs).norm()), float(theirs.norm())
        exponent = 0.5 if theirs.dim() else 0.7  # a single number, such as a loss, has less rounding than many
        if not error <= torch.finfo(theirs.dtype).eps ** exponent * max(size, 1e-3 * largest):
            return False
    return True


@contextmanager
def without_dropout(model):
    """The textbook's own nn.Dropout off inside the `with` block, and nothing else that training mode does. It treats
    each number alone, packed or not; the dropout of others may not."""
    rates = {module: module.p for parent in model.modules() if type(parent).forward in TEXTBOOK
             for module in parent.children() if type(module) is nn.Dropout}
    try:
        for module in rates:
            module.p = 0.0
        yield
    finally:
        for module, rate in rates.items():
            module.p = rate


# --- The state of a model ---


def composition(model):
    """What a model's result depends on besides its weights, as a number: its parts, their classes, `forward` methods,
    hooks, and plain attributes, such as the mode."""
    parts = []
    for module in model.modules():
        parts += [number_of(module), number_of(type(module)), number_of(type(module).forward), *hooks_of(module)]
        for name, value in vars(module).items():
            if name == "forward":
                parts.append(number_of(getattr(value, "__func__", value)))
            elif name == "training" or (type(value) in (bool, int, float, str) and name[0] != "_"
                                        and not is_pytorchs(module)):
                parts.append((name, value))
    return hash((*parts, *hooks_of(torch_modules, "_global")))


def is_pytorchs(module):
    """Whether a module computes what a class of PyTorch's own does."""
    return type(module).forward.__module__.startswith("torch.")


def number_of(item):
    """A number that no other function, class or module ever has, also when this one is gone."""
    return NUMBERS.setdefault(item, next(NEXT_NUMBER))


def hooks_of(module, prefix=""):
    """A module's hooks by their numbers, which differ from hook to hook: {number: hook}; those that all modules have
    are "_global"."""
    return {number: hook for kind in ("forward_pre", "forward", "backward_pre", "backward")
            for number, hook in getattr(module, f"{prefix}_{kind}_hooks").items()}


def special_parts(model):
    """Which parts of a model are neither the textbook's nor PyTorch's, and which have hooks, in words; "" if none."""
    found = ["all modules have a hook"] if hooks_of(torch_modules, "_global") else []
    for name, module in model.named_modules():
        name, forward = f"{name or 'the model'} ({type(module).__name__})", type(module).forward
        if "forward" in vars(module) and not hasattr(module, "_orig_mod"):  # which is what torch.compile makes
            found.append(f"{name} has another forward")
        elif forward not in TEXTBOOK and not is_pytorchs(module) and not forward.__module__.startswith("engine."):
            found.append(f"{name} has a forward of its own")
        if any(not str(getattr(hook, "__module__", "")).startswith("torch.") for hook in hooks_of(module).values()):
            found.append(f"{name} has a hook")
    return f": {', '.join(found[:3])}{', …' * (len(found) > 3)}" if found else ""


def context_length(model):
    """The most tokens in a row that a model reads; infinity if it doesn't say."""
    gpt = getattr(model, "module", model)  # inside DistributedDataParallel
    return getattr(getattr(gpt, "pos_emb", None), "num_embeddings", inf)


# --- Tokens to compare on ---


def repeated_to(tokens, length):
    """So many tokens, from the beginning again where they end: (N,) -> (length,)."""
    return tokens.repeat(-(-length // len(tokens)))[:length]


def with_other_end(tokens):
    """Tokens with the same first third, the rest reversed: (N,) -> (N,)."""
    common = len(tokens) // 3
    return torch.cat((tokens[:common], tokens[common:].flip(0)))
