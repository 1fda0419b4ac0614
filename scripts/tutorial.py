"""What the notebook defines, for the scripts, tests and benchmarks: there is no second copy of it."""

import ast
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "GPT2_instruction_finetuning.ipynb"


def notebook_definitions():
    """The notebook's imports, functions, classes and constants (names in capitals for plain values) as a namespace,
    without running the tutorial."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    namespace = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            tree.body = list(filter(is_definition, tree.body))
            exec(compile(tree, NOTEBOOK.name, "exec"), namespace)
    return namespace


def is_definition(node):
    if isinstance(node, ast.Assign):
        return (all(isinstance(target, ast.Name) and target.id.isupper() for target in node.targets)
                and not any(isinstance(part, (ast.Call, ast.Name)) for part in ast.walk(node.value)))
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))
