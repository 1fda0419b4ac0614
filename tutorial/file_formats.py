"""From the bytes of a data file to its records, whatever text format it has: JSON, JSON Lines or CSV.

The content decides how a file is read, not its name: a JSON list, a JSON object that holds one list, JSON Lines, or CSV
with a header, all in UTF-8. A record is what stands for one entry in the file; `entries` makes entries of records. For
another format, add a function such as `read_csv` and call it in `read_records`.
"""

import json
import re
from collections import Counter, defaultdict
from typing import NamedTuple

from engine.texts import marked
from tutorial.entries import FORMATS, BadEntry, format_of

OTHER_FILES = {  # the first bytes of files that can't be read: what they are
    b"version https://git-lfs": "a Git LFS pointer, which only says where the file is: run git lfs pull",
    b"<!doctype html": "a web page", b"<html": "a web page", b"<?xml": "XML", b"%PDF": "a PDF",
    b"{\\rtf": "an RTF document", b"\x1f\x8b": "a gzip archive: unpack it", b"BZh": "a bzip2 archive: unpack it",
    b"\xfd7zXZ": "an xz archive: unpack it", b"\x28\xb5\x2f\xfd": "a Zstandard archive: unpack it",
    b"PAR1": "a Parquet file", b"ARROW1": "an Arrow file", b"\xff\xff\xff\xff": "an Arrow file",
    b"SQLite format 3": "an SQLite database", b"\x80": "a Python pickle",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (or Word document): save it as CSV UTF-8",
    b"\xff\xfe\0\0": "text in UTF-32", b"\xff\xfe": "text in UTF-16", b"\xfe\xff": "text in UTF-16",
}
ZIP_FILES = {  # bytes that a zip archive contains: what it is
    b"word/document": "a Word document", b"opendocument.spreadsheet": "a spreadsheet: save it as CSV UTF-8",
    b"xl/workbook": "an Excel workbook: save it as CSV UTF-8",
    b"[Content_Types].xml": "an Excel workbook: save it as CSV UTF-8", b"": "a zip archive: unpack it",
}


class OtherFile(ValueError):
    """What a file looks like that can't be read."""


def read_records(content):
    """The objects in a file's bytes, and the kind of the file: (list, text). A BadEntry stands in the place of an
    object that is damaged. Raises OtherFile."""
    text = decode(content)
    data, error = parse(text)
    if isinstance(data, (list, dict)):
        found = from_json(data)
    else:
        found = read_json_lines(text)
        if not found and text.lstrip()[:1] in ("[", "{"):
            raise OtherFile(f"damaged JSON ({error})")
        found = found or read_csv(text)
    if not found:
        raise OtherFile("some other text" if text.strip() else "an empty file")
    records, kind = found
    if not records:
        raise OtherFile(f"{kind.split()[0]} without entries")
    return records, kind


def decode(content):
    """The text in a file's bytes. Raises OtherFile for something else than text in UTF-8."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    beginning = content.lstrip()[:64].lower()
    for magic, what in OTHER_FILES.items():
        if beginning.startswith(magic.lower()):
            raise OtherFile(what)
    if beginning.startswith(b"pk\x03\x04"):
        raise OtherFile(next(what for part, what in ZIP_FILES.items() if part in content))
    if b"\0" in content:
        for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
            if re.search("[A-Za-z]{5}", content[:4096].decode(encoding, "replace")):  # a key
                raise OtherFile(f"text in {encoding[:6].upper()}")
        raise OtherFile("binary data")
    try:
        return re.sub("^\ufeff+", "", content.decode(), flags=re.MULTILINE)  # marks of files that were put together
    except UnicodeDecodeError as error:
        line = 1 + count_line_ends(content[:error.start].decode())
        raise OtherFile(f"binary data, or text that isn't in UTF-8 (line {line})") from error


def count_line_ends(text):
    """How many line ends a text has, of any system."""
    return len(re.findall(r"\r\n?|\n", text))


def parse(text):
    """The value of a JSON text, and None; or None, and a text that says where and why it isn't JSON."""
    try:
        return json.loads(text), None
    except (ValueError, RecursionError) as error:
        return None, str(error)


def from_json(data):
    """The records and the kind of a JSON list, of an object that holds one list, or of a single entry. Raises
    OtherFile."""
    if isinstance(data, list):
        return data, marked("JSON list")
    data = {key: value for key, value in data.items() if value is not None}
    if format_of(data) and not is_by_columns(data):
        return [data], marked("JSON Lines")
    lists = {} if is_by_columns(data) else lists_of_objects(data)
    if len(lists) > 1:
        raise OtherFile(f"JSON with several lists ({shorten(', '.join(lists), 150)}): save the one you want")
    if lists:
        return *lists.values(), marked("JSON object with one list")
    objects = [data, *(value for value in data.values() if isinstance(value, dict))]
    if any(map(is_by_columns, objects)) or data.keys() >= {"columns", "data"}:
        raise OtherFile("JSON by columns: save it as a list of entries (pandas: orient='records')")
    if any(map(format_of, objects)):
        raise OtherFile("JSON by index: save it as a list of entries (pandas: orient='records')")
    return [data], marked("JSON Lines")


def is_by_columns(data):
    """Whether a JSON object has all instructions under one key, as pandas writes a table."""
    columns = [data[key] for key in FORMATS.get(format_of(data), ())]
    return bool(columns) and all(
        isinstance(column, dict) or isinstance(column, list) and column
        and not any(isinstance(item, dict) for item in column) for column in columns)


def lists_of_objects(data):
    """The lists of objects in a JSON object and in objects within it, {keys that lead there: list}; the empty lists if
    there are no others."""
    lists, values = {}, [((key,), value) for key, value in data.items()]
    for path, value in values:  # grows while it is read
        if isinstance(value, list) and (not value or any(isinstance(item, dict) for item in value)):
            lists[".".join(map(printable, path))] = value
        elif isinstance(value, dict) and len(path) < 4:
            values += [((*path, key), inner) for key, inner in value.items()]
    return {path: value for path, value in lists.items() if value} or lists


def read_json_lines(text):
    """The records of a text with a JSON object in each line, and the kind; None if no line has one, or if a JSON text
    of several lines begins in the first."""
    lines = {number: line.strip() for number, line in enumerate(re.split(r"\r\n?|\n", text), 1) if line.strip()}
    first = next(iter(lines.values()), "")
    if first.endswith(("[", "{")) or first.startswith("[") and parse(first)[1] or not any(
            parse(line.rstrip(","))[0] for line in lines.values() if line.startswith("{")):
        return None
    records, damaged = [], {}
    for number, line in lines.items():
        value, error = parse(line)
        if error:
            comma = line.endswith(",") and not parse(line[:-1])[1]
            damaged[len(records)] = "that end with a comma" if comma else "that aren't JSON", number
        records.append(value)
    return with_damaged(records, damaged), "JSON Lines"


def with_damaged(records, damaged):
    """The records, with a BadEntry in each place of `damaged`, {index: (what is wrong, number of the line)}."""
    lines = defaultdict(list)
    for reason, line in damaged.values():
        lines[reason].append(line)
    faults = {reason: BadEntry(f"{reason}, line{'s' * (len(numbers) > 1)} {first_ten(numbers)}")
              for reason, numbers in lines.items()}
    return [faults[damaged[index][0]] if index in damaged else record for index, record in enumerate(records)]


class Row(NamedTuple):
    """A row of a CSV file."""

    fields: list
    source: str               # its text in the file
    line: int                 # the number of its first line, from 1
    stray_quote: int | None   # the number of a line with a quote in a wrong place


NO_ROW = Row([], "", 0, None)


def read_csv(text):
    """The records of a table with a header, and the kind; None for another text. Fields are separated by commas,
    semicolons or tabs, or by what Excel's first line `sep=` says. Raises OtherFile for a quote in a wrong place."""
    separator = re.match(r'\s*"?sep=([^\w\s"]|\t)"?', text, re.IGNORECASE)
    start, other = separator.end() if separator else 0, None
    for delimiter in separator[1] if separator else ",;\t":
        rows = read_rows(text, start, delimiter)
        header, first = (next(rows, NO_ROW).fields for _ in range(2))
        keys = [key.strip().lower() for key in header]
        if format_of(dict.fromkeys(keys)):
            return read_table(text, start, delimiter, keys)
        if len(keys) > 1 and len(first) == len(keys):
            other = [dict(zip(keys, first))], "CSV"
    return other


def read_table(text, start, delimiter, keys):
    """The records of a table with these keys, and the kind. Raises OtherFile for a quote in a wrong place, and for
    several columns of one name."""
    header, *rows = read_rows(text, start, delimiter)
    kind = marked("CSV")
    if several := [printable(key) for key, n in Counter(filter(None, keys)).items() if n > 1]:
        raise OtherFile(f"CSV with several columns {shorten(', '.join(several), 150)}: keep the one you want")
    # Between tabs, quotes are often meant literally. They aren't where the header has them or where they are doubled.
    if delimiter == "\t" and '"' not in header.source and not any('""' in row.source for row in rows) and any(
            row.stray_quote or is_several_rows(row.source, delimiter, len(keys)) for row in rows):
        _, *literal = read_rows(text, start, delimiter, quotes=False)
        if all(len(row.fields) >= len(keys) for row in literal):
            rows, kind = literal, marked("CSV with literal quotes")
    records, damaged = [], {}
    for row in rows:
        if row.stray_quote:
            raise OtherFile(f"damaged CSV (the quote in line {row.stray_quote} isn't closed, or text follows its end)")
        if is_several_rows(row.source, delimiter, len(keys)):
            damaged[len(records)] = "that may be several rows with a quote missing", row.line
        if [field.strip().lower() for field in row.fields] == keys:
            damaged[len(records)] = "that repeat the header", row.line
        if any(map(str.strip, row.fields[len(keys):])):
            records.append(BadEntry("with more fields than the header"))
        else:
            records.append(dict.fromkeys(keys) | dict(zip(keys, row.fields)))
    return with_damaged(records, damaged), kind


def read_rows(text, start, delimiter, quotes=True):
    """The Rows of a table that aren't blank: a generator. Blanks may stand around a field in quotes. Without `quotes`,
    a quote is a character like any other."""
    mark = re.escape(delimiter)
    blanks = rf"[^\S{mark}\r\n]*+"
    quoted = rf'{blanks}"([^"]*+(?:""[^"]*+)*+)"{blanks}(?=[{mark}\r\n]|\Z)' if quotes else "((?!))"
    pattern = re.compile(rf"(?:{quoted}|([^{mark}\r\n]*))({mark}|\r\n?|\n|\Z)")
    fields, begin, line, stray = [], start, 1 + count_line_ends(text[:start]), None
    for field in pattern.finditer(text, start):
        inside, plain, end = field.groups()
        if quotes and inside is None and plain.lstrip().startswith('"'):
            stray = stray or line + count_line_ends(text[begin:field.start()])
        fields.append(plain if inside is None else inside.replace('""', '"'))
        if end != delimiter:
            if any(map(str.strip, fields)):
                yield Row(fields, text[begin:field.start(3)], line, stray)
            line += count_line_ends(text[begin:field.end()])
            fields, begin, stray = [], field.end(), None


def is_several_rows(source, delimiter, width):
    """Whether each line of a row could be a row of its own, with `width` fields: a quote may have swallowed rows."""
    lines = [line for line in re.split(r"\r\n?|\n", source) if line.strip()]
    mark = re.escape(delimiter)
    # A tab at the beginning of a line indents it; a comma before a blank or between digits is one of a text.
    between = r"(?<=.)\t" if delimiter == "\t" else rf"{mark}(?!\s)(?!(?<=\d{mark})\d)"
    return len(lines) > 1 < width and all(len(re.findall(between, line)) == width - 1 for line in lines)


# --- Texts for messages ---


def shorten(text, longest):
    """The text, cut to at most `longest` characters, with … where something is left out."""
    return text if len(text) <= longest else text[:longest - 1] + "…"


def printable(key):
    """A key for a message: as it is, or quoted if it is empty or has characters that can't be printed."""
    return key if key.isprintable() and key.strip() else repr(key)


def first_ten(numbers):
    """The first ten numbers of a list as a text."""
    return ", ".join(map(str, numbers[:10])) + ", …" * (len(numbers) > 10)
