"""The edition: the notebook with its texts replaced by their translations."""

import math
import re
from collections import defaultdict
from itertools import accumulate

import nbformat

from scripts.translation.extract import CODE, ShownTexts, comments
from scripts.translation.markdown import parts, python_in
from scripts.translation.templates import literal

SET_UP, SET_UP_CHINESE = "figures.set_up_figures()", 'figures.set_up_figures("translations/zh.po")'
TO_FILE = re.compile(r"\]\((?!#|https://)")  # a link's beginning
LONGEST = 88  # columns of a line of the notebook's code


def build(notebook, po, drawn=True):
    """The notebook in Chinese, without outputs; texts that code cells draw stay English unless `drawn`. Its links are
    those of a file in a folder of the project."""
    notebook = nbformat.from_dict(notebook)
    translations = defaultdict(dict)  # {context: {English: Chinese}}
    for entry in po:
        if entry.translated():
            translations[entry.msgctxt][entry.msgid] = entry.msgstr
    for cell in notebook.cells:
        of_code = translations[cell.id + CODE]
        if cell.cell_type == "code":
            cell.source = translated_code(cell.source, of_code, drawn)
            cell.update(outputs=[], execution_count=None)
        else:
            cell.source = translated_markdown(cell.source, translations[cell.id], of_code)
    [set_up] = [cell for cell in notebook.cells if SET_UP in cell.source]
    set_up.source = set_up.source.replace(SET_UP, SET_UP_CHINESE)
    notebook.metadata["title"] = notebook.cells[0].source.splitlines()[0].lstrip("# ")  # the web page's
    return notebook


def translated_markdown(source, translations, of_code):
    """A Markdown cell's source with its paragraphs translated, and the comments in its blocks of code. translations,
    of_code: {English: Chinese}, of the paragraphs and of the comments."""
    translated = []
    for kind, part in parts(source):
        if kind == "paragraph" and (text := part.strip("\n")):
            part = TO_FILE.sub("](../", part.replace(text, translations.get(text, text)))
        elif kind == "python":
            python = python_in(part)
            part = part.replace(python, changed(python, comment_changes(python, of_code)))
        translated.append(part)
    return "".join(translated)


def translated_code(source, translations, drawn=True):
    """A code cell's source with its texts and comments translated; texts of figures only if `drawn`."""
    return changed(source, [*text_changes(source, translations, drawn), *comment_changes(source, translations)])


def text_changes(source, translations, drawn):
    """The changes that translate the texts, for `changed`. A text of several lines is broken into lines again."""
    shown = ShownTexts(source)
    for node, text in shown.found.items():
        if translations.get(text) and (drawn or node not in shown.drawn):
            longest = LONGEST if node.lineno < node.end_lineno else math.inf
            yield ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset),
                   literal(translations[text], node.col_offset, longest))


def comment_changes(source, translations):
    """The changes that translate the comments, for `changed`."""
    lines = source.splitlines()
    for token, text in comments(source):
        if translations.get(text):
            row, column = token.start
            start = len(lines[row - 1][:column].encode())
            end = start + len(token.string.encode())
            yield (row, start), (row, end), token.string.replace(text, translations[text])


def changed(source, changes):
    """The code with changes: (start, end, what comes there instead). A place is the line, from 1, and the column in
    bytes, as ast counts them."""
    code = source.encode()
    line_starts = list(accumulate(map(len, code.splitlines(keepends=True)), initial=0))
    for (line, column), (end_line, end_column), text in sorted(changes, reverse=True):  # what is before keeps its place
        start, end = line_starts[line - 1] + column, line_starts[end_line - 1] + end_column
        code = code[:start] + text.encode() + code[end:]
    return code.decode()
