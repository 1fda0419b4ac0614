"""Does a fast path compute what the textbook computes, for this very model? Both are tried and compared.

A model may no longer be the textbook's: a layer was replaced, a method patched, a hook registered. Nothing is guessed
from that. `computes_the_same` computes both paths on a few tokens, once for each state of the model. The state, a
`structure_hash`, covers all that the result depends on besides the weights.
"""

import sys
from contextlib import contextmanager
from functools import partial
from weakref import WeakKeyDictionary

import torch
import torch.nn as nn
from tqdm import tqdm

from engine.layers import reference_layers
from engine.models import context_length
from engine.randomness import Randomness
from engine.structure import TEXTBOOK_FORWARDS, special_parts, structure_hash
from engine.texts import marked, translate

# model: {(what was compared, its state, length and weights if it has special parts): whether both paths agree}
CHECKED = WeakKeyDictionary()


def computes_the_same(model, what, length, fast, reference):
    """Whether `fast(length)` gives the same list of tensors for a model as `reference(length)`. Both compute rows of
    `length` tokens.

    `what` they compute, in words, is printed if they differ. An error of the reference path is raised, one of the fast
    path is a difference.

    A model of the textbook's and PyTorch's parts alone is compared once for each state: a fast path that calls the
    model's own modules can't differ by length or weights, and one that computes a part itself knows every parameter
    (`one_row.is_plain`). A model with special parts is compared again for each longer length and, without gradients,
    after each change of weights, since a zero weight hides a difference that only its gradient shows.
    """
    checked = CHECKED.setdefault(model, {})
    state = structure_hash(model)
    special = special_parts(model, state)
    depends_on = ()
    if special:
        # The next power of two: batches of all lengths need few checks.
        length = min(2 ** length.bit_length(), context_length(model))
        depends_on = length, 0 if torch.is_grad_enabled() else weights_version(model)
    key = what, state, depends_on
    if key not in checked:
        difference = difference_between(model, partial(fast, length), partial(reference, length))
        checked[key] = not difference
        if difference:
            line = translate("{what}: using the reference path, which is slower, because the fast path {why}{special}")
            tqdm.write(line.format(what=translate(what), why=translate(difference), special=special), file=sys.stdout)
    return checked[key]


def weights_version(model):
    """A number that every change of a model's weights in place increases."""
    return sum(weight._version for weight in model.parameters() if not weight.is_inference())


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

    Of a dtype's digits half must agree, since rounding errors add up from layer to layer. Of a single number, such as a
    loss, 70 % must agree: it is a mean, in which they cancel. A tensor may be zero except for rounding, as a gradient
    may be. So no tensor is measured against less than a thousandth of the largest norm.
    """
    if [tensor.shape for tensor in found_tensors] != [tensor.shape for tensor in expected_tensors]:
        return False
    largest = max(float(tensor.nan_to_num(0.0, 0.0, 0.0).norm()) for tensor in expected_tensors)
    for found, expected in zip(found_tensors, expected_tensors):
        share_of_digits = 0.5 if expected.dim() else 0.7
        tolerance = torch.finfo(expected.dtype).eps ** share_of_digits
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
