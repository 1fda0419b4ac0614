"""From the bytes of a data file to its records, whatever text format it has: JSON, JSON Lines or CSV.

The content decides how a file is read, not its name: a JSON list, a JSON object that holds one list, JSON Lines, or CSV
with a header (`csv_tables`), all in UTF-8. A record is what a file has for one entry; `entries` makes entries of
records. For another format, add a function such as `read_json_lines` and call it in `read_records`.
"""

import json
import re
from collections import deque

from engine.texts import marked
from tutorial.csv_tables import CSV, read_csv
from tutorial.entries import FORMATS, format_of
from tutorial.errors import UnreadableFileError, with_damaged
from tutorial.lines import LINE_END, count_line_ends
from tutorial.messages import printable, shorten

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
JSON_LINES = marked("JSON Lines")
MAX_DEPTH = 4  # the most keys that may lead to a list


def read_records(content):
    """The records in a file's bytes, and the kind of the file: (list, text). In the place of a damaged record is a
    BadEntryError. Raises UnreadableFileError."""
    text = decode(content)
    data, error = parse_json(text)
    if isinstance(data, (list, dict)):
        found, family = from_json(data), "JSON"
    else:
        found, family = read_json_lines(text), "JSON"
        if not found and text.lstrip()[:1] in ("[", "{"):
            raise UnreadableFileError(f"damaged JSON ({error})")
        if not found:
            found, family = read_csv(text), CSV
    if not found:
        raise UnreadableFileError("some other text" if text.strip() else "an empty file")
    records, kind = found
    if not records:
        raise UnreadableFileError(f"{family} without entries")
    return records, kind


def decode(content):
    """The text in a file's bytes. Raises UnreadableFileError for something else than text in UTF-8."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    beginning = content.lstrip()[:64].lower()
    for magic, what in OTHER_FILES.items():
        if beginning.startswith(magic.lower()):
            raise UnreadableFileError(what)
    if beginning.startswith(b"pk\x03\x04"):
        raise UnreadableFileError(next(what for part, what in ZIP_FILES.items() if part in content))
    if b"\0" in content:
        for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
            if re.search("[A-Za-z]{5}", content[:4096].decode(encoding, "replace")):  # a key
                raise UnreadableFileError(f"text in {encoding[:6].upper()}")
        raise UnreadableFileError("binary data")
    try:
        return re.sub("^\ufeff+", "", content.decode(), flags=re.MULTILINE)  # marks of files that were put together
    except UnicodeDecodeError as error:
        line = 1 + count_line_ends(content[:error.start].decode())
        raise UnreadableFileError(f"binary data, or text that isn't in UTF-8 (line {line})") from error


def parse_json(text):
    """The value of a JSON text, and None; or None, and a text that says where and why it isn't JSON."""
    try:
        return json.loads(text), None
    except (ValueError, RecursionError) as error:
        return None, str(error)


def from_json(data):
    """The records and the kind of a JSON list, of an object that holds one list, or of a single entry. Raises
    UnreadableFileError."""
    if isinstance(data, list):
        return data, marked("JSON list")
    data = {key: value for key, value in data.items() if value is not None}
    if format_of(data) and not is_by_columns(data):
        return [data], JSON_LINES  # a file with one line
    lists = {} if is_by_columns(data) else lists_of_objects(data)
    if len(lists) > 1:
        raise UnreadableFileError(f"JSON with several lists ({shorten(', '.join(lists), 150)}): save the one you want")
    if lists:
        return *lists.values(), marked("JSON object with one list")
    objects = [data, *(value for value in data.values() if isinstance(value, dict))]
    if any(map(is_by_columns, objects)) or data.keys() >= {"columns", "data"}:
        raise UnreadableFileError("JSON by columns: save it as a list of entries (pandas: orient='records')")
    if any(map(format_of, objects)):
        raise UnreadableFileError("JSON by index: save it as a list of entries (pandas: orient='records')")
    return [data], JSON_LINES  # an entry with unknown keys, so that an error can name them


def is_by_columns(data):
    """Whether a JSON object has all instructions under one key, as pandas writes a table."""
    columns = [data[key] for key in FORMATS.get(format_of(data), ())]
    return bool(columns) and all(map(is_column, columns))


def is_column(value):
    """Whether a value is a column of a table: {row: value}, or a list of values. A list of objects is a chat."""
    if isinstance(value, list):
        return bool(value) and not any(isinstance(item, dict) for item in value)
    return isinstance(value, dict)


def lists_of_objects(data):
    """The lists of objects in a JSON object and in objects within it, {keys that lead there: list}, outer ones first;
    the empty lists if there are no others."""
    lists, queue = {}, deque(((key,), value) for key, value in data.items())
    while queue:
        path, value = queue.popleft()
        if isinstance(value, list) and (not value or any(isinstance(item, dict) for item in value)):
            lists[".".join(map(printable, path))] = value
        elif isinstance(value, dict) and len(path) < MAX_DEPTH:
            queue.extend(((*path, key), inner) for key, inner in value.items())
    return {path: value for path, value in lists.items() if value} or lists


def read_json_lines(text):
    """The records of a text with a JSON object in each line, and the kind; None if no line has one, or if the text is
    one JSON value in several lines."""
    lines = {number: line.strip() for number, line in enumerate(LINE_END.split(text), 1) if line.strip()}
    if begins_multiline_value(next(iter(lines.values()), "")) or not any(map(has_object, lines.values())):
        return None
    records, damaged = [], {}
    for number, line in lines.items():
        value, error = parse_json(line)
        if error:
            comma = line.endswith(",") and not parse_json(line[:-1])[1]
            damaged[len(records)] = "that end with a comma" if comma else "that aren't JSON", number
        records.append(value)
    return with_damaged(records, damaged), JSON_LINES


def has_object(line):
    """Whether a line is a JSON object that isn't empty, perhaps with a comma after it."""
    return line.startswith("{") and bool(parse_json(line.rstrip(","))[0])


def begins_multiline_value(line):
    """Whether a line begins a JSON value of several lines: it is an unfinished list, or ends with [ or {."""
    if line.startswith("["):
        return parse_json(line)[1] is not None
    return line.endswith(("[", "{"))
