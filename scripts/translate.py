"""Build the Chinese edition of the notebook, without executing it: python scripts/translate.py [--check]

`translations/zh.json` holds the Chinese texts only; the code comes from the English notebook.

    markdown  {cell id: a hash of the English text, and the paragraphs of the Chinese one}
    printed   {cell id: {text in the cell's code: its translation, or null if it stays English}}
    drawn     the same for texts in figures
    labels    {text that the functions of tutorial/figures.py draw: its translation}

With --check nothing is built: what is stale, missing or left over is listed by cell.
"""

import ast
import hashlib
import json
import re
import sys
from collections import Counter
from pathlib import Path
from unicodedata import east_asian_width

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nbformat
from matplotlib import get_cachedir

from tutorial import NOTEBOOK, ROOT
from tutorial.figures import cjk_fonts

TRANSLATION = ROOT / "translations/zh.json"
BUILT = ROOT / "build" / f"{NOTEBOOK.stem}.zh.ipynb"
FROM_BUILD = """\
import os

if os.path.exists("../translations/zh.json"):  # from build/ to the project's folder
    os.chdir("..")

"""
WITH_LABELS = '\nfigures.read_labels("translations/zh.json")'
FENCE = re.compile(r"^```\w*\n.*?^```$", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"(\{\{|\}\}|\{[^{}]+\})")  # or a doubled brace
LINK = re.compile(r"\]\(([^)\s]+)\)")


def build(notebook, translation, drawn=True):
    """The notebook in Chinese, without outputs; figures stay English unless `drawn`."""
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = chinese_text(cell, translation)
        else:
            table = translation["printed"].get(cell.id, {}) | (translation["drawn"].get(cell.id, {}) if drawn else {})
            cell.source = translated_code(cell.source, table)
            cell.update(outputs=[], execution_count=None)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = FROM_BUILD + first.source
    if drawn:
        setting_up = next(cell for cell in notebook.cells if "figures.set_up_figures()" in cell.source)
        setting_up.source += WITH_LABELS
    notebook.metadata["title"] = notebook.cells[0].source.splitlines()[0].lstrip("# ")  # the web page's
    return notebook


# --- Markdown cells ---


def english_hash(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def chinese_text(cell, translation):
    """The Chinese of a markdown cell. A line that is ``` alone stands for the English cell's next block of code."""
    blocks = iter(FENCE.findall(cell.source))
    chinese = "\n".join(translation["markdown"][cell.id]["chinese"])
    return re.sub(r"^```$", lambda line: next(blocks, line[0]), chinese, flags=re.MULTILINE)


def numbers(text):
    """The numbers in a text outside links, with their counts. Millions are left out: Chinese writes them in
    characters."""
    return Counter(re.findall(r"\d++(?:[.,]\d++)*+(?! million)", LINK.sub("", text)))


# --- Texts in code cells ---


class Texts(ast.NodeVisitor):
    """The strings in a cell's code that may be texts for the reader: {node: template}. A template is the inside of an
    f-string. Docstrings, error messages and keys in brackets are left out."""

    def __init__(self, source):
        self.found = {}
        self.visit(ast.parse(source))

    def visit_Expr(self, node):
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Raise(self, node):
        pass

    def visit_Subscript(self, node):
        self.visit(node.value)
        if not isinstance(node.slice, ast.Constant):
            self.visit(node.slice)

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.found[node] = template(node)

    def visit_JoinedStr(self, node):
        self.found[node] = template(node)


def template(node):
    if isinstance(node, ast.Constant):
        return node.value.replace("{", "{{").replace("}", "}}")
    if isinstance(node, ast.FormattedValue):
        conversion = f"!{chr(node.conversion)}" if node.conversion > 0 else ""
        spec = f":{template(node.format_spec)}" if node.format_spec else ""
        return f"{{{ast.unparse(node.value)}{conversion}{spec}}}"
    return "".join(map(template, node.values))


def words(text):
    """A template without its fields."""
    return "".join(FIELD.split(text)[::2])


def fields(text):
    """The expressions in a template, sorted, without their formats, which may differ: a Chinese character is two
    columns wide."""
    return sorted(ast.unparse(ast.parse(f'f"""{field}"""', mode="eval").body.values[0].value)
                  for field in FIELD.split(text)[1::2] if field not in ("{{", "}}"))


def literal(text, column=0, longest=10**6):
    """A template as a Python string that starts at `column`, broken into lines of at most `longest` columns."""
    lines, width = [""], 0
    for number, part in enumerate(FIELD.split(text)):
        for unit in [part] if number % 2 else re.findall("[!-~]+|.", part, re.DOTALL):  # never broken inside
            size = len(unit) + sum(east_asian_width(character) in "FW" for character in unit)
            if width + size > longest - column - 4:
                lines.append("")
                width = 0
            lines[-1] += unit if number % 2 else json.dumps(unit, ensure_ascii=False)[1:-1]
            width += size
    return ("\n" + " " * column).join(f'{"f" if FIELD.search(line) else ""}"{line}"' for line in lines)


def translated_code(source, table):
    """The code of a cell with the texts in `table` replaced. A text of several lines is broken into lines again."""
    code, line_starts = source.encode(), [0]  # ast counts columns in bytes
    for line in code.splitlines(keepends=True):
        line_starts.append(line_starts[-1] + len(line))
    places = [(line_starts[node.lineno - 1] + node.col_offset, line_starts[node.end_lineno - 1] + node.end_col_offset,
               literal(table[text], node.col_offset, 88 if node.lineno < node.end_lineno else 10**6))
              for node, text in Texts(source).found.items() if table.get(text)]
    for start, end, chinese in sorted(places, reverse=True):
        code = code[:start] + chinese.encode() + code[end:]
    return code.decode()


# --- Checks ---


def problems(notebook, translation):
    """What is stale, missing or left over in the translation, in sentences that begin with the cell's id."""
    ids = {cell.id: cell for cell in notebook.cells}
    for part in ("markdown", "printed", "drawn"):
        yield from (f"{name}: the notebook has no such cell, but {part} has it" for name in translation[part]
                    if name not in ids)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from (f"{cell.id}: {problem}" for problem in problems_of_code(cell, translation))
        elif cell.id not in translation["markdown"]:
            yield f"{cell.id}: not translated (the hash of the English is {english_hash(cell.source)})"
        else:
            yield from (f"{cell.id}: {problem}" for problem in problems_of_text(cell, translation))
    if not any(cell.id not in translation["markdown"] for cell in notebook.cells if cell.cell_type == "markdown"):
        yield from broken_links(build(notebook, translation))


def problems_of_text(cell, translation):
    entry = translation["markdown"][cell.id]
    if entry["english"] != english_hash(cell.source):
        yield (f"the English has changed since it was translated; once the Chinese says the same, its hash is "
               f"{english_hash(cell.source)}")
    if entry["chinese"].count("```") != len(FENCE.findall(cell.source)):
        yield f"the English has {len(FENCE.findall(cell.source))} blocks of code: the Chinese needs a line ``` for each"
    chinese = chinese_text(cell, translation)
    if added := numbers(chinese) - numbers(cell.source):
        yield f"numbers that the English doesn't have: {', '.join(added)}"
    if dropped := numbers(cell.source) - numbers(chinese):
        yield f"numbers of the English that are missing: {', '.join(dropped)}"


def problems_of_code(cell, translation):
    tables = [translation[part].get(cell.id, {}) for part in ("printed", "drawn")]
    found = set(Texts(cell.source).found.values())
    for english, chinese in (pair for table in tables for pair in table.items()):
        if english not in found:
            yield f"there is no text {english!r} any more"
        elif chinese and fields(english) != fields(chinese):
            yield f"other fields in {chinese!r} than in {english!r}"
        elif chinese and numbers(words(english)) != numbers(words(chinese)):
            yield f"other numbers in {chinese!r} than in {english!r}"
    for english in sorted(found):
        is_prose = re.search(r"[a-z]{2,} [a-z]{2,}", words(english)) and "\nimport " not in english
        if is_prose and not any(english in table for table in tables):
            yield f"not translated, nor null to keep the English: {english!r}"


def broken_links(built):
    """The built notebook's links to headings and files that don't exist."""
    text = {cell.id: FENCE.sub("", cell.source) for cell in built.cells if cell.cell_type == "markdown"}
    headings = {heading.replace(" ", "-") for source in text.values()
                for heading in re.findall(r"^#+ (.+)$", source, flags=re.MULTILINE)}
    for name, source in text.items():
        for link in LINK.findall(source):
            works = (link[1:] in headings if link.startswith("#") else
                     link.startswith("https://") or (ROOT / link).exists())
            if not works:
                yield f"{name}: the link {link} leads nowhere"


def main():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    translation = json.loads(TRANSLATION.read_text(encoding="utf-8"))
    found = list(problems(notebook, translation))
    print("\n".join(found) or "The Chinese edition is up to date.")
    if "--check" in sys.argv[1:]:
        sys.exit(bool(found))
    drawn = bool(cjk_fonts())
    if not drawn:
        print("No font for Chinese, so figures stay English. apt-get install fonts-noto-cjk brings one, on Fedora dnf "
              "install google-noto-sans-cjk-fonts; then delete matplotlib's font cache: rm "
              f"{get_cachedir()}/fontlist-*.json")
    BUILT.parent.mkdir(exist_ok=True)
    nbformat.write(build(notebook, translation, drawn), BUILT)


if __name__ == "__main__":
    main()
