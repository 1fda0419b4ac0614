"""The record of a run, in a file: settings, hashes of data, weights and code, versions, losses, scores."""

import hashlib
import json
import platform
import sys
from importlib.metadata import version

from tutorial import ROOT
from weights.files import atomic_write
from weights.values import bytes_of, plain

PACKAGES = ("torch", "numpy", "tiktoken")
CODE = ("*.py", "*.ipynb", "engine/**/*.py", "miniature/**/*.py", "tutorial/**/*.py", "weights/**/*.py")


def hash_of_code():
    """One SHA-256 of all code that a run may execute, the files that match CODE. Of the notebook only the code counts,
    not its outputs."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in CODE for path in ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            text = json.dumps([cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"])
        digest.update(f"{path.relative_to(ROOT).as_posix()}\n{text}".encode())
    return digest.hexdigest()


def hash_of_weights(model):
    """One SHA-256 of all weights of a model, with their names."""
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(bytes_of(weight))
    return digest.hexdigest()


def write_record(path, settings, hashes, losses, scores):
    """Write a run's record, a JSON file: its settings and the hashes of what it began with, {name: value}, its losses,
    {number of the step: loss}, and its scores, {name: value}. Versions and the hash of the code are added."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    record = {"settings": settings, "hashes": hashes | {"code": hash_of_code()},
              "versions": versions | {"platform": f"{sys.platform} {platform.machine()}"},
              "losses": losses, "scores": scores}
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(plain(record), indent=1), encoding="utf-8")
