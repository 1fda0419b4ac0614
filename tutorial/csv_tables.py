"""Tables in CSV as people write them: with a header, and separated by commas, semicolons, tabs or what Excel's first
line `sep=` says. Python's `csv` reads any text as a table; here, a quote in a wrong place is noticed.
"""

import re
from collections import Counter
from typing import NamedTuple

from engine.texts import marked
from tutorial.entries import format_of
from tutorial.faults import BadEntry, OtherFile, with_damaged
from tutorial.messages import printable, shorten

LINE_END = re.compile(r"\r\n?|\n")


class Row(NamedTuple):
    """A row of a CSV file."""

    fields: list
    source: str               # its text in the file
    line: int                 # the number of its first line, from 1
    stray_quote: int | None   # the number of a line with a quote in a wrong place


NO_ROW = Row([], "", 0, None)


def read_csv(text):
    """The records of a table with a header, and the kind; None for another text. Raises OtherFile for a quote in a
    wrong place."""
    separator = re.match(r'\s*"?sep=([^\w\s"]|\t)"?', text, re.IGNORECASE)
    start, unknown = separator.end() if separator else 0, None
    for delimiter in separator[1] if separator else ",;\t":
        rows = read_rows(text, start, delimiter)
        header, first = (next(rows, NO_ROW).fields for _ in range(2))
        keys = [key.strip().lower() for key in header]
        if format_of(dict.fromkeys(keys)):
            return read_table(text, start, delimiter, keys)
        if len(keys) > 1 and len(first) == len(keys):
            unknown = [dict(zip(keys, first))], "CSV"  # without known keys: one record is enough to name its keys
    return unknown


def read_table(text, start, delimiter, keys):
    """The records of a table with these keys, and the kind. Raises OtherFile for a quote in a wrong place, and for
    several columns of one name."""
    header, *rows = read_rows(text, start, delimiter)
    kind = marked("CSV")
    if several := [printable(key) for key, n in Counter(filter(None, keys)).items() if n > 1]:
        raise OtherFile(f"CSV with several columns {shorten(', '.join(several), 150)}: keep the one you want")
    if delimiter == "\t" and quotes_seem_literal(header, rows):
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


def quotes_seem_literal(header, rows):
    """Whether the quotes of a table between tabs seem to be characters like any other, as they often are: neither the
    header nor a doubled quote shows that they enclose fields, and read as if they did, they are out of place."""
    if '"' in header.source or any('""' in row.source for row in rows):
        return False
    return any(row.stray_quote or is_several_rows(row.source, "\t", len(header.fields)) for row in rows)


def is_several_rows(source, delimiter, width):
    """Whether each line of a row could be a row of its own, with `width` fields: a quote may have swallowed rows."""
    lines = [line for line in LINE_END.split(source) if line.strip()]
    mark = re.escape(delimiter)
    # A tab at the beginning of a line indents it; a comma before a blank or between digits is one of a text.
    between = r"(?<=.)\t" if delimiter == "\t" else rf"{mark}(?!\s)(?!(?<=\d{mark})\d)"
    return len(lines) > 1 < width and all(len(re.findall(between, line)) == width - 1 for line in lines)


def read_rows(text, start, delimiter, quotes=True):
    """The Rows of a table that aren't blank: a generator. Blanks around a field in quotes are ignored. Without
    `quotes`, a quote is a character like any other."""
    field_pattern = pattern_of_field(delimiter, quotes)
    fields, begin, line, stray = [], start, 1 + count_lines(text[:start]), None
    for field in field_pattern.finditer(text, start):
        inside, plain, end = field.groups()
        if quotes and inside is None and plain.lstrip().startswith('"'):
            stray = stray or line + count_lines(text[begin:field.start()])
        fields.append(plain if inside is None else inside.replace('""', '"'))
        if end != delimiter:
            if any(map(str.strip, fields)):
                yield Row(fields, text[begin:field.start(3)], line, stray)
            line += count_lines(text[begin:field.end()])
            fields, begin, stray = [], field.end(), None


def pattern_of_field(delimiter, quotes):
    """The pattern of one field, with three groups: the text in quotes, or else the plain text; and what ends it."""
    mark = re.escape(delimiter)
    # The quantifiers with + never give back what they matched, so that a long text takes linear time.
    in_quotes = rf'''
        [^\S{mark}\r\n]*+                   # blanks
        " ( [^"]*+ (?: "" [^"]*+ )*+ ) "    # within the quotes, "" is one quote
        [^\S{mark}\r\n]*+
        (?= [{mark}\r\n] | \Z )             # nothing else may follow'''
    return re.compile(rf'''
        (?: {in_quotes if quotes else "( (?!) )"}   # (?!) matches nowhere: all fields are plain
          | ( [^{mark}\r\n]* ) )
        ( {mark} | \r\n? | \n | \Z )''', re.VERBOSE)


def count_lines(text):
    """How many line ends a text has, of any system."""
    return len(LINE_END.findall(text))
