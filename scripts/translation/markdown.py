"""A Markdown cell in paragraphs, and its links."""

import re

BETWEEN = re.compile(r"(^```\w*\n.*?^```$|\n(?:>?\n)+)", re.MULTILINE | re.DOTALL)  # paragraphs: code, or blank lines
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK_START, BLOCK_END = "```python\n", "```"


def parts(source):
    """A cell's source in parts, which joined give it again: pairs of a kind and a text. The kinds are "paragraph",
    "python" for a block of Python, and "between" for other blocks of code and for blank lines."""
    for number, part in enumerate(BETWEEN.split(source)):
        if number % 2 == 0:
            yield "paragraph", part
        else:
            yield "python" if part.startswith(BLOCK_START) else "between", part


def python_in(block):
    """The code in a block of Python."""
    return block.removeprefix(BLOCK_START).removesuffix(BLOCK_END)
