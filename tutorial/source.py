"""The source of classes and functions, displayed in the notebook."""

import inspect
import re
from pathlib import Path
from textwrap import dedent

from IPython.display import Markdown, display


def show_source(*things):
    """Display classes and functions as they stand in their files."""
    display(Markdown(code_block(*things)))


def fold_source(*things):
    """Display them folded: a line with their names, which opens when it is clicked."""
    names = ", ".join(f"<code>{thing.__name__}</code>" for thing in things)
    file = Path(inspect.getsourcefile(things[0])).name
    summary = f'<details class="fold"><summary>{names} ({file})</summary>'  # the page opens it with its other folds
    display(Markdown(f"{summary}\n\n{code_block(*things)}\n\n</details>"))


def code_block(*things):
    """The source of classes and functions as Markdown. In lines of more than 88 columns, which would wrap, a
    trailing comment moves to the left."""
    lines = "\n\n\n".join(dedent(inspect.getsource(thing)).rstrip() for thing in things).split("\n")
    code = "\n".join(re.sub(r"(?<=\S) {3,}# ", "  # ", line) if len(line) > 88 else line for line in lines)
    return f"```python\n{code}\n```"
