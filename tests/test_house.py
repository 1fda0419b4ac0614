"""The house itself: imports run down only, and the tables that name files and tests are true."""

import ast
import re

import pytest

from scripts.tutorial import ROOT

MAY_IMPORT = {  # of the project's own modules, from the engine's rooms up
    "engine/__init__.py": set(),
    "engine/fast.py": set(),
    "engine/params.py": set(),
    "engine/checkpoints.py": {"engine.params"},
    "engine/entries.py": set(),
    "engine/fetch.py": set(),
    "engine/figures.py": {"engine.entries"},
    "engine/settings.py": set(),
    "engine/generation.py": {"engine.fast"},
    "engine/lora.py": set(),
    "engine/precision.py": set(),
    "engine/training_log.py": {"engine.fast"},
    "engine/distributed.py": {"engine.checkpoints", "engine.fast"},
    "engine/tf_checkpoint.py": {"engine.fetch"},
    "engine/huggingface.py": {"engine.checkpoints", "engine.fetch"},
    "gpt_download.py": {"engine"},
    "previous_chapters.py": {"engine"},
    "miniature": {"engine", "gpt_download", "previous_chapters", "scripts", "miniature"},
    "scripts": {"engine", "gpt_download", "previous_chapters", "scripts"},
    "benchmarks": {"engine", "gpt_download", "previous_chapters", "scripts", "benchmarks", "tests.helpers"},
    "tests": {"engine", "gpt_download", "previous_chapters", "scripts", "miniature", "tests"},
}
OWN = {"engine", "gpt_download", "previous_chapters", "scripts", "miniature", "benchmarks", "tests"}


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
    return sorted(path for folder in folders for path in (ROOT / folder).glob("*.py")) + [
        ROOT / "gpt_download.py", ROOT / "previous_chapters.py"]


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_down_only(path):
    name = str(path.relative_to(ROOT))
    allowed = MAY_IMPORT.get(name, MAY_IMPORT.get(path.parent.name))
    assert allowed is not None, "a new room: say what it may import"
    for module in imported(path):
        assert any(module == room or module.startswith(room + ".") for room in allowed), f"{name} imports {module}"


def test_an_import_that_runs_up_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "engine").mkdir()
    path = tmp_path / "engine/room.py"
    path.write_text("import torch\nfrom .fast import pack\n\n\ndef f():\n    from previous_chapters import GPTModel\n")
    monkeypatch.setattr("tests.test_house.ROOT", tmp_path)
    assert list(imported(path)) == ["engine.fast", "previous_chapters"]


def faults():
    """(test file, name) for every test that the tables of tests/README.md name."""
    file = None
    for line in (ROOT / "tests/README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("### "):
            file = re.search(r"`(test_\w+\.py)`", line)[1]
        elif file and line.startswith("|"):
            yield from ((file, name) for name in re.findall(r"`(\w+)`", line.rstrip("| ").rpartition(" | ")[2]))


def test_every_fault_in_the_table_is_tested():
    named = list(faults())
    assert len(named) > 50
    for file, name in named:
        functions = {node.name for node in ast.walk(ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8")))
                     if isinstance(node, ast.FunctionDef)}
        assert f"test_{name}" in functions, f"{file} has no test_{name}"


def test_every_file_of_tests_is_in_its_table():
    text = (ROOT / "tests/README.md").read_text(encoding="utf-8")
    for path in (ROOT / "tests").glob("test_*.py"):
        assert f"`{path.name}`" in text
