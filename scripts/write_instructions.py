"""Write tutorial/instructions.py from the notebook's cells that carry the tag `export`.

    python scripts/write_instructions.py
"""

import argparse
import ast
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tutorial import NOTEBOOK, ROOT

INSTRUCTIONS = ROOT / "tutorial/instructions.py"
DOCSTRING = '''\
"""The notebook's own definitions: the prompt, the split, data set, batches, and the model's answers.

Don't edit this file. `python scripts/write_instructions.py` writes it from the notebook's cells with the tag `export`
and from those imports of the cell with the tag `imports` that they need.
"""'''


def exported(notebook):
    """The text of tutorial/instructions.py for a notebook, which is a dictionary as in its JSON file."""
    def tagged(tag):
        return ["".join(cell["source"]) for cell in notebook["cells"] if tag in cell["metadata"].get("tags", [])]
    [imports], definitions = tagged("imports"), "\n\n\n".join(tagged("export"))
    return f"{DOCSTRING}\n\n{needed(imports, definitions)}\n\n\n{definitions}\n"


def needed(imports, definitions):
    """Those of the imports that the definitions use, with the blank lines between their groups."""
    used = {node.id for node in ast.walk(ast.parse(definitions)) if isinstance(node, ast.Name)}
    groups = [[]]
    for line in imports.splitlines():
        if not line:
            groups.append([])
            continue
        [statement] = ast.parse(line).body
        statement.names = [name for name in statement.names if (name.asname or name.name) in used]
        if statement.names:
            groups[-1].append(ast.unparse(statement))
    return "\n\n".join("\n".join(group) for group in groups if group)


def main():
    """Write the file; the command line has no options."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    INSTRUCTIONS.write_text(exported(json.loads(NOTEBOOK.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
