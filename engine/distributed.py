"""A model in parts on several processes, of one machine or many: dealt out, trained, saved and gathered.

- Each process keeps a part of every weight, of its gradient and of AdamW's moments (FSDP2, `fully_shard`), and borrows
  the other parts of a block while it computes that block.
- Each process computes its rows of a batch. The loss is the mean over the scored tokens of all of them.
- Each process writes its parts of a checkpoint, which another number of processes can read. All must see the same
  folder, and one that you trust: PyTorch reads it by pickle.

All processes must call these functions together, unless it says otherwise: each waits for what the others have.
"""

import json
import os
import shutil
import sys
import warnings
from datetime import timedelta
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import state_dict as dcp_state
from torch.distributed.fsdp import fully_shard

from .checkpoints import differences, number_of, numbered, whole_file
from .fast import IGNORE_INDEX, count_scored, micro_batches

TIMEOUT = timedelta(minutes=30)  # how long processes wait for one that is silent, such as rank 0 while it downloads
# Nothing writes over the logits, which is what this warns of.
warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


def meet(device, news):
    """Join the processes that torchrun started, or be the only one, and return rank 0's `news` everywhere. From then on
    rank 0 alone prints."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    alone = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=TIMEOUT, **alone)
    if dist.get_rank() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    box = [news]
    dist.broadcast_object_list(box)
    return box[0]


def leave():
    """Leave the other processes and end this one; the last thing to call. It skips what Python clears up at its end:
    gloo's threads may still have tensors to free, and a thread that needs Python then aborts the whole process
    (https://github.com/pytorch/pytorch/issues/38228)."""
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)


def total(*numbers):
    """The sum of each number over all processes, as floats."""
    sums = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(sums)
    return sums.tolist()


# --- The model ---


def distribute(model, build, device):
    """Deal out rank 0's GPTModel, None elsewhere, to all processes, in parts; one process keeps it whole. `build()` is
    such a model without memory for its weights, on the meta device."""
    if dist.get_world_size() == 1:
        return model.to(device)
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()} if model else {}
    model, mesh = build(), dist.init_device_mesh(device, (dist.get_world_size(),))
    for block in model.trf_blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)  # all else together, since embedding and output head are one parameter
    model.to_empty(device=device)  # memory to be filled: PyTorch would otherwise assign, and untie, embedding and head
    options = dcp_state.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    dcp_state.set_model_state_dict(model, weights, options=options)
    assert model.out_head.weight is model.tok_emb.weight
    return model


def gather(model, build):
    """The whole GPTModel on rank 0's CPU, None elsewhere; `build` as in `distribute`."""
    options = dcp_state.StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = dcp_state.get_model_state_dict(model, options=options)
    if dist.get_rank() > 0:
        return None
    model = build()
    model.load_state_dict(weights, assign=True)
    model.out_head.weight = model.tok_emb.weight  # they have become two: tie them again
    return model


# --- Batches, from a DataLoader whose DistributedSampler gives each process its rows ---


def batches_from(step, loader):
    """The batches after so many steps, epoch after epoch, without end."""
    while True:
        epoch, taken = divmod(step, len(loader))
        loader.sampler.set_epoch(epoch)
        yield from islice(loader, taken, None)
        step += len(loader) - taken


def backpropagate(loss_of, batch, micro_batch_size, scaler):
    """Add the gradients of a batch, inputs and targets (B, T), to those that are there. Returns its mean loss per
    scored token and the number of these. `loss_of` is that loss for inputs and targets of at most `micro_batch_size`
    rows."""
    (tokens,) = total(count_scored(batch[1]))
    scored = tokens / dist.get_world_size()  # FSDP2 takes the mean of the gradients; wanted is their sum
    loss = 0.0
    for inputs, targets, share in micro_batches(*batch, micro_batch_size, scored):
        part_loss = share * loss_of(inputs, targets)
        scaler.scale(part_loss).backward()
        loss += part_loss.item() / dist.get_world_size()
    return total(loss)[0], int(tokens)


@torch.no_grad()
def mean_loss(loss_of, loader):
    """The mean loss per scored token over all entries of a loader that doesn't shuffle, each counted once, and the
    number of these tokens; `loss_of` as in `backpropagate`."""
    loss, tokens = 0.0, 0
    for number, (inputs, targets) in enumerate(loader):
        rows = number * loader.batch_size + torch.arange(len(inputs))           # this process's, (B,)
        entries = rows * dist.get_world_size() + dist.get_rank()                # as DistributedSampler deals them out
        targets[entries >= len(loader.dataset)] = IGNORE_INDEX  # its repetitions
        scored = count_scored(targets)
        loss, tokens = loss + scored * loss_of(inputs, targets).item(), tokens + scored
    loss, tokens = total(loss, tokens)
    return loss / max(tokens, 1), int(tokens)


# --- Checkpoints, in folders step-<number> ---


def whole_checkpoints(folder):
    """The whole checkpoints in a folder, the newest first: those with the file that PyTorch writes last."""
    return [path for path in numbered(folder, "") if (path / ".metadata").exists()]


def newest_checkpoint(folder, **run):
    """The checkpoint to go on from, or None; for rank 0. Notes the run's settings, plain values, in the folder. Raises
    ValueError, saying what differs, if the checkpoints there are of another run."""
    path, found = Path(folder, "run.json"), whole_checkpoints(folder)
    saved = json.loads(path.read_text()) if path.exists() else {}
    if found and (difference := differences(run, saved)):
        raise ValueError(f"{folder} is of another run ({difference}): empty that folder or name another")
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(run))
    return found[0] if found else None


def state_of(model, optimizer, scaler):
    """What a checkpoint holds: trained weights, moments, the loss's scale."""
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    return {"weights": weights, "moments": dcp_state.get_optimizer_state_dict(model, optimizer), "scaler": scaler}


def save_checkpoint(folder, step, model, optimizer, scaler):
    """Write a checkpoint, each process its parts, and keep only the one before it besides, to go on from when the newer
    one is damaged and its folder was deleted."""
    dcp.save(state_of(model, optimizer, scaler), checkpoint_id=Path(folder, f"step-{step:06d}"))
    if dist.get_rank() == 0:
        for other in set(numbered(folder, "")) - set(whole_checkpoints(folder)[:2]):
            shutil.rmtree(other)


def load_checkpoint(path, model, optimizer, scaler):
    """Restore a checkpoint in place. Returns its number of steps."""
    dcp.load(state_of(model, optimizer, scaler), checkpoint_id=path)  # into the very tensors that these hold
    return number_of(path)
