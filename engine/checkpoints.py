"""Saving and resuming a training run, so that a process may die at any moment.

A checkpoint gets its name when all of it is on the disk, so there are whole checkpoints only, and the last two are
kept: a damaged one is noticed by its checksums and passed over for the one before it. Only tensors and plain values are
read back (`weights_only=True`), so that a file from a stranger can't run code.
"""

import os
import zlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch


class Checkpoints:
    """The checkpoints of one run, `step-<number>.pt` in a folder; without a folder nothing is saved or resumed.

    run: what identifies the run, a dictionary of plain values; a folder with another run's checkpoints is an error.
    stateful: what the run changes, objects with `state_dict` and `load_state_dict`, the model first; train_loader: the
    loader it draws from.
    """

    def __init__(self, folder, run, stateful, train_loader=None):
        self.folder = Path(folder) if folder else None
        self.stateful = stateful
        # What training draws from: PyTorch's generator on the CPU, the loader's own if it has one, those on CUDA GPUs.
        own = getattr(train_loader, "generator", None)
        self.generators = [torch.default_generator] + ([own] if own else []) + list(torch.cuda.default_generators)
        self.run = run | {"generators": [str(generator.device) for generator in self.generators]}

    def paths(self):
        """The checkpoints in the folder, the newest first."""
        paths = [path for path in self.folder.glob("step-*.pt") if path.stem.removeprefix("step-").isdigit()]
        return sorted(paths, key=number_of, reverse=True)

    def save(self, step):
        """Write all that the run depends on after this step, and keep only the checkpoint before it besides.

        Raises ValueError if the model's weights aren't finite: the checkpoints before are worth more.
        """
        if self.folder is None:
            return
        states = [one.state_dict() for one in self.stateful]
        if not all(weight.isfinite().all() for weight in states[0].values()):
            raise ValueError(f"after step {step} the weights aren't finite, so they aren't saved: try a lower learning "
                             f"rate or max_norm=1.0, and go on from the checkpoint before, in {self.folder}")
        path = self.folder / f"step-{step}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with open(unfinished, "wb") as file:
            torch.save({"run": self.run, "states": states,
                        "generators": [generator.get_state() for generator in self.generators]}, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        # Newer ones that are there, too, were damaged: the run would have gone on from them.
        kept = [path, *(older for older in self.paths() if number_of(older) < step)][:2]
        for other in set(self.paths()) - set(kept):
            other.unlink()

    def resume(self):
        """Bring all to where the newest undamaged checkpoint has it; without one nothing happens.

        Raises ValueError, saying what differs, if the checkpoint is of another run.
        """
        for path in self.paths() if self.folder else ():
            if not is_sound(path):
                print(f"{path} is damaged: trying the one before it")
                continue
            saved = torch.load(path, map_location="cpu", weights_only=True)
            differences = [f"{key} {self.run.get(key)!r}, was {saved['run'].get(key)!r}"
                           for key in saved["run"] | self.run if self.run.get(key) != saved["run"].get(key)]
            if differences:
                raise ValueError(f"{path} is of another run ({'; '.join(differences)}): empty that folder or name "
                                 "another")
            for one, state in zip(self.stateful, saved["states"], strict=True):
                one.load_state_dict(state)
            for generator, state in zip(self.generators, saved["generators"], strict=True):
                generator.set_state(state)
            print(f"Going on from {path}")
            return


def number_of(path):
    """The number of steps in a checkpoint's name."""
    return int(path.stem.removeprefix("step-"))


def is_sound(path):
    """Whether a file that `torch.save` wrote, a zip archive with checksums, is undamaged."""
    try:
        with ZipFile(path) as archive:
            return archive.testzip() is None
    except (BadZipFile, EOFError, RuntimeError, ValueError, zlib.error):  # what zipfile raises for damaged contents
        return False
