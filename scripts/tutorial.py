"""What the notebook defines, for the scripts, tests and benchmarks: there is no second copy of it."""

import ast
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "GPT2_instruction_finetuning.ipynb"


def notebook_definitions():
    """The notebook's imports, functions and classes as a namespace, without running the tutorial."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    namespace = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            tree.body = [node for node in tree.body
                         if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))]
            exec(compile(tree, NOTEBOOK.name, "exec"), namespace)
    return namespace
