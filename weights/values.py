"""Values as plain numbers, lists and bytes."""

from collections import Counter

import torch


def plain(value, of_tensor=torch.Tensor.tolist):
    """A value with NumPy's and PyTorch's numbers and arrays as Python's numbers and lists, also inside dictionaries,
    lists and tuples. `of_tensor` converts the tensors. With `weights_only=True`, PyTorch reads back little besides such
    values and tensors."""
    if isinstance(value, dict):
        kind = Counter if isinstance(value, Counter) else dict  # MultiStepLR has one
        return kind({plain(key): plain(item, of_tensor) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, tuple) else list)(plain(item, of_tensor) for item in value)
    if torch.is_tensor(value):
        return of_tensor(value)
    return value.tolist() if hasattr(value, "tolist") else value


def bytes_of(tensor):
    """The bytes of a tensor in row-major order, as a NumPy array of uint8. It works for number formats that NumPy
    lacks, such as bfloat16."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
