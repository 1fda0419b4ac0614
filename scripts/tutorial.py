"""What the notebook defines, for the scripts, tests and benchmarks: there is no second copy of it."""

import ast
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "GPT2_instruction_finetuning.ipynb"


def notebook_definitions():
    """The notebook's imports, functions, classes and literals, such as PUBLISHED, as a namespace, without running the
    tutorial."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    namespace = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            tree.body = [node for node in tree.body if is_definition(node)]
            exec(compile(tree, NOTEBOOK.name, "exec"), namespace)
    return namespace


def is_definition(node):
    """Whether a statement depends on nothing but imports."""
    if isinstance(node, ast.Assign):
        try:
            ast.literal_eval(node.value)
        except ValueError:
            return False
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign))
