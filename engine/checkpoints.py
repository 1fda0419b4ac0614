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
    """The checkpoints of one run, `step-<number>.pt` in a folder; with the folder None nothing is saved or resumed.

    run: what identifies the run, a dictionary of plain values; a folder with another run's checkpoints is an error.
    stateful: what the run changes, objects with `state_dict` and `load_state_dict`; train_loader: the loader it draws
    from.
    """

    def __init__(self, folder, run, stateful, train_loader=None):
        self.folder, self.run, self.stateful = folder and Path(folder), run, stateful
        # What training draws from: PyTorch's generator on the CPU, the loader's own if it has one, and those on CUDA
        # GPUs.
        own = getattr(train_loader, "generator", None)
        self.generators = [torch.default_generator] + ([own] if own else []) + list(torch.cuda.default_generators)

    def paths(self):
        """The checkpoints in the folder, the newest first."""
        return sorted(self.folder.glob("step-*.pt"), key=lambda path: int(path.stem[len("step-"):]), reverse=True)

    def save(self, step):
        """Write all that the run depends on after this step, and keep only the checkpoint before it besides."""
        if self.folder is None:
            return
        path = self.folder / f"step-{step}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with open(unfinished, "wb") as file:
            torch.save({"run": self.run, "states": [one.state_dict() for one in self.stateful],
                        "generators": [generator.get_state() for generator in self.generators]}, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        for older in self.paths()[2:]:
            older.unlink()

    def resume(self):
        """Bring all to where the newest undamaged checkpoint has it; without one nothing happens.

        Raises ValueError, saying what differs, if the checkpoint is of another run.
        """
        for path in self.paths() if self.folder else ():
            if not is_sound(path):
                print(f"{path} is damaged: trying the one before it")
                continue
            saved = torch.load(path, map_location="cpu", weights_only=True)
            if saved["run"] != self.run:
                differences = [f"{key} {self.run.get(key)!r}, was {was!r}" for key, was in saved["run"].items()
                               if self.run.get(key) != was]
                raise ValueError(f"{path} is of another run ({', '.join(differences)}): empty that folder or name "
                                 "another")
            for one, state in zip(self.stateful, saved["states"], strict=True):
                one.load_state_dict(state)
            for generator, state in zip(self.generators, saved["generators"], strict=True):
                generator.set_state(state)
            print(f"Going on from {path}")
            return


def is_sound(path):
    """Whether a file that `torch.save` wrote, a zip archive with checksums, is undamaged."""
    try:
        with ZipFile(path) as archive:
            return archive.testzip() is None
    except (BadZipFile, RuntimeError, ValueError, zlib.error):  # what zipfile raises for a damaged list of contents
        return False
