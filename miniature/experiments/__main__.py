"""python -m miniature.experiments [name ...], as `miniature/experiments/__init__.py` says."""

import sys
import time

import torch

from miniature.experiments import results
from miniature.experiments.catalog import EXPERIMENTS, runs


def measure(names):
    """Do all runs of these experiments that are missing in the file."""
    torch.set_num_threads(1)  # what a model this small takes longer with more, and the same numbers everywhere
    for key in runs(names):
        if key not in results.read():
            name, condition, seed = key
            started = time.time()
            numbers = EXPERIMENTS[name].run(condition, seed)
            results.add(key, numbers)
            print(f"{' | '.join(map(str, key))}: {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    names = sys.argv[1:] or list(EXPERIMENTS)
    if names == ["tables"]:
        from miniature.experiments.tables import write
        write()
    elif unknown := set(names) - set(EXPERIMENTS):
        sys.exit(f"no experiment {', '.join(sorted(unknown))}: there are {', '.join(EXPERIMENTS)}, and tables")
    else:
        measure(names)
