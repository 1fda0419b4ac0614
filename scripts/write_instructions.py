"""Write tutorial/instructions.py from the notebook's cells that carry the tag `export`:

    python scripts/write_instructions.py
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tutorial import NOTEBOOK, ROOT

INSTRUCTIONS = ROOT / "tutorial/instructions.py"
DOCSTRING = '''\
"""The notebook's own definitions: the prompt, the data and their split, batches, recipes, and the model's answers.

Don't edit this file. `python scripts/write_instructions.py` writes it from the notebook's cells with the tag `export`.
"""'''


def exported(notebook):
    """The text of tutorial/instructions.py for a notebook, which is a dictionary as in its JSON file."""
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if "export" in cell["metadata"].get("tags", [])]
    imports, *definitions = cells
    return f"{DOCSTRING}\n\n{imports}\n\n" + "\n\n\n".join(definitions) + "\n"


def main():
    INSTRUCTIONS.write_text(exported(json.loads(NOTEBOOK.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
