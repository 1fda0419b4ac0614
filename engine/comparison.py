"""Does a fast path compute what the textbook computes, for this very model? Both are tried and compared.

A model may no longer be the textbook's: a layer was replaced, a method patched, a hook registered. Nothing is guessed
from that. `computes_the_same` computes both paths on a few tokens, once for each structure of the model: its classes,
`forward` methods, hooks, modes and settings (`structure_of`). For a model with custom parts, `probe_for` says what else
counts.
"""

import sys
from contextlib import contextmanager
from functools import partial
from math import inf
from weakref import WeakKeyDictionary

import torch
import torch.nn as nn
from tqdm import tqdm

from engine.layers import reference_layers
from engine.models import context_length
from engine.randomness import Randomness
from engine.structure import TEXTBOOK_FORWARDS, custom_parts, structure_of
from engine.texts import marked, translate

CHECKED = WeakKeyDictionary()  # model: {(what was compared, structure, state): whether both paths agree}
PROBE_LENGTH = 64  # tokens on which a model without custom parts is compared


def computes_the_same(model, what, length, fast, reference):
    """Whether `fast(n)` gives the same list of tensors for a model as `reference(n)`, where both compute rows of n
    tokens. The rows that will be computed have `length` tokens.

    `what` they compute, in words, is printed if they differ. An error of the reference path is raised, one of the fast
    path is a difference.

    They are compared once for each structure and state of the model; `probe_for` gives the state.
    """
    checked = CHECKED.setdefault(model, {})
    structure = structure_of(model)
    custom = custom_parts(model, structure)
    n, state = probe_for(model, custom, length)
    key = what, structure, state
    if key not in checked:
        difference = difference_between(model, partial(fast, n), partial(reference, n))
        checked[key] = not difference
        if difference:
            special = f": {', '.join(custom[:3])}{', …' if len(custom) > 3 else ''}" if custom else ""
            line = translate("{what}: using a slower path, because the fast one {why}{special}")
            tqdm.write(line.format(what=translate(what), why=translate(difference), special=special), file=sys.stdout)
    return checked[key]


def probe_for(model, custom, length):
    """On how many tokens a model is compared, and the state, besides its structure, in which the result holds. custom:
    its custom parts; length: how many tokens the rows to come have.

    - A model of the textbook's and PyTorch's parts is compared once, on PROBE_LENGTH tokens. So an edit of the textbook
      isn't noticed if it matters only between tokens that are farther apart, or not yet with the present weights, as
      behind a gate of zero.
    - A model with custom parts is compared on as many tokens as the rows to come have, rounded up to a power of two,
      once for each such number. In several processes, which compare together but have rows of different lengths, it is
      the context length. A gate or a new adapter whose last matrix is zero changes no output yet, and so hides a
      difference, which its gradients show. So without gradients the model is compared again when its weights change.
    """
    longest = context_length(model)
    if not custom:
        return min(PROBE_LENGTH, longest), ()
    if torch.distributed.is_initialized() and longest < inf:
        length = longest
    n = rounded_up(length, longest)
    return n, (n,) if torch.is_grad_enabled() else (n, sums_of_weights(model))


def rounded_up(length, longest):
    """The next power of two, so that few lengths are compared, but at most `longest`; `length` itself, if `longest` is
    infinite, as it is for a model that doesn't say its context length."""
    return length if longest == inf else min(2 ** (length - 1).bit_length(), longest)


def sums_of_weights(model):
    """The sum of each weight, by which a change of the weights is noticed. PyTorch's own count of changes, `_version`,
    leaves out those by a fused optimiser, through `data` and by NumPy."""
    sums = [weight.detach().sum(dtype=torch.float32) for weight in model.parameters()]
    whole = [total.full_tensor() if hasattr(total, "full_tensor") else total for total in sums]  # of a sharded weight
    return tuple(torch.stack(whole).tolist())


def difference_between(model, fast, reference):
    """How the fast path fails, in words; "" if both agree up to rounding. The textbook's dropout is off. Random states
    and the model's buffers are restored. Raises what `reference` raises."""
    randomness = Randomness(model)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with randomness.fixed(), textbook_dropout_off(model), torch.compiler.set_stance("force_eager"):
            start = randomness.fingerprint()
            with reference_layers(model):
                expected = reference()
            if randomness.fingerprint() != start:
                return marked("can't draw the random numbers that the model draws")
            try:
                found = fast()
            except Exception as error:  # a model of the reader's own may not know `attend`, `pos` or `logits_at`
                return f"fails ({type(error).__name__}: {error})"
            return "" if equal_up_to_rounding(found, expected) else marked("gives another result")
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def equal_up_to_rounding(found_tensors, expected_tensors):
    """Whether two lists of tensors are equal, each up to rounding for its norm and dtype. Infinite elements must be the
    same.

    The norm of the difference may be eps ** 0.5 of the tensor's norm, where eps is the dtype's rounding error: such
    errors add up from layer to layer. For a single number, such as a loss, it may be eps ** 0.7: in a mean, they
    cancel. A tensor may be zero except for rounding, as a gradient may be. So no tensor is measured against less than a
    thousandth of the largest norm.
    """
    if [tensor.shape for tensor in found_tensors] != [tensor.shape for tensor in expected_tensors]:
        return False
    largest = max(float(tensor.nan_to_num(0.0, 0.0, 0.0).norm()) for tensor in expected_tensors)
    for found, expected in zip(found_tensors, expected_tensors):
        tolerance = torch.finfo(expected.dtype).eps ** (0.5 if expected.dim() else 0.7)
        finite = expected.isfinite()
        if not finite.all():
            if not (found.isfinite().equal(finite)
                    and found[~finite].nan_to_num().equal(expected[~finite].nan_to_num())):
                return False
            found, expected = found[finite], expected[finite]
        error, size = float((found - expected).norm()), float(expected.norm())
        if not error <= tolerance * max(size, 1e-3 * largest):  # `not <=`, since the error may be NaN
            return False
    return True


@contextmanager
def textbook_dropout_off(model):
    """The dropout in the textbook's own modules is off inside the `with` block; the rest of training mode stays. It
    drops elements independently, so packing can't matter to it. Other dropout may drop whole rows."""
    rates = {module: module.p for parent in model.modules() if type(parent).forward in TEXTBOOK_FORWARDS
             for module in parent.children() if type(module) is nn.Dropout}
    try:
        for module in rates:
            module.p = 0.0
        yield
    finally:
        for module, rate in rates.items():
            module.p = rate
