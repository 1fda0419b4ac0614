"""A model sharded over several processes, of one machine or many.

- Each process keeps a shard of every weight, of its gradient and of AdamW's moments (FSDP2, `fully_shard`). It gathers
  the other shards of a block while it computes that block.
- Each process computes its rows of a batch. The loss is the mean over all tokens of the batch that count.
- Weights are gathered before they are saved, so that any number of processes can read them.

All processes must call these functions together, since each waits for the others. All except `unshard` and
`leave_and_exit` can also be called without a process group, and then act as for one process.
"""

import os
import sys
import warnings
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import state_dict as dcp_state
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.data import DistributedSampler

from previous_chapters import IGNORE_INDEX

TIMEOUT = timedelta(minutes=30)  # how long processes wait for one that is silent, such as rank 0 while it downloads
# Nothing writes over the logits, which is what this warns of.
warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


def init_process_group(device):
    """Join the processes that torchrun started, or form a group of one. From then on rank 0 alone prints."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    single_process = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=TIMEOUT, **single_process)
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def leave_and_exit():
    """Leave the process group and end this process; the last thing to call.

    Python's own clean-up is skipped: during it, a thread of gloo that still has tensors to free would abort the process
    (https://github.com/pytorch/pytorch/issues/38228).
    """
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)


def rank():
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size():
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce_sum(*numbers):
    """The sum of each number over all processes, as floats."""
    sums = torch.tensor(numbers, dtype=torch.float64)
    if world_size() > 1:
        dist.all_reduce(sums)
    return sums.tolist()


def broadcast(value):
    """Rank 0's value, in all processes."""
    box = [value]
    if world_size() > 1:
        dist.broadcast_object_list(box)
    return box[0]


def all_gather(value):
    """The values of all processes, by rank, in each of them."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


# --- The model ---


def shard(model, build, device):
    """This process's shard of a GPTModel, which rank 0 has (`model`, None in the other processes). A single process
    keeps it whole. `build()` makes such a model on the meta device, without memory for its weights."""
    if world_size() == 1:
        return model.to(device)
    weights = {} if model is None else {name: weight.contiguous() for name, weight in model.state_dict().items()}
    model = build()
    mesh = dist.init_device_mesh(device, (world_size(),))
    for block in model.trf_blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)  # the rest together, since embedding and output head are one parameter
    assert not list(model.buffers()), "a buffer would have no values: compute it in `forward`"  # the textbook has none
    model.to_empty(device=device)  # or PyTorch would assign the weights, and so untie embedding and head
    options = dcp_state.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    dcp_state.set_model_state_dict(model, weights, options=options)
    assert model.out_head.weight is model.tok_emb.weight, "embedding and output head are no longer one parameter"
    return model


def unshard(model, build):
    """The whole GPTModel, on rank 0's CPU; None in the other processes. `build` as in `shard`."""
    options = dcp_state.StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = dcp_state.get_model_state_dict(model, options=options)
    if rank() > 0:
        return None
    model = build()
    model.load_state_dict(weights, assign=True)
    model.tie_weights()  # `assign` gave embedding and head a parameter each
    return model


def full_tensor(tensor):
    """The whole tensor, gathered from the shards of all processes. A tensor that isn't sharded is returned as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor, other):
    """This process's shard of a whole tensor, if `other`, of the same shape, is sharded; else the tensor itself."""
    if not isinstance(other, DTensor) or tensor.shape != other.shape:
        return tensor
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


# --- Batches, from a DataLoader whose DistributedSampler gives each process its rows ---


def start_epoch(loader, epoch):
    """Have a DistributedSampler draw the order of this epoch."""
    if isinstance(getattr(loader, "sampler", None), DistributedSampler):
        loader.sampler.set_epoch(epoch)


def without_repetitions(targets, number, loader):
    """The targets (B, T) of a loader's batch with this number, from 0, without those of repeated entries: a
    DistributedSampler repeats some, so that all processes have equally many. The sampler must not shuffle."""
    if not isinstance(getattr(loader, "sampler", None), DistributedSampler):
        return targets
    row = number * loader.batch_size + torch.arange(len(targets))               # this process's, (B,)
    entry = row * world_size() + rank()                                         # as DistributedSampler orders them
    return targets.masked_fill((entry >= len(loader.dataset))[:, None], IGNORE_INDEX)
