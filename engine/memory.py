"""Where weights are stored, and whether a process keeps the memory that it frees. Both affect how long a step takes."""

import ctypes
import sys
from contextlib import contextmanager

import torch

kept_by = set()  # the blocks of `keep_freed_memory` that have started; glibc can't be asked


def lay_out_in_rows(model, copy_all=False):
    """Copy trainable weights that are stored transposed on a CPU, as those from OpenAI's files are, into contiguous
    rows, which take their place.

    With several rows of tokens, oneDNN then multiplies up to 1.8 times as fast. Training is 5 to 7 % faster, since the
    optimiser need not reorder every gradient. With `copy_all`, every trainable weight gets memory of its own, so that
    training doesn't write to the arrays that it came from. Frozen weights may stay in a mapped file.
    """
    copies = {}  # parameters that share memory continue to do so
    with torch.inference_mode(False):  # tensors made in that mode could not be trained
        for parameter in model.parameters():
            if not parameter.requires_grad:
                continue
            if copy_all or (parameter.is_cpu and not parameter.is_contiguous()):
                # A DTensor has no memory of its own: its data_ptr() is always 0.
                place = id(parameter) if hasattr(parameter, "to_local") else (
                    parameter.data_ptr(), parameter.shape, parameter.stride())
                if place not in copies:
                    copies[place] = parameter.data.clone(memory_format=torch.contiguous_format)
                parameter.data = copies[place]


@contextmanager
def temporarily_in_rows(model):
    """`lay_out_in_rows` for the duration of a `with` block, in which the weights must not change. Afterwards they are
    where they were. An optimiser may have moments that are stored as its weights are: PyTorch's fused AdamW relies on
    that, and would silently compute something else.
    """
    stored = {parameter: parameter.data for parameter in model.parameters() if not parameter.is_contiguous()}
    try:
        lay_out_in_rows(model)
        yield
    finally:
        for parameter, data in stored.items():
            parameter.data = data


@contextmanager
def keep_freed_memory():
    """A context manager that yields a function: from its call to the end of the block, the process keeps the memory it
    frees. A block within another ends nothing for the outer one.

    Getting memory back from the system, page by page and zeroed, takes 5 to 15 % of a training step. This needs glibc,
    the usual C library on Linux; elsewhere nothing happens. The parameters are described in mallopt(3). By itself,
    glibc adapts two of them to the blocks that a process frees, until one is set. So afterwards they have the highest
    values that this adaptation reaches, as in most processes that use large tensors.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        yield lambda: None
        return

    def set_malloc(trim_threshold, mmap_max):
        libc.mallopt(-1, trim_threshold)  # M_TRIM_THRESHOLD: how large the heap's free end gets before it is returned
        libc.mallopt(-4, mmap_max)        # M_MMAP_MAX: how many large blocks may be outside the heap

    block = object()

    def start_keeping():
        kept_by.add(block)
        set_malloc(-1, 0)

    try:
        yield start_keeping
    finally:
        kept_by.discard(block)
        if not kept_by:
            libc.mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD: the size from which a block is outside the heap
            set_malloc(64 * 2**20, 65536)
            libc.malloc_trim(0)
