"""Update the Chinese edition from the English notebook:

    python scripts/translate.py [--check]

`translations/zh.po`, a gettext file that Poedit and Weblate edit, has a message for each text that a reader sees. The
message's context says where the text is:

    <cell>          a paragraph of a Markdown cell; blocks of code aren't messages
    <cell>: code    what a code cell prints or draws, as the inside of an f-string, and its comments that are prose
    modules         what the project's modules say (`engine/texts.py`)

New texts get an empty message. When a text has changed, its old translation is kept and marked fuzzy, with the old
English beside it; when it has vanished, its message becomes obsolete. To keep a text in English, repeat it as its
translation. Where a translation is missing or fuzzy, the edition has the English text.

The edition is a notebook beside that file, without outputs until it is executed. One that is up to date keeps its
outputs; one that a reader has edited is left alone. The script prints what is missing, fuzzy or wrong. With --check
nothing is written.
"""

import ast
import difflib
import hashlib
import io
import json
import re
import sys
import tokenize
from collections import Counter
from pathlib import Path
from unicodedata import east_asian_width

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nbformat
import polib

from engine.texts import CONTEXT
from tutorial import NOTEBOOK, ROOT
from tutorial.figure_style import cjk_fonts

TRANSLATION = ROOT / "translations/zh.po"
BUILT = TRANSLATION.with_name(f"{NOTEBOOK.stem}.zh.ipynb")
SET_UP, SET_UP_CHINESE = "figures.set_up_figures()", 'figures.set_up_figures("translations/zh.po")'
SHOWN = {"print", "Markdown", "markdown_table", "answers", "show", "tqdm", "append"}  # calls whose texts a reader sees
BETWEEN = re.compile(r"(^```\w*\n.*?^```$|\n(?:>?\n)+)", re.MULTILINE | re.DOTALL)  # paragraphs: code, or blank lines
FIELD = re.compile(r"(\{\{|\}\}|\{[^{}]*\})")  # or a doubled brace
LINK = re.compile(r"\]\(([^)\s]+)\)")
TO_FILE = re.compile(r"\]\((?!#|https://)")
WORD, PROSE = r"[A-Za-z]{2}", r"[A-Za-z]{2} [a-z]{2}|[a-z]{4}"


# --- What there is to translate ---


def messages(notebook):
    """All texts of a notebook and of the modules that a reader sees, in order: {(context, text): None}."""
    found = {}
    for cell in notebook.cells:
        found |= dict.fromkeys((context, text) for context, text in texts_of(cell) if text)
    return found | dict.fromkeys((CONTEXT, text) for text in texts_of_modules())


def texts_of(cell):
    """The texts of one cell: pairs of a context and a text."""
    code = f"{cell.id}: code"
    if cell.cell_type == "code":
        yield from ((code, text) for text in Texts(cell.source).found.values())
        yield from ((code, comment) for _, comment in comments(cell.source))
        return
    for number, part in enumerate(BETWEEN.split(cell.source)):
        if number % 2 == 0 and is_text(part):
            yield cell.id, part.strip("\n")
        yield from ((code, comment) for _, comment in comments(python_in(part)))


def is_text(paragraph):
    """Whether a paragraph has words outside HTML's tags."""
    return re.search(WORD, re.sub(r"<[^>]*>", "", paragraph))


def python_in(block):
    """The code in a block of Python, "" for anything else."""
    return block.removeprefix("```python\n").removesuffix("```") if block.startswith("```python\n") else ""


def texts_of_modules():
    """The literal texts in calls of `translate`, `marked` and `label`."""
    files = sorted(path for folder in ("engine", "tutorial", "miniature") for path in (ROOT / folder).rglob("*.py"))
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        is_call = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("translate", "marked", "label")
        if is_call and isinstance(node.args[0], ast.Constant):
            yield node.args[0].value


def update(po, wanted):
    """Bring the messages of a .po file up to date: those that are `wanted`, in this order, then the obsolete ones."""
    old = {(entry.msgctxt, entry.msgid): entry for entry in po}
    left = {key: entry for key, entry in old.items() if key not in wanted}
    entries = []
    for context, text in wanted:
        if entry := old.get((context, text)):
            entry.obsolete = False
        else:
            entry = polib.POEntry(msgctxt=context, msgid=text)
            candidates = [key for key, entry in left.items() if key[0] == context and entry.msgstr]
            near = max(candidates, key=lambda key: similarity(text, key[1]), default=None)
            if near and similarity(text, near[1]) >= 0.5:
                was = left.pop(near)
                entry.msgstr, entry.flags = was.msgstr, ["fuzzy"]
                entry.previous_msgid = was.previous_msgid or was.msgid
        entries.append(entry)
    for entry in left.values():
        entry.obsolete = True
    po[:] = entries + [entry for entry in left.values() if entry.msgstr]


def similarity(one, other):
    """How similar two texts are, word by word: 0 to 1."""
    return difflib.SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()


# --- Texts in code cells ---


class Texts(ast.NodeVisitor):
    """The strings in a cell's code that a reader sees, in `found`: {node: template}, where a template is the inside of
    an f-string. `drawn` has the nodes of those that are in a figure. Keys aren't texts: strings in brackets, in what a
    comprehension iterates over, and those that the columns of `answers` show, {heading: key}."""

    def __init__(self, source):
        self.found, self.drawn, self.calls = {}, set(), []
        self.visit(ast.parse(source))

    def visit_Call(self, node):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name not in ("live", "caption"):  # data for the page, and the name of a caption
            self.calls.append(name)
            self.generic_visit(node)
            self.calls.pop()

    def visit_Subscript(self, node):
        self.visit(node.value)
        if not isinstance(node.slice, ast.Constant):
            self.visit(node.slice)

    def visit_Dict(self, node):
        for part in node.keys if self.calls[-1:] == ["answers"] else ast.iter_child_nodes(node):
            self.visit(part)

    def visit_comprehension(self, node):
        pass

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.note(node)

    def visit_JoinedStr(self, node):
        self.note(node)

    def note(self, node):
        """Take a string that is an argument of a call in SHOWN, or of one that draws, if it has words."""
        drawn = any(name.startswith(("draw_", "plot_")) for name in self.calls)
        if (drawn or not SHOWN.isdisjoint(self.calls)) and re.search(WORD, words(template(node))):
            self.found[node] = template(node)
            if drawn:
                self.drawn.add(node)


def template(node):
    """The inside of the f-string that has a node's text: a constant, a field, or an f-string."""
    if isinstance(node, ast.Constant):
        return node.value.replace("{", "{{").replace("}", "}}")
    if isinstance(node, ast.FormattedValue):
        conversion = f"!{chr(node.conversion)}" if node.conversion > 0 else ""
        spec = f":{template(node.format_spec)}" if node.format_spec else ""
        return f"{{{ast.unparse(node.value)}{conversion}{spec}}}"
    return "".join(map(template, node.values))


def comments(source):
    """The comments in Python code that are prose, without "# ": [(token, text), ...]."""
    return [(token, token.string.lstrip("# ")) for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT and re.search(PROSE, token.string)]


def words(text):
    """A template without its fields."""
    return "".join(FIELD.split(text)[::2])


def fields(text):
    """The expressions in a template, sorted, without their formats, which may differ: a Chinese character is two
    columns wide. A word in a variable is translated by `tables.translate`."""
    found = [field[1:-1] for field in FIELD.split(text)[1::2] if field not in ("{{", "}}")]
    return sorted(re.sub(r"^tables\.translate\((\w+)\)$", r"\1", re.sub(r"(![rs])?(:[^'\"\[\]()]*)?$", "", field))
                  for field in found)


def literal(text, column=0, longest=10**6):
    """A template as a Python string that starts at `column`, broken into lines of at most `longest` columns."""
    lines, width = [""], 0
    for number, part in enumerate(FIELD.split(text)):
        units = [part] if number % 2 else re.findall("(?:[!-~]+|.)[，。；：、！？）”》]*", part, re.DOTALL)
        for unit in units:  # never broken inside
            size = len(unit) + sum(east_asian_width(character) in "FW" for character in unit)
            if width + size > longest - column - 4:
                lines.append("")
                width = 0
            lines[-1] += unit if number % 2 else json.dumps(unit, ensure_ascii=False)[1:-1]
            width += size
    return ("\n" + " " * column).join(f'{"f" if FIELD.search(line) else ""}"{line}"' for line in lines)


# --- The edition ---


def build(notebook, po, drawn=True):
    """The notebook in Chinese, without outputs; texts that code cells draw stay English unless `drawn`. Its links are
    those of a file in a folder of the project."""
    notebook = nbformat.from_dict(notebook)
    chinese = {(entry.msgctxt, entry.msgid): entry.msgstr for entry in po if entry.translated()}
    for cell in notebook.cells:
        code = {text: translation for (context, text), translation in chinese.items() if context == f"{cell.id}: code"}
        if cell.cell_type == "code":
            cell.source = translated_code(cell.source, code, drawn)
            cell.update(outputs=[], execution_count=None)
        else:
            parts = BETWEEN.split(cell.source)
            for number, part in enumerate(parts):
                if number % 2 == 0 and part:
                    text = part.strip("\n")
                    translated = part.replace(text, chinese.get((cell.id, text), text)) if text else part
                    parts[number] = TO_FILE.sub("](../", translated)
                elif python := python_in(part):
                    parts[number] = part.replace(python, translated_code(python, code, texts=False))
            cell.source = "".join(parts)
    [set_up] = [cell for cell in notebook.cells if SET_UP in cell.source]
    set_up.source = set_up.source.replace(SET_UP, SET_UP_CHINESE)
    notebook.metadata["title"] = notebook.cells[0].source.splitlines()[0].lstrip("# ")  # the web page's
    return notebook


def translated_code(source, table, drawn=True, texts=True):
    """The code with the texts and comments in `table` replaced. A text of several lines is broken into lines again."""
    code, line_starts = source.encode(), [0]  # ast counts columns in bytes
    lines = source.splitlines(keepends=True)
    for line in lines:
        line_starts.append(line_starts[-1] + len(line.encode()))
    places = []
    found = Texts(source) if texts else None
    for node, text in found.found.items() if texts else ():
        if table.get(text) and (drawn or node not in found.drawn):
            longest = 88 if node.lineno < node.end_lineno else 10**6
            places.append((line_starts[node.lineno - 1] + node.col_offset,
                           line_starts[node.end_lineno - 1] + node.end_col_offset,
                           literal(table[text], node.col_offset, longest)))
    for token, text in comments(source):
        if table.get(text):
            row, column = token.start
            start = line_starts[row - 1] + len(lines[row - 1][:column].encode())
            places.append((start, start + len(token.string.encode()), token.string.replace(text, table[text])))
    for start, end, chinese in sorted(places, reverse=True):
        code = code[:start] + chinese.encode() + code[end:]
    return code.decode()


# --- Checks ---


def problems(notebook, po):
    """What is missing, fuzzy or wrong in a translation that was brought up to date, in sentences that begin with the
    context."""
    for entry in po:
        start = " ".join(entry.msgid.split())
        start = start if len(start) <= 60 else start[:59] + "…"
        if entry.obsolete:
            continue
        if not entry.msgstr:
            yield f"{entry.msgctxt}: not translated: {start!r}"
        elif entry.fuzzy:
            yield f"{entry.msgctxt}: fuzzy, the English has changed: {start!r}"
        else:
            yield from (f"{entry.msgctxt}: {problem}: {start!r}" for problem in problems_of(entry))
    yield from broken_links(build(notebook, po))


def problems_of(entry):
    """What is wrong with one translation, in words."""
    english, chinese = entry.msgid, entry.msgstr
    is_markdown = not entry.msgctxt.endswith(": code")
    if not is_markdown or entry.msgctxt == CONTEXT:
        if fields(english) != fields(chinese):
            yield f"other fields: {', '.join(fields(chinese))}"
        english, chinese = words(english), words(chinese)
    if added := numbers(chinese) - numbers(english):
        yield f"numbers that the English doesn't have: {', '.join(added)}"
    if dropped := numbers(english) - numbers(chinese):
        yield f"numbers of the English that are missing: {', '.join(dropped)}"
    if is_markdown:
        links = [Counter(link for link in LINK.findall(text) if link[0] != "#") for text in (english, chinese)]
        if links[0] != links[1]:
            yield f"other links: {', '.join((links[0] - links[1]) + (links[1] - links[0]))}"
        code = [set(re.findall("`[^`]+`", text)) for text in (english, chinese)]
        if code[0] - code[1]:
            yield f"code of the English that is missing: {', '.join(sorted(code[0] - code[1]))}"
    if english.startswith("#") and not chinese.startswith(re.match("#+ ?", english)[0]):
        yield "no heading of the same level"
    if english.startswith(">") and not chinese.startswith(">"):
        yield "no box"
    if english.count("\n|") != chinese.count("\n|"):
        yield "another number of rows"


def numbers(text):
    """The numbers in a text outside links and titles in book marks, with their counts. Millions are left out: Chinese
    writes them in characters."""
    return Counter(re.findall(r"\d++(?:[.,]\d++)*+(?! million)", re.sub("《[^》]*》", "", LINK.sub("", text))))


def broken_links(built):
    """The built notebook's links to headings and files that don't exist."""
    text = {cell.id: "\n".join(BETWEEN.split(cell.source)[::2]) for cell in built.cells if cell.cell_type == "markdown"}
    headings = {heading.replace(" ", "-") for source in text.values()
                for heading in re.findall(r"^#+ (.+)$", source, flags=re.MULTILINE)}
    for name, source in text.items():
        for link in LINK.findall(source):
            works = (link[1:] in headings if link.startswith("#") else
                     link.startswith("https://") or (BUILT.parent / link).exists())
            if not works:
                yield f"{name}: the link {link} leads nowhere"


# --- Writing ---


def write(built, path):
    """Write a built notebook, unless it is there with the same cells. Raises SystemExit if a reader has edited it."""
    built.metadata["built"] = source_hash(built)
    if path.exists():
        there = nbformat.read(path, as_version=4)
        if there.metadata.get("built") != source_hash(there):
            sys.exit(f"{path} was edited since it was built: move it, or delete it to have it built anew")
        if source_hash(there) == source_hash(built):
            return
    nbformat.write(built, path)


def source_hash(notebook):
    """A hash of the sources of a notebook's cells, without outputs."""
    sources = [cell.source for cell in notebook.cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def main():
    notebook, po = nbformat.read(NOTEBOOK, as_version=4), polib.pofile(str(TRANSLATION), wrapwidth=100)
    update(po, messages(notebook))
    found = list(problems(notebook, po))
    print("\n".join(found) or "The Chinese edition is up to date.")
    if "--check" in sys.argv[1:]:
        sys.exit(bool(found))
    po.save()
    if not (drawn := bool(cjk_fonts())):
        print("No font for Chinese, so figures stay English. apt-get install fonts-noto-cjk brings one, on Fedora dnf "
              "install google-noto-sans-cjk-fonts.")
    write(build(notebook, po, drawn), BUILT)


if __name__ == "__main__":
    main()
