"""An executed notebook as one page, with everything in it but the models."""

import base64
import hashlib
import json
import re
import struct
from copy import copy
from pathlib import Path
from typing import NamedTuple

from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from traitlets.config import Config

from tutorial.instructions import format_prompt
from tutorial.page.live import MIME

HERE = Path(__file__).parent
LANGUAGES = {"en": "index.html", "zh": "index.zh.html"}
SCRIPTS = ("tokenizer", "gpt2", "models", "widgets", "ask", "token", "training", "batch", "attention", "reading")
FOLDED = ("plot", "table", "check", "record", "colab", "imports", "device", "setup")  # tags of cells
CJK = "[\u3400-\u9fff]"

# How fast a section is read.
WORDS_PER_MINUTE, CHINESE_CHARACTERS_PER_MINUTE, CODE_LINES_PER_MINUTE = 220, 400, 30
MINUTES_PER_FIGURE = 0.3
CHINESE_CHARACTERS_PER_RUN = 20  # between blanks, on average: `split` counts such a run as one word


class Site(NamedTuple):
    """What all pages of a site share."""

    languages: list      # those that have a page, keys of LANGUAGES
    merges: str = ""     # the tokenizer's, in base64
    words: list = ()     # those that the miniature has read
    other: bool = False  # whether the run had another model than the miniature
    source: str = ".."   # the address of the files that the notebook links to
    address: str = ""    # the site's own, with / at its end


def read(name):
    """The text of a file in this folder."""
    return (HERE / name).read_text(encoding="utf-8")


def strings(language):
    """The page's own texts in a language: {key: text}."""
    return {key: texts[list(LANGUAGES).index(language)] for key, texts in json.loads(read("strings.json")).items()}


def as_json(value):
    """A value as JSON that can stand in an HTML script element."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def fingerprint(text):
    """The hash by which a Content-Security-Policy allows a script or a style."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


# --- For the template ---


def code_lines(source):
    """Python code as HTML, in lines."""
    return as_lines(highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)))


def as_lines(html):
    """The HTML of a text with each line in a span, and its indent in another. Code can be broken after an opening
    bracket."""
    html = re.sub(r'(?<=<span class="p">)[^<]+', lambda signs: re.sub(r"[(\[](?![)\]])", r"\g<0><wbr>", signs[0]), html)
    indented = (re.sub(r'^(<span class="\w+">)?( +)', r'\1<span class="in">\2</span>', line)
                for line in html.rstrip("\n").split("\n"))
    return "".join(f'<span class="l">{line}\n</span>' for line in indented)


def png_size(data):
    """Width and height of a PNG in base64."""
    return struct.unpack(">II", base64.b64decode(data[:32])[16:24])


def fold_of(cell):
    """The tag for which a cell is folded, or None."""
    return next((tag for tag in FOLDED if tag in cell.metadata.get("tags", ())), None)


def looks_like_a_table(text):
    """Whether a printed text has columns, as a training's log has, which would fall apart if its lines were wrapped."""
    return re.search(r"\S {3,}\S|^Ep \d+ \(Step", text, re.MULTILINE) is not None


def page(notebook, language, site):
    """A notebook as an HTML text. language: a key of LANGUAGES; site: the Site with this page."""
    texts = strings(language)
    entry = {"instruction": "{instruction}", "input": ""}
    style, script = read("page.css"), "".join(read(f"{name}.js") for name in SCRIPTS)
    data = {"strings": texts, "merges": site.merges, "words": " ".join(site.words), "other": site.other,
            "prompt": format_prompt(entry), "promptWithInput": format_prompt(entry | {"input": "{input}"})}
    resources = {"page": {
        "language": language, "texts": texts, "style": style, "script": script, "data": as_json(data),
        "policy": f"default-src 'none'; img-src data:; style-src {fingerprint(style)}; "
                  f"script-src 'self' {fingerprint(script)}; base-uri 'none'; form-action 'none'",
        "title": re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)[1], "address": site.address,
        "others": {name: (LANGUAGES[name], strings(name)["language"]) for name in site.languages if name != language}}}
    kinds = [MIME, "text/html", "text/markdown", "image/png", "text/plain"]  # of outputs, the best first
    exporter = HTMLExporter(template_name="page", extra_template_basedirs=[str(HERE / "templates")],
                            config=Config({"NbConvertBase": {"display_data_priority": kinds}}))
    for function in (as_json, code_lines, as_lines, png_size, fold_of, looks_like_a_table):
        exporter.register_filter(function.__name__, function)
    soup = BeautifulSoup(exporter.from_notebook_node(notebook, resources)[0], "html.parser")
    main = soup.main
    set_top(soup, main)
    set_captions(main)
    point_links_at(main, site.source)
    set_source(main)
    set_tables(soup, main)
    set_margin_notes(soup, main)
    set_glossary_notes(soup, main)
    set_contents(soup, main, texts)
    set_spacing(soup)
    return str(soup)


# --- What the template can't see: it knows one cell at a time ---


def set_top(soup, main):
    """Move the demonstration below the first paragraph, whence it leads to the other figures that can be touched; its
    picture stays where the notebook has it. Delete the notebook's own line of contents: the page has one beside the
    text."""
    main.h1.string = main.h1.get_text().rstrip("¶").replace("-", "\u2011")  # never break in "GPT-2"
    for figure in main.find_all("figure", {"data-figure": ["token", "training", "batch", "attention"]}):
        figure["id"] = f"try-{figure['data-figure']}"
    if ask := main.find("figure", {"data-figure": "ask"}):
        demonstration = soup.new_tag("figure", attrs={"data-figure": ask.attrs.pop("data-figure")})
        demonstration.append(ask.script.extract())
        main.p.insert_after(demonstration)
    for paragraph in main.find_all("p"):
        if is_contents(paragraph):
            paragraph.decompose()


def is_contents(paragraph):
    """Whether a paragraph is a list of contents: many links to headings, and no words between them."""
    between = "".join(paragraph.find_all(string=True, recursive=False))
    return len(paragraph.find_all("a", href=re.compile("^#"))) > 5 and not re.search(r"\w", between)


def set_captions(main):
    """Delete the captions that the notebook shows below its pictures. A caption is the output after a figure with the
    text of the picture's alternative text, of which the page makes its own caption."""
    for figure in main.find_all("figure"):
        after = figure.find_next_sibling()
        if figure.img and after and "result" in after.get("class", ()) and after.text.strip() == figure.img["alt"]:
            after.decompose()


def point_links_at(main, source):
    """Point links to the project's files at the address `source`. Such a link has no scheme and isn't to a heading."""
    for link in main.find_all("a", href=re.compile(r"^(?!\w+:|#)")):
        link["href"] = f"{source}/{link['href'].removeprefix('../')}"  # the Chinese edition is in a folder


def set_source(main):
    """Give code in Markdown the form that the template gives to a cell's. Comments move near to the code: those of the
    modules, whose lines are longer than a cell's, would have no room in their column."""
    for box in main.select(".highlight"):
        html = box.pre.decode_contents().replace("<span></span>", "", 1)
        lines = as_lines(re.sub(r'(?<=\S) {3,}(?=<span class="c1">)', "  ", html))
        box.pre.replace_with(BeautifulSoup(f"<pre><code>{lines}</code></pre>", "html.parser"))
        box["class"] = "code"


def set_tables(soup, main):
    """Let wide tables scroll by themselves, note which cells have more than a few words, and align columns by classes:
    the policy forbids style attributes."""
    for cell in main.find_all(style=re.compile("text-align")):
        cell["class"] = cell["style"].split(":")[1].strip(" ;")
        del cell["style"]
    for cell in main.find_all("td"):
        if len(cell.text.encode()) > 24:  # a Chinese character is three bytes, and two columns wide
            cell["class"] = f"{cell.get('class', '')} words".strip()
    for heading in main.find_all("th"):
        heading.name = "th" if heading.text else "td"  # an empty heading says nothing
    for table in main.find_all("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))


def set_margin_notes(soup, main):
    """Move quotations that begin with "In the article" to the margin, beside the paragraph before them, unless they
    have a list or code."""
    for note in main.find_all("blockquote"):
        if re.match(r"\s*(In the article|对照原文)", note.text) and not note.find(["ul", "ol", "pre"]):
            note.name, note["class"], note["role"] = "div", "margin", "note"
            before = note.find_previous_sibling()
            if before.name == "p":
                before.wrap(soup.new_tag("div", attrs={"class": "noted"})).insert(0, note)


def set_glossary_notes(soup, main):
    """Attach the glossary's meanings as notes to the first use of each term in every section. One Chinese character is
    a term only where it is alone; elsewhere it is part of a word."""
    meanings = glossary_meanings(main)
    if not meanings:
        return
    longest_first = "|".join(rf"(?<!{CJK}){name}(?!{CJK})" if re.fullmatch(CJK, name) else re.escape(name)
                             for name in sorted(meanings, key=len, reverse=True))
    # A term or its plural with -s. Latin letters may not touch it; around Chinese terms there are no blanks.
    names = re.compile(rf"(?<![A-Za-z])({longest_first})(?:s?(?![A-Za-z]))", re.IGNORECASE)
    seen, number = set(), 0
    for tag in main.find_all(["h2", "p", "li"]):
        if tag.name == "h2":
            seen.clear()
            continue
        for text in tag.find_all(string=names):
            match = next((m for m in names.finditer(text) if m[1].lower() not in seen), None)
            within = ["a", "code", "figure", "pre", "table", "blockquote", *(["li"] if tag.name == "p" else [])]
            if match is None or text.find_parent(within):
                continue
            seen.add(match[1].lower())
            number += 1
            term = term_with_note(soup, match[0], meanings[match[1].lower()], f"note-{number}")
            text.replace_with(text[:match.start()], term, text[match.end():])


def glossary_meanings(main):
    """The terms of the glossary, in lower case, and what they mean: {term: text}. The glossary is the table after the
    heading or bold text "Glossary"; the first column has terms and their other names, the last column meanings. Two
    terms in a row have a meaning each, or share one."""
    title = next((tag for tag in main.find_all(["h2", "h3", "strong"]) if tag.text in ("Glossary", "术语表")), None)
    rows = title.find_next("table").find_all("tr")[1:] if title else ()
    meanings = {}
    for term, *_, meaning in ([cell.text for cell in row.find_all("td")] for row in rows):
        names, parts = [name for name in re.split(r", |[、（）]", term) if name], re.split("; |；", meaning)
        meanings |= zip(map(str.lower, names), parts if len(parts) == len(names) else [meaning] * len(names))
    return meanings


def term_with_note(soup, name, meaning, identifier):
    """The element of a term with its note, which the page shows when the term has the focus or the pointer."""
    term = soup.new_tag("span", attrs={"class": "term", "tabindex": "0", "aria-describedby": identifier})
    note = soup.new_tag("span", attrs={"class": "note", "role": "tooltip", "id": identifier})
    note.string = meaning
    term.extend([name, note])
    return term


def minutes(elements):
    """How long it takes to read a section, in whole minutes, at least 1. Folded code and printed texts don't count."""
    time = 0.0
    for element in elements:
        if element.name == "figure":
            time += MINUTES_PER_FIGURE
        elif "code" in element.get("class", ()):
            time += element.text.count("\n") / CODE_LINES_PER_MINUTE
        elif element.name not in ("details", "pre"):
            chinese = len(re.findall(CJK, element.text))
            words = len(element.text.split()) - chinese / CHINESE_CHARACTERS_PER_RUN
            time += chinese / CHINESE_CHARACTERS_PER_MINUTE + words / WORDS_PER_MINUTE
    return max(1, round(time))


def set_contents(soup, main, texts):
    """Fill both lists of contents, with the minutes of each section but the exercises, which are there to be done."""
    for anchor in main.find_all("a", "anchor-link"):
        anchor.decompose()
    contents = soup.select(".contents ol")
    for heading in main.find_all("h2"):
        section = []
        for element in heading.find_next_siblings():
            if element.name == "h2":
                break
            section.append(element)
        time = "" if re.search("Exercises|练习", heading.text) else texts["minutes"].format(n=minutes(section))
        item, link, span = soup.new_tag("li"), soup.new_tag("a", href=f"#{heading['id']}"), soup.new_tag("span")
        link.string, span.string = heading.text, time
        item.extend([link, span])
        for place in contents:
            place.append(copy(item))


def set_spacing(soup):
    """Keep "GPT-2", options and numbers such as -100 and 5e-5 in one line, and leave out the spaces that Markdown wants
    between the end of an emphasis and Chinese punctuation."""
    whole = re.compile(r"((?<![A-Za-z])GPT-\d|(?<!\S)--?\w[\w-]*|[\d.]+e-\d+)")
    for text in soup.body.find_all(string=re.compile(rf"{whole.pattern}|^ +[，。；：、！？）]")):
        if text.find_parent(["pre", "script"]):
            continue
        parts = whole.split(re.sub(r"^ +(?=[，。；：、！？）])", "", text))
        for place in range(1, len(parts), 2):
            span = soup.new_tag("span", attrs={"class": "nb"})
            span.string = parts[place]
            parts[place] = span
        text.replace_with(*parts)
