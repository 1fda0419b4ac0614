"""The texts of the notebook and of the modules that a reader sees.

In a code cell these are the strings with words in calls of the functions in SHOWN, or of one that draws, and the
comments that are prose. A new function of the notebook that shows texts is entered in SHOWN; one whose name begins with
`draw_` or `plot_` needs no entry.
"""

import ast
import io
import re
import tokenize

from engine.texts import CONTEXT
from scripts.translation.markdown import parts, python_in
from scripts.translation.templates import template, words
from tutorial import ROOT

CODE = ": code"  # follows a cell's id in the context of what stands in its code
SHOWN = {"print", "Markdown", "markdown_table", "answers", "show", "tqdm", "append"}  # calls whose texts a reader sees
DRAWING = "draw_", "plot_"       # beginnings of the names of functions that draw
NOT_SHOWN = {"live", "caption"}  # calls inside those: data for the page, and a caption's name with its numbers
WITH_KEYS = "answers"            # the call with a dictionary whose values are keys: {heading: key}
MODULES = {"translate", "marked", "label"}  # calls whose texts the modules say
WORD = r"[A-Za-z]{2}"
PROSE = r"[A-Za-z]{2} [a-z]{2}|[a-z]{4}"  # two words, or a longer one; code and shapes have neither


def messages(notebook):
    """All texts of a notebook and of the modules that a reader sees, in order: {(context, text): None}."""
    found = {}
    for cell in notebook.cells:
        found |= dict.fromkeys((context, text) for context, text in texts_of(cell) if text)
    return found | dict.fromkeys((CONTEXT, text) for text in texts_of_modules())


def texts_of(cell):
    """The texts of one cell: pairs of a context and a text."""
    code = cell.id + CODE
    if cell.cell_type == "code":
        yield from ((code, text) for text in ShownTexts(cell.source).found.values())
        yield from ((code, text) for _, text in comments(cell.source))
        return
    for kind, part in parts(cell.source):
        if kind == "paragraph" and has_words(part):
            yield cell.id, part.strip("\n")
        elif kind == "python":
            yield from ((code, text) for _, text in comments(python_in(part)))


def has_words(paragraph):
    """Whether a paragraph has words outside HTML's tags."""
    return bool(re.search(WORD, re.sub(r"<[^>]*>", "", paragraph)))


def texts_of_modules():
    """The literal texts in calls of `translate`, `marked` and `label`."""
    folders = "engine", "tutorial", "miniature"
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_call = isinstance(node, ast.Call) and name_of(node) in MODULES
            if is_call and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def name_of(call):
    """The name of the function or method that is called; "" for another expression."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


class ShownTexts(ast.NodeVisitor):
    """The strings in a cell's code that a reader sees, in `found`: {node: template}. `drawn` has the nodes of those
    that are in a figure. Keys aren't texts: strings in brackets, in what a comprehension iterates over, and those that
    the columns of `answers` show, {heading: key}."""

    def __init__(self, source):
        self.found, self.drawn = {}, set()
        self.calls = []  # names of the calls around a node, from the outermost
        self.visit(ast.parse(source))

    def visit_Call(self, node):
        name = name_of(node)
        if name not in NOT_SHOWN:
            self.calls.append(name)
            self.generic_visit(node)
            self.calls.pop()

    def visit_Subscript(self, node):
        self.visit(node.value)
        if not isinstance(node.slice, ast.Constant):
            self.visit(node.slice)

    def visit_Dict(self, node):
        for part in node.keys if self.calls[-1:] == [WITH_KEYS] else ast.iter_child_nodes(node):
            self.visit(part)

    def visit_comprehension(self, node):
        pass

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.note(node)

    def visit_JoinedStr(self, node):
        self.note(node)

    def note(self, node):
        """Take a string if it is shown or drawn, and has words."""
        is_drawn = any(name.startswith(DRAWING) for name in self.calls)
        text = template(node)
        if (is_drawn or not SHOWN.isdisjoint(self.calls)) and re.search(WORD, words(text)):
            self.found[node] = text
            if is_drawn:
                self.drawn.add(node)


def comments(source):
    """The comments in Python code that are prose: [(token, text without "# "), ...]."""
    return [(token, token.string.lstrip("# ")) for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT and re.search(PROSE, token.string)]
