"""The loss and the linear layers, faster and in less memory, with the textbook's results up to rounding.

`packed_loss` gives what the textbook's `calc_loss_batch` gives. A batch is mostly tokens whose logits nobody asks for,
so a `Packing` keeps what the targets depend on: no padding, and what all rows begin with only once. The output head,
the model's largest matrix product, reads only positions that count in the loss.

Packing rests on one property of GPT-2: only attention looks along a row; every other part treats each token alone. So a
packed batch goes through the model as one long row, and `Packing.around` puts the tokens back in their rows for
attention. Whether a model has this property is not assumed but tried out on two rows (`computes_the_same`): a layer of
the reader's own, a hook or an edited textbook may look along the row. Then the plain form is taken, and a line says so.
"""

import ctypes
import sys
from contextlib import contextmanager
from functools import partial
from itertools import count
from math import inf
from weakref import WeakKeyDictionary

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor
from torch.nn.modules import module as torch_modules
from tqdm import tqdm

from engine.randomness import Randomness
from previous_chapters import (
    FeedForward,
    GPTModel,
    MultiHeadAttention,
    TransformerBlock,
    calc_loss_batch,
    causal_attention,
)

IGNORE_INDEX = -100  # the target that cross-entropy skips, by PyTorch's own default
SLICE_ROWS = 8       # so many rows of logits stay in a processor's cache


# --- The loss without padding ---


def packed_loss(input_batch, target_batch, model, device):
    """Mean cross-entropy of a batch, in nats per token: inputs and targets (B, T) -> scalar, on `device`.

    It has the loss and the gradients of the textbook's `calc_loss_batch`. With dropout they are as random as there, but
    not the same numbers. Where nothing counts, the loss is 0 and not 0/0. Batches should lie on the CPU, where they are
    packed: a GPU would have to wait for what is counted. Raises ValueError for rows longer than the context, and for a
    negative target other than IGNORE_INDEX.
    """
    counts = target_batch != IGNORE_INDEX                                       # (B, T)
    if input_batch.shape[1] > context_length(model):
        raise ValueError(f"{input_batch.shape[1]} tokens in a row, but the context length is {context_length(model)}: "
                         "shorten the text")
    if (target_batch[counts] < 0).any():
        raise ValueError(f"target {int(target_batch[counts].min())}: want token ids, or {IGNORE_INDEX} where nothing "
                         "counts")
    if packing_works(model, input_batch, target_batch, device):
        return loss_of_packed(input_batch, target_batch, model, device)
    with plain_layers(model):
        if not counts.any():
            return 0 * model(input_batch.to(device)).sum()
        return calc_loss_batch(input_batch, target_batch, model, device)


def loss_of_packed(input_batch, target_batch, model, device):
    """The packed form itself, without the check that it fits the model."""
    input_batch, target_batch = input_batch.cpu(), target_batch.cpu()
    counts = target_batch != IGNORE_INDEX                                       # (B, T), S of them true
    targets = target_batch[counts]                                              # (S,)
    packing = Packing(input_batch, counts, share=not has_dropout(model))
    read, which = packing.source[counts].unique(return_inverse=True)            # (P,), (S,)
    logits = packing.to(device).run(model, causal_attention, read.to(device))   # (P, V)
    log_probs = TargetLogProbs.apply(logits, which.to(device), targets.to(device))  # (S,)
    return -log_probs.sum() / max(len(log_probs), 1)


class Packing:
    """Which positions of token ids (B, T) are computed, N in all, so that the `wanted` ones, a mask (B, T), are right:
    each row up to its last wanted one, since no token sees what comes after it. What all rows begin with is computed
    once, since the same tokens in the same places give the same hidden states; with `share=False` each row has its own,
    as dropout wants it. Ids and mask lie on the CPU.
    """

    def __init__(self, idx, wanted, share=True):
        needed = wanted.flip(1).cumsum(dim=1).flip(1) > 0                       # (B, T)
        common = int(((idx == idx[:1]) & needed).all(dim=0).cumprod(dim=0).sum()) if share else 0
        needed[1:, :common] = False
        needed[0, 0] = True  # so that there is something to compute even where nothing is wanted
        self.computed = needed.flatten().nonzero()[:, 0]                        # (N,), among the B·T positions
        self.ids = idx.flatten()[self.computed]                                 # (N,)
        self.pos = self.computed % idx.shape[1]                                 # (N,)
        # For each position the number, 0 to N - 1, of the computed one that it equals; any number where none does.
        self.source = needed.flatten().cumsum(dim=0).view_as(needed) - 1        # (B, T)
        self.source[:, :common] = torch.arange(common)

    def to(self, device):
        """Move all of it to a device."""
        for name, tensor in vars(self).items():
            setattr(self, name, tensor.to(device))
        return self

    def around(self, attend):
        """The attention that puts the tokens back in their rows, attends there, and takes the computed ones out."""
        def attend_in_rows(qkv, dropout=0.0):
            # A lookup, since its gradient is summed faster than that of an index.
            rows = F.embedding(self.source, qkv[0].flatten(1)).unflatten(2, qkv.shape[2:])  # (B, T, 3, nh, D/nh)
            return attend(rows, dropout).flatten(0, 1).index_select(0, self.computed)[None]  # (1, N, nh, D/nh)
        return attend_in_rows

    def run(self, model, attend, read):
        """The model's logits at the computed positions with the numbers `read` (P,): (P, V)."""
        return model(self.ids[None], pos=self.pos[None], attend=self.around(attend), logits_at=(0, read))


def context_length(model):
    """The most tokens in a row that a model reads; infinity if it doesn't say."""
    gpt = getattr(model, "module", model)  # inside DistributedDataParallel
    return getattr(getattr(gpt, "pos_emb", None), "num_embeddings", inf)


def has_dropout(model):
    """Whether the same token would come out different in different rows."""
    return any(type(module) is nn.Dropout and module.training and module.p for module in model.modules())


class TargetLogProbs(torch.autograd.Function):
    """log_softmax(logits, dim=-1)[which, targets]: logits (P, V), which and targets (S,) -> (S,), in nats.

    Logits are the largest tensor of a step. They are read in slices that fit the processor's cache; neither
    log-probabilities nor a float32 copy of 16-bit logits is made of them as a whole.
    """

    @staticmethod
    def forward(ctx, logits, which, targets):
        dtype = torch.promote_types(logits.dtype, torch.float32)
        log_totals = torch.cat([rows.to(dtype).logsumexp(dim=1) for rows in in_slices(logits)])  # (P,)
        ctx.save_for_backward(logits, log_totals, which, targets)
        return logits[which, targets] - log_totals[which]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        logits, log_totals, which, targets = ctx.saved_tensors
        # The gradient of log_softmax(logits)[target] is 1 at the target, less softmax(logits) everywhere.
        row_grads = grad.new_zeros(len(logits)).index_add_(0, which, grad)      # (P,), summed over a row's targets
        grads = torch.empty_like(logits)                                        # (P, V)
        for rows, log_total, row_grad, out in zip(*map(in_slices, (
                logits, log_totals[:, None], row_grads[:, None], grads))):
            out.copy_((rows - log_total).exp_().mul_(-row_grad))
        grads.index_put_((which, targets), grad.to(grads.dtype), accumulate=True)
        return grads, None, None


def in_slices(tensor):
    """A tensor (P, ...) as slices of rows: few on a CPU, and enough to keep a GPU busy."""
    return tensor.split(SLICE_ROWS if tensor.is_cpu else 64 * SLICE_ROWS)


# --- Is it the same? ---

# For each model {its composition: its special parts, (what was compared, composition, ...): whether both are the same}.
CHECKED = WeakKeyDictionary()
NUMBERS = WeakKeyDictionary()  # function, class or module: a number that no other one ever has
NEXT_NUMBER = count()
TEXTBOOK = {kind.forward for kind in (MultiHeadAttention, FeedForward, TransformerBlock, GPTModel)}


def computes_the_same(model, what, length, fast, plain):
    """Whether `fast(length)` gives for a model what `plain(length)` gives, both lists of tensors, from rows of so many
    tokens. `what` they compute, in words, is compared once for each state in which the model is met, and a line says so
    if they differ.

    With parts of the reader's own, longer rows are compared; and without gradients, which show what a weight of zero
    hides, they are compared again when weights have changed.
    """
    known, state = CHECKED.setdefault(model, {}), composition(model)
    if state not in known:
        known[state] = special_parts(model)
    special, key = known[state], (what, state)
    if special:
        length = min(2 ** length.bit_length(), context_length(model))
        key += length, 0 if torch.is_grad_enabled() else sum(
            weight._version for weight in model.parameters() if not weight.is_inference())
    if key not in known:
        difference = difference_between(model, partial(fast, length), partial(plain, length))
        known[key] = not difference
        if difference:
            tqdm.write(f"{what}: the plain form is taken, which is slower, since the fast one {difference}{special}",
                       file=sys.stdout)
    return known[key]


def difference_between(model, fast, plain):
    """How the fast form fails, in words; "" if it gives the same up to rounding. Dropout is off meanwhile, and neither
    random states nor the model's buffers change."""
    randomness, buffers = Randomness(model), [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with randomness.fixed(), without_dropout(model):
            start = randomness.fingerprint()
            with plain_layers(model):
                expected = plain()
            if randomness.fingerprint() != start:
                return "can't draw the random numbers that the model draws"
            return "" if equal_up_to_rounding(fast(), expected) else "gives something else"
    except Exception as error:  # a model of the reader's own may not know `attend`, `pos` or `logits_at`
        return f"fails ({type(error).__name__}: {error})"
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def equal_up_to_rounding(found, expected):
    """Whether tensors are equal, each up to rounding of its own size and number format; infinite numbers must be the
    same. (A tensor that is zero but for rounding, such as a gradient, counts as a thousandth of the largest.)"""
    largest = max(float(tensor.nan_to_num(0.0, 0.0, 0.0).norm()) for tensor in expected)
    for ours, theirs in zip(found, expected, strict=True):
        finite = theirs.isfinite()
        if not finite.all():
            if not ours.isfinite().equal(finite) or not ours[~finite].nan_to_num().equal(theirs[~finite].nan_to_num()):
                return False
            ours, theirs = ours[finite], theirs[finite]
        error, size = float((ours - theirs).norm()), float(theirs.norm())
        # A single number, such as a loss, has less rounding than many, and errors in it may cancel.
        if not error <= torch.finfo(theirs.dtype).eps ** (0.5 if theirs.dim() else 0.7) * max(size, 1e-3 * largest):
            return False
    return True


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
        if "forward" in vars(module):
            found.append(f"{name} has another forward")
        elif forward not in TEXTBOOK and not is_pytorchs(module) and not forward.__module__.startswith("engine."):
            found.append(f"{name} has a forward of its own")
        if any(not str(getattr(hook, "__module__", "")).startswith("torch.") for hook in hooks_of(module).values()):
            found.append(f"{name} has a hook")
    return f": {', '.join(found[:3])}{', …' * (len(found) > 3)}" if found else ""


def packing_works(model, input_batch, target_batch, device):
    """Whether the packed loss of this very model, and in training every gradient, are the plain one's: tried on the
    batch's first row and on another one, which has the same beginning, and padding at its end."""
    def compute(loss_of, length):
        tokens, targets = (cycled(batch.flatten().cpu(), length) for batch in (input_batch, target_batch))
        rows = torch.stack((tokens, turned(tokens)))                            # (2, length)
        targets = torch.stack((targets, rows[1].roll(-1)))
        targets[1, -(length // 4):] = IGNORE_INDEX
        with torch.autocast(torch.device(device).type, enabled=False):
            return loss_and_gradients(partial(loss_of, rows, targets, model, device), model)

    what = "Loss and gradients" if torch.is_grad_enabled() else "Loss"
    return computes_the_same(model, what, input_batch.shape[1], partial(compute, loss_of_packed),
                             partial(compute, calc_loss_batch))


def cycled(tokens, length):
    """So many tokens, from the beginning again where they end: (N,) -> (length,)."""
    return tokens.repeat(-(-length // len(tokens)))[:length]


def turned(tokens):
    """Other tokens after the same beginning, a third of them: (N,) -> (N,)."""
    common = len(tokens) // 3
    return torch.cat((tokens[:common], tokens[common:].flip(0)))


def loss_and_gradients(compute_loss, model):
    """[loss, every gradient], or [loss] alone where gradients aren't computed. What was in `grad` stays."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]  # FSDP2's, before they change
    loss = compute_loss()
    if not loss.requires_grad:
        return [loss]
    if not torch.distributed.is_initialized():
        grads = torch.autograd.grad(loss, trained, allow_unused=True)
    else:  # what averages gradients over processes sees only those that are collected
        before = [parameter.grad for parameter in trained]
        for parameter in trained:
            parameter.grad = None
        loss.backward()
        grads = [parameter.grad for parameter in trained]
        for parameter, grad in zip(trained, before):
            parameter.grad = grad
    found = (torch.zeros_like(parameter) if grad is None else grad for parameter, grad in zip(trained, grads))
    return [loss.detach(), *(grad.to_local() if hasattr(grad, "to_local") else grad for grad in found)]


@contextmanager
def without_dropout(model):
    """The textbook's own nn.Dropout off inside the `with` block, and nothing else that training mode does: it drops
    each number by itself, packed or not, as that of others may not."""
    rates = {module: module.p for parent in model.modules() if type(parent).forward in TEXTBOOK
             for module in parent.children() if type(module) is nn.Dropout}
    try:
        for module in rates:
            module.p = 0.0
        yield
    finally:
        for module, rate in rates.items():
            module.p = rate


# --- Linear layers ---


class OneDNNLinear(torch.autograd.Function):
    """F.linear, forward by oneDNN and backward by PyTorch's own product, each where it is the faster one on a CPU."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)                                              # (rows, D_out)
        need_x, need_weight, need_bias = ctx.needs_input_grad
        return ((rows @ weight).view_as(x) if need_x else None,
                rows.T @ x.flatten(0, -2) if need_weight else None, rows.sum(0) if need_bias else None)


class FastLinear(nn.Linear):
    """nn.Linear with oneDNN's product, in float32 on a CPU."""

    def forward(self, x):
        """x (..., D_in) -> (..., D_out)."""
        if not (x.is_cpu and x.dtype == self.weight.dtype == torch.float32 and x.dim() > 1 and x.numel() and not
                torch.is_autocast_enabled("cpu") and type(self.weight) in (torch.Tensor, nn.Parameter)):
            return super().forward(x)
        if torch.is_grad_enabled():
            return OneDNNLinear.apply(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


@contextmanager
def fast_layers(model):
    """Have a model's linear layers be FastLinear inside the `with` block, and nn.Linear again afterwards."""
    changed = [module for module in model.modules() if type(module) is nn.Linear]
    try:
        for module in changed if torch.backends.mkldnn.is_available() else ():
            module.__class__ = FastLinear
        yield
    finally:
        for module in changed:
            module.__class__ = nn.Linear


@contextmanager
def plain_layers(model):
    """PyTorch's own linear layers inside the `with` block, also within that of `fast_layers`."""
    fast = [module for module in model.modules() if type(module) is FastLinear]
    try:
        for module in fast:
            module.__class__ = nn.Linear
        yield
    finally:
        for module in fast:
            module.__class__ = FastLinear


# --- Memory ---


def own_memory(model):
    """Copy each trained weight into memory of its own, in rows. Weights that were taken over from OpenAI's files lie
    there transposed, and training would be slower: the optimiser would reorder every gradient. Frozen ones stay."""
    copies = {}  # parameters that share their memory go on to do so
    for parameter in model.parameters():
        if parameter.requires_grad:
            place = id(parameter) if isinstance(parameter, DTensor) else (parameter.data_ptr(), parameter.stride())
            if place not in copies:
                copies[place] = parameter.data.clone(memory_format=torch.contiguous_format)
            parameter.data = copies[place]


@contextmanager
def freed_memory():
    """Gives a function: from its call to the end of the `with` block the process keeps the memory that it frees.

    Fetching it from the system again, page after page, each zeroed first, takes 5 to 15% of a training step. This needs
    glibc, the usual C library on Linux; elsewhere nothing happens. The two switches and their default values, to which
    they return: mallopt(3).
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def switch(trim_threshold, largest_number_of_maps):
        libc.mallopt(-1, trim_threshold)          # M_TRIM_THRESHOLD: when the heap's free end is given back
        libc.mallopt(-4, largest_number_of_maps)  # M_MMAP_MAX: how many large tensors lie outside the heap

    if not hasattr(libc, "mallopt"):
        yield lambda: None
        return
    try:
        yield lambda: switch(-1, 0)
    finally:
        switch(128 * 1024, 65536)
        libc.malloc_trim(0)
