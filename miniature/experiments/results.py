"""The file with the experiments' numbers: those of every run under a key, and what made them."""

import hashlib
import json
import platform
import sys
from importlib.metadata import version

from miniature.recipe import BATCH_SIZE, RECIPE
from tutorial import MINIATURE_DIR, ROOT
from weights.files import atomic_write

FILE = ROOT / "miniature/experiments.json"
DATA = ROOT / "data/mini-instructions.json"
WEIGHTS = MINIATURE_DIR / "model.ckpt.data-00000-of-00001"


def made_with():
    """What the numbers depend on besides the code: the data, the pretrained weights, the recipe, and versions."""
    hashes = {file.relative_to(ROOT).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
              for file in (DATA, WEIGHTS)}
    recipe = {name: RECIPE[name] for name in ("learning_rate", "num_epochs", "linear_decay", "max_norm")}
    return {"sha256": hashes, "recipe": recipe | {"batch_size": BATCH_SIZE}, "python": platform.python_version(),
            "torch": version("torch"), "platform": f"{sys.platform} {platform.machine()}"}


def read():
    """All numbers that are known: {(experiment, condition, seed): numbers}. Raises ValueError if they were measured
    with other data, weights or settings."""
    if not FILE.exists():
        return {}
    content = json.loads(FILE.read_text(encoding="utf-8"))
    if any(content["made with"].get(name) != made_with()[name] for name in ("sha256", "recipe")):
        raise ValueError(f"{FILE.name} was made with other data, weights or settings: delete it to measure all anew")
    return {parse_key(key): numbers for key, numbers in content["results"].items()}


def parse_key(key):
    experiment, condition, seed = key.split(" | ")
    return experiment, condition, int(seed)


def add(key, numbers):
    """Add the numbers of one run to the file. What other processes have added meanwhile is kept."""
    results = read() | {key: numbers}
    lines = (f"{json.dumps(' | '.join(map(str, key)))}: {json.dumps(results[key])}" for key in sorted(results))
    with atomic_write(FILE) as unfinished:
        unfinished.write_text('{"made with": ' + json.dumps(made_with()) + ',\n"results": {\n' + ",\n".join(lines)
                              + "\n}}\n", encoding="utf-8")


def of(results, experiment, condition):
    """The numbers of one condition, one for each seed, in the order of the seeds."""
    return [numbers for key, numbers in sorted(results.items()) if key[:2] == (experiment, condition)]
