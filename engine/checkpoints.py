"""Saving and resuming a training run, so that a process may die at any moment.

A checkpoint gets its name when all of it is on the disk, so that no half-written one is ever read. The last two are
kept: if checksums show that the newest is damaged, the run continues from the one before it. Only tensors and plain
values are read back (`weights_only=True`), so that a file from a stranger can't run code. Several processes save one
file together, and any number of processes can continue from it; all must see the same folder.
"""

import time
import zlib
from math import inf
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch

from engine.data_order import DataOrder
from engine.distributed import all_gather, broadcast, full_tensor, rank, shard_like, world_size
from engine.randomness import Randomness
from engine.run_identity import describe_run, differences, has_changed
from engine.texts import translate
from weights.files import atomic_write, unlink_unlocked
from weights.values import plain


class Checkpoints:
    """The checkpoints of one run, `step-<number>.pt` in a folder, with what they need besides `stateful`: the run's
    random generators (`randomness`) and its batches (`data_order`). Without a folder nothing is saved or resumed.

    stateful: the objects with a `state_dict` that is saved; the model, the only module, comes first;
    train_loader, val_loader: the loaders that the run reads; minutes: how long after a checkpoint the next one is due;
    settings: what else decides the result of the run.

    Raises ValueError if this process already began the same run in this folder and stopped before its first checkpoint
    (the model is no longer the initial one), and for loaders that don't give the same batches again.
    """

    def __init__(self, folder, stateful, train_loader=None, val_loader=None, minutes=inf, **settings):
        self.folder = Path(folder).resolve() if folder else None
        self.stateful = stateful
        self.minutes = minutes
        self.saved_at = time.monotonic()
        self.randomness = Randomness(stateful[0], train_loader, val_loader)
        self.trained_names = {name for name, weight in stateful[0].named_parameters() if weight.requires_grad}
        self.data_order = DataOrder(train_loader, self.randomness)
        if self.folder is None:
            return
        if not checkpoints_in(self.folder) and any(has_changed(item, self.folder) for item in stateful):
            raise ValueError(f"this run was stopped before its first checkpoint in {self.folder}, so it can't "
                             "continue: make the model and the optimizer again, or name another folder")
        for item in stateful:
            make_numbers_plain(item)
        loaders = {"training": train_loader, "validation": val_loader}
        loaders = {name: loader for name, loader in loaders.items() if loader is not None}
        self.description = describe_run(stateful, loaders, self.randomness, settings, self.folder)

    def state_of(self, item):
        """What training changes: in a model the trained weights, tied ones once, and the buffers, {name: tensor}; the
        `state_dict` of anything else."""
        if not isinstance(item, torch.nn.Module):
            return item.state_dict()
        return {name: weight for name, weight in item.named_parameters() if name in self.trained_names} | dict(
            item.named_buffers())

    @torch.no_grad()
    def restore_model(self, model, state):
        """Copy a saved `state_of(model)` into the model."""
        for name, tensor in self.state_of(model).items():
            tensor.copy_(shard_like(state[name], tensor))

    def save_when_due(self, step):
        """Save after this step if the last checkpoint is `minutes` old, by rank 0's clock."""
        if self.folder and self.minutes < inf and broadcast(time.monotonic() - self.saved_at >= 60 * self.minutes):
            self.save(step)

    def save(self, step):
        """Write all that the rest of the run depends on, and keep only this checkpoint and the one before it.

        Raises ValueError if the model's weights aren't finite: otherwise this would replace checkpoints that are.
        """
        if self.folder is None:
            return
        states = [gathered(self.state_of(item)) for item in self.stateful]
        generators = all_gather(self.randomness.states())
        epoch_start_states = all_gather(self.data_order.epoch_start_states)
        self.saved_at = time.monotonic()
        if rank() > 0:
            return
        if not all(states[0][name].isfinite().all() for name in self.trained_names):
            raise ValueError(f"after step {step} the weights aren't finite, so they aren't saved: try a lower learning "
                             f"rate or max_norm=1.0, and continue from the checkpoint before, in {self.folder}")
        path = self.folder / f"step-{step}.pt"
        with atomic_write(path) as unfinished, open(unfinished, "wb") as file:
            torch.save({"description": self.description, "states": states, "generators": generators,
                        "epoch_start_states": epoch_start_states}, file)
        for leftover in self.folder.glob("step-*.pt.*.part"):  # of a process that died while it wrote
            unlink_unlocked(leftover)
        # Later checkpoints go, too: they must be damaged, or the run would have continued from them.
        saved = checkpoints_in(self.folder)
        kept = [path, *(older for older in saved if step_of(older) < step)][:2]
        for other in set(saved) - set(kept):
            other.unlink(missing_ok=True)  # another writer may have been faster

    def resume(self):
        """Restore everything from the newest checkpoint that isn't damaged; if there is none, do nothing.

        Raises ValueError, saying what differs, if the checkpoint is of another run.
        """
        path = broadcast(newest_undamaged(self.folder) if self.folder and rank() == 0 else None)
        if path is None:
            return
        # Each of several processes reads its shards only: mapped, the file is in a machine's memory once.
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=world_size() > 1)
        if difference := differences(self.description, saved["description"]):
            raise ValueError(f"{path} is of another run ({difference}): empty that folder or name another. To train a "
                             "saved model further, begin with it (in the notebook, set START_FROM)")
        for item, state in zip(self.stateful, saved["states"], strict=True):
            if isinstance(item, torch.nn.Module):
                self.restore_model(item, state)
            else:
                item.load_state_dict(sharded(state, item) if isinstance(item, torch.optim.Optimizer) else state)
        if rank() < len(saved["generators"]):  # processes that the saved run didn't have keep their own random state
            self.randomness.restore(saved["generators"][rank()])
            self.data_order.epoch_start_states = saved["epoch_start_states"][rank()]
        print(translate("Continuing from {}").format(path))


# --- Files ---


def checkpoints_in(folder):
    """The paths of the checkpoints in a folder, the newest first."""
    paths = Path(folder).glob("step-*.pt")
    return sorted((path for path in paths if path.stem.removeprefix("step-").isdecimal()), key=step_of, reverse=True)


def step_of(path):
    """The number of steps in a checkpoint's name."""
    return int(path.stem.removeprefix("step-"))


def newest_undamaged(folder):
    """The newest checkpoint that isn't damaged, or None."""
    for path in checkpoints_in(folder):
        if is_undamaged(path):
            return path
        print(translate("{} is damaged: trying the one before it").format(path))
    return None


def is_undamaged(path):
    """Whether the checksums are right in a file that `torch.save` wrote, which is a zip archive."""
    try:
        with ZipFile(path) as archive:
            return archive.testzip() is None
    except (BadZipFile, EOFError, RuntimeError, ValueError, zlib.error):  # what zipfile raises for damaged contents
        return False


# --- States ---


def gathered(state):
    """A state with whole tensors on the CPU, and Python's numbers, also within dictionaries and lists. On ranks
    other than 0, None takes the place of the tensors."""
    def whole(tensor):
        tensor = full_tensor(tensor.detach())
        return tensor.cpu() if rank() == 0 else None
    return plain(state, whole)


def make_numbers_plain(item):
    """Make NumPy's numbers in an optimiser or a schedule Python's. A resumed run has Python's, and NumPy may compute
    with its own in another precision, so that the results would differ."""
    if isinstance(item, torch.optim.Optimizer):
        for group in item.param_groups:
            group.update(plain(group, of_tensor=lambda tensor: tensor))
    elif isinstance(item, torch.optim.lr_scheduler.LRScheduler):
        item.load_state_dict(plain(item.state_dict(), of_tensor=lambda tensor: tensor))


def sharded(state, optimizer):
    """An optimiser's whole state with its moments sharded as the parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {number: {name: shard_like(value, parameters[number]) if torch.is_tensor(value) else value
                        for name, value in values.items()} for number, values in state["state"].items()}
    return state | {"state": moments}
