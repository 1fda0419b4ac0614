"""Reads the bytes of a data file into records.

The content decides how a file is read, not its name. Formats that can't be read, binary ones and texts such as web
pages, are recognised by their first bytes and refused. Anything else is decoded as UTF-8 and given to each of
TEXT_READERS until one knows it.

A record is what a file has for one entry: a JSON value, hence a dict, list, str, int, float, bool or None. In place of
a damaged record stands a BadEntryError. `entries` makes an entry of each record, and expects JSON values whatever the
format. It finds keys by their exact spelling: `csv_tables` lower-cases the keys of a header, `json_records` keeps keys
as they are.
"""

import re
from codecs import BOM_UTF8

from tutorial.csv_tables import read_csv
from tutorial.errors import UnreadableFileError
from tutorial.json_records import read_json
from tutorial.lines import count_line_ends

# A reader takes a text and returns (records, kind), or None if the text has another format. It raises
# UnreadableFileError for a damaged file of its own format. The kind names the format in the notebook, as "JSON Lines".
# The readers' order matters, from the strictest to the laxest: read_json raises an error for any other text that begins
# with [ or {, and read_csv takes almost any text.
TEXT_READERS = (read_json, read_csv)
MAGIC_NUMBERS = {  # the first bytes of files that can't be read: what they are; the longer of two comes first
    b"version https://git-lfs": "a Git LFS pointer, which only says where the file is: run git lfs pull",
    b"<?xml": "XML", b"%PDF": "a PDF",
    b"{\\rtf": "an RTF document", b"\x1f\x8b": "a gzip archive: unpack it", b"BZh": "a bzip2 archive: unpack it",
    b"\xfd7zXZ": "an xz archive: unpack it", b"\x28\xb5\x2f\xfd": "a Zstandard archive: unpack it",
    b"PAR1": "a Parquet file", b"ARROW1": "an Arrow file", b"\xff\xff\xff\xff": "an Arrow file",
    b"SQLite format 3": "an SQLite database", b"\x80": "a Python pickle",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (or Word document): save it as CSV UTF-8",
    b"\xff\xfe\0\0": "text in UTF-32", b"\xff\xfe": "text in UTF-16", b"\xfe\xff": "text in UTF-16",
}
HTML = (b"<!doctype html", b"<html")  # in lower case; web pages spell them either way
ZIP = b"PK\x03\x04"
ZIP_FILES = {  # bytes that a zip archive contains: what it is
    b"word/document": "a Word document", b"opendocument.spreadsheet": "a spreadsheet: save it as CSV UTF-8",
    b"xl/workbook": "an Excel workbook: save it as CSV UTF-8",
    b"[Content_Types].xml": "an Excel workbook: save it as CSV UTF-8", b"": "a zip archive: unpack it",
}


def read_records(content):
    """The records in a file's bytes, and the kind of the file: (list, text). Raises UnreadableFileError for a file
    without entries, a damaged one, and one of an unknown format."""
    content = content.removeprefix(BOM_UTF8)
    refuse_other_files(content)
    text = decode(content)
    for read in TEXT_READERS:
        if found := read(text):
            records, kind = found
            if not records:
                raise UnreadableFileError(f"{kind} without entries")
            return found
    raise UnreadableFileError("some other text" if text.strip() else "an empty file")


def refuse_other_files(content):
    """Raise UnreadableFileError if a file's first bytes tell that it isn't UTF-8 text with entries."""
    beginning = content.lstrip()[:64]
    if beginning.lower().startswith(HTML):
        raise UnreadableFileError("a web page")
    for magic, what in MAGIC_NUMBERS.items():
        if beginning.startswith(magic):
            raise UnreadableFileError(what)
    if beginning.startswith(ZIP):
        raise UnreadableFileError(next(what for part, what in ZIP_FILES.items() if part in content))


def decode(content):
    """The text in a file's bytes. Raises UnreadableFileError for bytes that aren't text in UTF-8."""
    if b"\0" in content:
        for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
            if re.search("[A-Za-z]{5}", content[:4096].decode(encoding, "replace")):  # a key
                raise UnreadableFileError(f"text in {encoding[:6].upper()}")
        raise UnreadableFileError("binary data")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = 1 + count_line_ends(content[:error.start].decode())
        raise UnreadableFileError(f"binary data, or text that isn't in UTF-8 (line {line})") from error
    return re.sub("^\ufeff+", "", text, flags=re.MULTILINE)  # byte-order marks of files that were put together
