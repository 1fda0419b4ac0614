"""A stand-in for a GPU on a machine without one.

Tensors of the device "meta" have no values in PyTorch. Inside `OtherDevice` they do: they are computed on the CPU, but
kept apart from its tensors, as a GPU's are. What makes a program wait for a GPU is noted.
"""

import traceback
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

NAME = "meta"
aten = torch.ops.aten
WAITING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.is_nonzero.default,
           aten.masked_select.default, aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default}


class DeviceTensor(torch.Tensor):
    """A tensor of the other device; `values` is the CPU's tensor behind it."""

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype,
            device=NAME)

    def __init__(self, values):
        self.values = values

    def data_ptr(self):
        return self.values.data_ptr()

    def __repr__(self):
        return f"DeviceTensor({self.values})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside OtherDevice")


class OtherDevice(TorchDispatchMode):
    """Inside this `with` block there is another device. `waits`: a line of the program for each time that it had to
    wait for the device. Mixing the device's tensors with the CPU's is an error, as it is with a GPU's. `wrong`:
    operations, such as aten.native_layer_norm.default, whose results are wrong there."""

    def __init__(self, wrong=()):
        super().__init__()
        self.waits, self.wrong = [], wrong

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        with self:  # in inference mode, operations come here that consist of others
            if (result := func.decompose(*args, **kwargs)) is not NotImplemented:
                return result
        tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, torch.Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
        device = kwargs.get("device")
        goes_there = torch.device(device).type == NAME if device is not None else bool(there)
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        if there and func not in (aten._to_copy.default, aten.copy_.default):
            mixed = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor) and tensor.dim() > 0]
            assert not mixed, f"{func} mixes devices"
        copied_over = func is aten._to_copy.default and bool(there) != goes_there
        by_mask = func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
                           aten._index_put_impl_.default) and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        queued = goes_there and kwargs.get("non_blocking")
        if (there and (func in WAITING or by_mask)) or (copied_over and not queued):
            self.waits.append(next(
                (f"{Path(frame.filename).name}: {frame.line}" for frame in reversed(traceback.extract_stack())
                 if Path(frame.filename).parent.name == "engine"), str(func)))
        args, kwargs = tree_map_only(DeviceTensor, lambda tensor: tensor.values, (args, kwargs))
        result = func(*args, **kwargs)
        if there and func in self.wrong:
            result = tree_map_only(torch.Tensor, lambda tensor: tensor * 1.5, result)
        if not goes_there:
            return result
        wrapped = {id(tensor.values): tensor for tensor in there}  # what an operation in place gives back
        return tree_map_only(torch.Tensor, lambda tensor: wrapped[id(tensor)] if id(tensor) in wrapped
                             else DeviceTensor(tensor), result)


def move(model):
    """Move a model's weights to the other device, inside `OtherDevice`; tied ones stay tied."""
    moved = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter not in moved:
                moved[parameter] = torch.nn.Parameter(DeviceTensor(parameter.detach()))
            setattr(module, name, moved[parameter])
    return model
