"""Texts with fields as templates: a template is the inside of an f-string, such as `{n} entries`."""

import ast
import json
import math
import re
from unicodedata import east_asian_width

FIELD = re.compile(r"(\{\{|\}\}|\{[^{}]*\})")  # or a doubled brace
FORMAT = re.compile(r"(![rs])?(:[^'\"\[\]()]*)?$")  # at the end of a field
# A translation may also translate the word in a field, as `{tables.translate(name)}`: the notebook imports `tables`,
# which has that function from engine/texts.py.
TRANSLATED = re.compile(r"^tables\.translate\((\w+)\)$")


def template(node):
    """The template of a node of Python's syntax tree: a constant, a field, or an f-string."""
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
    columns wide. `{tables.translate(name)}` counts as `{name}`."""
    found = [field[1:-1] for field in FIELD.split(text)[1::2] if field not in ("{{", "}}")]
    return sorted(TRANSLATED.sub(r"\1", FORMAT.sub("", field)) for field in found)


def literal(text, column=0, longest=math.inf):
    """A template as a Python string that starts at `column`, broken into lines of at most `longest` columns."""
    available = longest - column - len('f"",')  # for the text of a line
    lines, width = [""], 0
    for number, part in enumerate(FIELD.split(text)):
        is_field = number % 2 == 1
        # a line is never broken inside a field or a word, nor before a mark of punctuation
        units = [part] if is_field else re.findall("(?:[!-~]+|.)[，。；：、！？）”》]*", part, re.DOTALL)
        for unit in units:
            size = len(unit) + sum(east_asian_width(character) in "FW" for character in unit)
            if width + size > available:
                lines.append("")
                width = 0
            lines[-1] += unit if is_field else json.dumps(unit, ensure_ascii=False)[1:-1]  # escapes quotes
            width += size
    return ("\n" + " " * column).join(f'{"f" if FIELD.search(line) else ""}"{line}"' for line in lines)
