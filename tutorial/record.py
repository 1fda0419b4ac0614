"""What made a result, in a file: settings, hashes of data, weights and code, versions, losses, scores."""

import hashlib
import json
import platform
import sys
from importlib.metadata import version

from tutorial import ROOT
from weights.files import atomic_write
from weights.values import bytes_of, plain

PACKAGES = ("torch", "numpy", "tiktoken")
CODE = ("*.py", "*.ipynb", "engine/*.py", "miniature/*.py", "tutorial/*.py", "weights/*.py")  # in the project's folder


def hash_of_code():
    """One SHA-256 of all code that a run executes. Of the notebook only the code counts, not its outputs."""
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


def compare(ours, other):
    """Yields how two records differ, in lines of text."""
    for kind in ("settings", "hashes", "versions"):
        for name in ours[kind] | other[kind]:
            values = ours[kind].get(name), other[kind].get(name)
            if values[0] != values[1]:
                shown = [value[:12] if kind == "hashes" and value else value for value in values]
                yield f"{kind}: {name} is {shown[0]!r} and {shown[1]!r}"
    losses = {step: (loss, other["losses"][step]) for step, loss in ours["losses"].items() if step in other["losses"]}
    first = next((step for step, (loss, others_loss) in losses.items() if loss != others_loss), None)
    if first is None:
        yield f"losses: equal in all of {len(losses)} steps"
    else:
        yield f"losses: they part in step {first}: {losses[first][0]!r} and {losses[first][1]!r}"
    if len(ours["losses"]) != len(other["losses"]):
        yield f"losses: {len(ours['losses'])} steps and {len(other['losses'])} steps"
    for name in ours["scores"] | other["scores"]:
        yield f"scores: {name} {ours['scores'].get(name)} and {other['scores'].get(name)}"
