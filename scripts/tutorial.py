"""What the notebook defines, for scripts, tests and benchmarks (there is no second copy), and the model it saved."""

import ast
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "GPT2_instruction_finetuning.ipynb"
MINIATURE_DIR = ROOT / "gpt2/7M"  # the embedded model; its tokenizer is that of every GPT-2


def code_cells():
    """The notebook's code cells as texts."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def notebook_definitions():
    """The notebook's imports, functions, classes and literals, such as PUBLISHED, as a namespace, without running the
    tutorial."""
    namespace = {}
    for cell in code_cells():
        tree = ast.parse(cell)
        tree.body = [node for node in tree.body if is_definition(node)]
        exec(compile(tree, NOTEBOOK.name, "exec"), namespace)
    return namespace


def notebook_split(data, batch_size):
    """The parts for training, test and validation into which the notebook's cell divides a list of entries. Prints
    their sizes; raises ValueError for too few entries."""
    [cell] = [cell for cell in code_cells() if cell.startswith("train_portion =")]
    namespace = {"data": data, "BATCH_SIZE": batch_size}
    exec(cell, namespace)
    return [namespace[name] for name in ("train_data", "test_data", "val_data")]


def is_definition(node):
    """Whether a statement depends on nothing but imports."""
    if isinstance(node, ast.Assign):
        try:
            ast.literal_eval(node.value)
        except ValueError:
            return False
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign))


def saved_model(path):
    """The model in a file that `save_model` wrote, and its config. Ends the process with one sentence if there is
    none."""
    from previous_chapters import load_model  # only here: the translation needs no PyTorch
    try:
        return load_model(path)
    except FileNotFoundError:
        sys.exit(f"There is no fine-tuned model in {path} yet: `make run` makes one and saves it as "
                 "build/gpt2-instruct.pt")
    except ValueError as error:
        sys.exit(str(error))
