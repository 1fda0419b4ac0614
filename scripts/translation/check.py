"""What is missing, fuzzy or wrong in a translation."""

import re
from collections import Counter

from engine.texts import CONTEXT
from scripts.translation import BUILT
from scripts.translation.build import build
from scripts.translation.extract import CODE
from scripts.translation.markdown import LINK, parts
from scripts.translation.templates import fields, words


def problems(notebook, po):
    """What is missing, fuzzy or wrong in a translation that was brought up to date, in sentences that begin with the
    context."""
    for entry in po:
        start = " ".join(entry.msgid.split())
        start = start if len(start) <= 60 else start[:59] + "…"
        if not entry.obsolete:
            yield from (f"{entry.msgctxt}: {problem}: {start!r}" for problem in problems_of(entry))
    yield from broken_links(build(notebook, po))


def problems_of(entry):
    """What is missing, fuzzy or wrong in one message, in words."""
    if not entry.msgstr:
        yield "not translated"
    elif entry.fuzzy:
        yield "fuzzy, the English has changed"
    else:
        yield from differences(entry)


def differences(entry):
    """Where a translation differs from the English although both must agree, in words."""
    english, chinese = entry.msgid, entry.msgstr
    is_code = entry.msgctxt.endswith(CODE)
    if is_code or entry.msgctxt == CONTEXT:
        if fields(english) != fields(chinese):
            yield f"other fields: {', '.join(fields(chinese))}"
        english, chinese = words(english), words(chinese)
    if added := numbers(chinese) - numbers(english):
        yield f"numbers that the English doesn't have: {', '.join(added)}"
    if dropped := numbers(english) - numbers(chinese):
        yield f"numbers of the English that are missing: {', '.join(dropped)}"
    if not is_code:  # Markdown, which the modules' texts may be as well
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
    """The numbers in a text outside links and titles in 《》, with their counts. Millions are left out: Chinese
    writes them in characters."""
    return Counter(re.findall(r"\d++(?:[.,]\d++)*+(?! million)", re.sub("《[^》]*》", "", LINK.sub("", text))))


def broken_links(built):
    """The built notebook's links to headings and files that don't exist, in sentences that begin with the cell."""
    prose = {cell.id: "\n".join(part for kind, part in parts(cell.source) if kind == "paragraph")
             for cell in built.cells if cell.cell_type == "markdown"}
    headings = {heading.replace(" ", "-") for text in prose.values()
                for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)}
    for cell_id, text in prose.items():
        for link in LINK.findall(text):
            works = (link[1:] in headings if link.startswith("#") else
                     link.startswith("https://") or (BUILT.parent / link).exists())
            if not works:
                yield f"{cell_id}: the link {link} leads nowhere"
