"""The house itself: imports run down only, and the tables that name files and tests are true."""

import ast
import re
from functools import cache

import pytest

from tutorial import ROOT

TEXT, FILES = {"previous_chapters"}, {"previous_chapters", "weights"}
ENGINE = FILES | {"engine"}
MAY_IMPORT = {  # of the project's own modules, from the ground floor up
    "previous_chapters.py": set(),
    "weights": FILES,
    "gpt_download.py": FILES,
    "engine/layers.py": set(),
    "engine/lora.py": set(),
    "engine/memory.py": set(),
    "engine/models.py": set(),
    "engine/packing.py": set(),
    "engine/probes.py": set(),
    "engine/texts.py": set(),
    "engine/precision.py": {"engine.texts"},
    "engine/randomness.py": {"weights.values"},
    "engine/distributed.py": TEXT,
    "engine/data_order.py": {"engine.distributed"},
    "engine/structure.py": TEXT,
    "engine/comparison.py": {"engine.layers", "engine.models", "engine.randomness", "engine.structure", "engine.texts"},
    "engine/fast.py": TEXT | {"engine.comparison", "engine.layers", "engine.models", "engine.packing", "engine.probes",
                              "engine.texts"},
    "engine/one_row.py": TEXT | {"engine.layers", "engine.structure"},
    "engine/generation.py": {"engine.comparison", "engine.layers", "engine.memory", "engine.models", "engine.one_row",
                             "engine.packing", "engine.probes", "engine.texts"},
    "engine/devices.py": TEXT | {"engine.distributed", "engine.models", "engine.precision"},
    "engine/run_identity.py": {"engine.distributed", "engine.structure", "weights.values"},
    "engine/checkpoints.py": {"engine.data_order", "engine.distributed", "engine.randomness", "engine.run_identity",
                              "engine.texts", "weights.files", "weights.values"},
    "engine/training_log.py": {"engine.distributed", "engine.texts"},
    "engine/trainer.py": ENGINE,
    "tutorial": ENGINE | {"gpt_download", "tutorial"},
    "tutorial/page": ENGINE | {"gpt_download", "tutorial", "miniature"},  # whose model it shows
    "scripts": ENGINE | {"gpt_download", "tutorial", "scripts"},
    "scripts/translation": {"engine.texts", "scripts.translation", "tutorial"},
    "miniature": ENGINE | {"gpt_download", "tutorial", "scripts", "miniature"},
    "miniature/experiments": ENGINE | {"gpt_download", "tutorial", "scripts", "miniature"},
    "benchmarks": ENGINE | {"gpt_download", "tutorial", "scripts", "benchmarks", "tests.helpers"},
    "tests": ENGINE | {"gpt_download", "tutorial", "scripts", "miniature", "tests"},
}
OWN = ENGINE | {"gpt_download", "tutorial", "scripts", "miniature", "benchmarks", "tests"}


def imported(path):
    """The project's own modules that a file imports, anywhere in it."""
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{package}.{node.module or ''}".strip(".") if node.level else node.module]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in OWN)


def python_files():
    folders = {name for name in MAY_IMPORT if not name.endswith(".py")} | {"engine"}
    return [ROOT / "previous_chapters.py", ROOT / "gpt_download.py", *sorted(
        path for folder in folders for path in (ROOT / folder).glob("*.py") if path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_down_only(path):
    name = str(path.relative_to(ROOT))
    room = str(path.parent.relative_to(ROOT))
    allowed = set() if name == "engine/__init__.py" else MAY_IMPORT.get(name, MAY_IMPORT.get(room))
    assert allowed is not None, "a new room: say what it may import"
    for module in imported(path):
        assert any(module == room or module.startswith(room + ".") for room in allowed), f"{name} imports {module}"


def test_an_import_that_runs_up_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "engine").mkdir()
    path = tmp_path / "engine/room.py"
    path.write_text("import torch\nfrom .fast import Packing\n\n\ndef f():\n    from tutorial import ROOT\n")
    monkeypatch.setattr("tests.test_house.ROOT", tmp_path)
    assert list(imported(path)) == ["engine.fast", "tutorial"]


def faults():
    """(test file, name) for every test that the tables of tests/README.md name."""
    file = None
    for line in (ROOT / "tests/README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("### "):
            file = re.search(r"`(test_\w+\.py)`", line)[1]
        elif file and line.startswith("|"):
            yield from ((file, name) for name in re.findall(r"`(\w+)`", line.rstrip("| ").rpartition(" | ")[2]))


@cache
def functions_in(file):
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_fault_in_the_table_is_tested():
    named = list(faults())
    assert len(named) > 50
    for file, name in named:
        assert f"test_{name}" in functions_in(file), f"{file} has no test_{name}"


def test_every_file_of_tests_is_in_its_table():
    text = (ROOT / "tests/README.md").read_text(encoding="utf-8")
    for path in (ROOT / "tests").glob("test_*.py"):
        assert f"`{path.name}`" in text
