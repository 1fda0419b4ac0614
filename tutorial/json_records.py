"""Reads JSON and JSON Lines into records: a JSON list, a JSON object that holds one list, or an object in each line."""

import json
from collections import deque

from engine.texts import marked
from tutorial.entries import FORMATS, format_of
from tutorial.errors import UnreadableFileError, with_damaged
from tutorial.lines import LINE_END
from tutorial.messages import printable, shorten

JSON_LINES = marked("JSON Lines")
MAX_DEPTH = 4  # the most keys that may lead to a list


def read_json(text):
    """The records of JSON or JSON Lines, and the kind; None for another text. Raises UnreadableFileError for damaged
    JSON, and for JSON without a list of entries."""
    data, error = parse_json(text)
    if isinstance(data, (list, dict)):
        return from_json(data)
    if found := read_json_lines(text):
        return found
    if text.lstrip().startswith(("[", "{")):
        raise UnreadableFileError(f"damaged JSON ({error})")
    return None


def parse_json(text):
    """The value of a JSON text, and None; or None, and a text that says where and why it isn't JSON."""
    try:
        return json.loads(text), None
    except (ValueError, RecursionError) as error:
        return None, str(error)


# --- JSON ---


def from_json(data):
    """The records and the kind of a JSON list, of an object that holds one list, or of a single entry. Raises
    UnreadableFileError for several lists, and for tables by columns or by index."""
    if isinstance(data, list):
        return data, marked("JSON list")
    data = {key: value for key, value in data.items() if value is not None}
    by_columns = is_by_columns(data)
    if format_of(data) and not by_columns:
        return [data], JSON_LINES  # a file with one line
    lists = {} if by_columns else lists_of_objects(data)
    if len(lists) > 1:
        raise UnreadableFileError(f"JSON with several lists ({shorten(', '.join(lists), 150)}): save the one you want")
    if lists:
        [records] = lists.values()
        return records, marked("JSON object with one list")
    objects = [data, *(value for value in data.values() if isinstance(value, dict))]
    if any(map(is_by_columns, objects)) or data.keys() >= {"columns", "data"}:
        raise UnreadableFileError("JSON by columns: save it as a list of entries (pandas: orient='records')")
    if any(map(format_of, objects)):  # {"0": {"instruction": …}, "1": …}
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
    """The lists of objects in a JSON object and in objects within it: {keys that lead there: list}, outer ones first.
    If there are none, the empty lists instead."""
    lists, queue = {}, deque(((key,), value) for key, value in data.items())
    while queue:
        path, value = queue.popleft()
        if isinstance(value, list) and (not value or any(isinstance(item, dict) for item in value)):
            lists[".".join(map(printable, path))] = value
        elif isinstance(value, dict) and len(path) < MAX_DEPTH:
            queue.extend(((*path, key), inner) for key, inner in value.items())
    return {path: value for path, value in lists.items() if value} or lists


# --- JSON Lines ---


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
    """Whether a line is a JSON object that isn't empty; a comma may follow it."""
    return line.startswith("{") and bool(parse_json(line.rstrip(","))[0])


def begins_multiline_value(line):
    """Whether a line begins a JSON value of several lines: it is an unfinished list, or ends with [ or {."""
    if line.startswith("["):
        return parse_json(line)[1] is not None
    return line.endswith(("[", "{"))
