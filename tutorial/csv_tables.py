"""Reads CSV into records, as people write it: with a header, and separated by commas, semicolons, tabs or what Excel's
first line `sep=` says. Python's `csv` reads any text as a table; here, a quote in a wrong place is noticed.

A record is a dict of texts. Its keys are the header's names in lower case, since people write `Instruction` and
`OUTPUT`. A field that is missing at the end of a row is None.
"""

import re
from collections import Counter
from itertools import islice
from typing import NamedTuple

from engine.texts import marked
from tutorial.entries import format_of
from tutorial.errors import BadEntryError, UnreadableFileError, with_damaged
from tutorial.lines import LINE_END, count_line_ends
from tutorial.messages import printable, shorten

CSV = marked("CSV")


class Row(NamedTuple):
    """A row of a CSV file."""

    fields: list
    source: str               # its text in the file
    line: int                 # the number of its first line, from 1
    stray_quote: int | None   # the number of its first line with a quote in a wrong place; None, if no quote is


def read_csv(text):
    """The records of a table with a header, and the kind; None for another text. Raises UnreadableFileError as
    `read_table` does.

    The delimiter is the first with which the header has known keys. If there is none, the result is the first record
    alone, so that an error can name its keys; it is read with the first delimiter that divides header and record into
    equally many fields.
    """
    separator = re.match(r'\s*"?sep=([^\w\s"]|\t)"?', text, re.IGNORECASE)
    start = separator.end() if separator else 0
    delimiters = [separator[1]] if separator else [",", ";", "\t"]
    beginnings = {delimiter: list(islice(read_rows(text, start, delimiter), 2)) for delimiter in delimiters}
    for delimiter, rows in beginnings.items():
        if rows and format_of(dict.fromkeys(keys_of(rows[0]))):
            return read_table(text, start, delimiter)
    for rows in beginnings.values():  # no known keys
        if len(rows) == 2 and len(rows[0].fields) == len(rows[1].fields) > 1:
            return [dict(zip(keys_of(rows[0]), rows[1].fields))], CSV
    return None


# --- Rows as records ---


def keys_of(header):
    """The keys in a table's first row, in lower case."""
    return [key.strip().lower() for key in header.fields]


def read_table(text, start, delimiter):
    """The records of a table with known keys, and the kind. Raises UnreadableFileError for several columns of one name,
    and for a quote in a wrong place."""
    header, *rows = read_rows(text, start, delimiter)
    keys, kind = keys_of(header), CSV
    if several := [printable(key) for key, n in Counter(filter(None, keys)).items() if n > 1]:
        raise UnreadableFileError(f"CSV with several columns {shorten(', '.join(several), 150)}: keep the one you want")
    if delimiter == "\t" and quotes_seem_literal(header, rows):
        _, *literal = read_rows(text, start, delimiter, quotes=False)
        if all(len(row.fields) >= len(keys) for row in literal):
            rows, kind = literal, marked("CSV with literal quotes")
    for row in rows:
        if row.stray_quote:
            raise UnreadableFileError(f"damaged CSV (the quote in line {row.stray_quote} isn't closed, or text follows "
                                      "its end)")
    faults = [fault_of(row, keys, delimiter) for row in rows]
    damaged = {index: (fault, row.line) for index, (fault, row) in enumerate(zip(faults, rows)) if fault}
    return with_damaged([record_of(row, keys) for row in rows], damaged), kind


def fault_of(row, keys, delimiter):
    """What seems wrong with a row, in words that follow a number of rows; None if nothing does."""
    if keys_of(row) == keys:
        return "that repeat the header"
    if may_be_several_rows(row.source, delimiter, len(keys)):
        return "that may be several rows with a quote missing"
    return None


def record_of(row, keys):
    """A row as a record; a BadEntryError if it has more fields than there are keys."""
    if any(map(str.strip, row.fields[len(keys):])):
        return BadEntryError("with more fields than the header")
    return dict.fromkeys(keys) | dict(zip(keys, row.fields))


# --- Quotes that aren't what they seem ---


def quotes_seem_literal(header, rows):
    """Whether the quotes of a tab-separated table are literal characters, as they often are. So here:

        instruction         output
        "Who?" he asked.    A man

    Nothing shows that they enclose fields: no quote in the header, no doubled quote. And read as enclosing, some would
    be in a wrong place, or swallow rows.
    """
    if '"' in header.source or any('""' in row.source for row in rows):
        return False
    return any(row.stray_quote or may_be_several_rows(row.source, "\t", len(header.fields)) for row in rows)


def may_be_several_rows(source, delimiter, width):
    """Whether each line of a row could be a row of its own, with `width` fields: a quote may have swallowed rows. So
    here, where the quote before B ends only in the next line:

        Q,"B
        R,C"
    """
    lines = [line for line in LINE_END.split(source) if line.strip()]
    if min(len(lines), width) < 2:
        return False
    mark = re.escape(delimiter)
    # What divides fields: a tab that doesn't begin the line; another mark neither before a blank nor as in 1,000.
    inner_tab, inner_mark = r"(?<=.) \t", rf"{mark} (?!\s) (?! (?<=\d{mark}) \d )"
    between = inner_tab if delimiter == "\t" else inner_mark
    return all(len(re.findall(between, line, re.VERBOSE)) == width - 1 for line in lines)


# --- Text as rows ---


def read_rows(text, start, delimiter, quotes=True):
    """Yields the Rows of the table that begins at `text[start]`, except blank ones. Blanks around a field in quotes are
    ignored. Without `quotes`, a quote is a character like any other."""
    field_pattern = pattern_of_field(delimiter, quotes)
    fields, begin, line, stray_quote = [], start, 1 + count_line_ends(text[:start]), None
    for field in field_pattern.finditer(text, start):
        quoted, plain = field["quoted"], field["plain"]
        if quotes and quoted is None and plain.lstrip().startswith('"'):
            stray_quote = stray_quote or line + count_line_ends(text[begin:field.start()])
        fields.append(plain if quoted is None else quoted.replace('""', '"'))
        if field["end"] != delimiter:  # a line end, or the end of the text
            if any(map(str.strip, fields)):
                yield Row(fields, text[begin:field.start("end")], line, stray_quote)
            line += count_line_ends(text[begin:field.end()])
            fields, begin, stray_quote = [], field.end(), None


def pattern_of_field(delimiter, quotes):
    """The pattern of one field and what ends it. Its groups: `quoted`, the text in quotes, or else `plain`, the field
    as it is; and `end`, the delimiter, a line end, or nothing at the end of the text."""
    mark = re.escape(delimiter)
    # The quantifiers with + never give back what they matched, so that a long text takes linear time.
    in_quotes = rf'''
        [^\S{mark}\r\n]*+                               # blanks
        " (?P<quoted> [^"]*+ (?: "" [^"]*+ )*+ ) "      # within the quotes, "" is one quote
        [^\S{mark}\r\n]*+
        (?= [{mark}\r\n] | \Z )                         # nothing else may follow'''
    return re.compile(rf'''
        (?: {in_quotes if quotes else "(?P<quoted> (?!) )"}     # (?!) matches nowhere: all fields are plain
          | (?P<plain> [^{mark}\r\n]* ) )
        (?P<end> {mark} | \r\n? | \n | \Z )''', re.VERBOSE)
