"""Reads data files of any supported format into checked entries.

`file_formats` reads a file's records, `entries` makes an entry of each. Everything that is wrong with a file is
reported at once, in one ValueError of at most 800 characters.
"""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path

from engine.texts import translate
from tutorial.entries import UNKNOWN_KEYS, to_entry
from tutorial.errors import BadEntryError, UnreadableFileError
from tutorial.file_formats import read_records
from tutorial.messages import first_ten, printable, shorten
from weights.transfer import download_from_first

EXPECTED = ("expected instructions and their answers as a JSON list, JSON Lines or CSV with a header, in UTF-8, with "
            "the keys instruction and output (or response), prompt and completion, messages, or conversations")
# Ends a message that asks to remove the bad entries.
LEAVE_OUT = ", or set SKIP_BAD_ENTRIES=1 to leave them out (in scripts/finetune.py: --skip-bad-entries)"
LONGEST_TEXT = 128 * 1024  # characters: no token of GPT-2's has more than 128, and no GPT-2 reads more than 1,024


def download_and_load_file(file_path, urls=(), sha256=None, skip_bad=False):
    """The list of entries in `file_path`. A missing file is downloaded from the first of `urls` that has it.

    Prints what was found, and which addresses failed. With `skip_bad`, entries that can't be used are left out. Raises
    FileNotFoundError if the file is missing and no url is given, ValueError for a wrong sha256 or bad entries,
    CheckpointError if the download fails.
    """
    path = Path(file_path)
    if not path.exists():
        if not urls:
            raise FileNotFoundError(f"{path} does not exist, and no url is known for it")
        download_from_first(urls, path)
    content = path.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is not the published file (wrong sha256): delete it and run this again")
    entries, summary = entries_in(content, path.name, skip_bad)
    print(summary)
    return entries


def load_entries(path, skip_bad=False):
    """The entries of a data file, and a summary of what was found, as `entries_in` gives them."""
    path = Path(path)
    return entries_in(path.read_bytes(), path.name, skip_bad)


def entries_in(content, name, skip_bad=False):
    """The entries in a data file's bytes, and a summary of what was found: (list of entries, line of text).

    name: the file's, for messages. With `skip_bad`, entries that can't be used are left out, unless none can. The
    summary names other keys, and counts the changes and the entries left out.

    Raises ValueError if the file isn't a data file, has no entries, or has entries that can't be used. The message
    counts these by what is wrong, with the numbers of the first ten, from 0.
    """
    try:
        records, kind = read_records(content)
    except UnreadableFileError as error:
        raise ValueError(f"{name} looks like {shorten(str(error), 250)}; {EXPECTED}") from error
    entries, bad, found = check_records(records)
    if len(bad.get(UNKNOWN_KEYS, ())) == len(records):
        keys = ", ".join(map(repr, dict.fromkeys(key for record in records[:100] for key in record)))
        keys = "with the keys " + shorten(keys, 200) if keys else "without keys"
        raise ValueError(f"{name} has entries {keys}; {EXPECTED}")
    reasons = "; ".join(f"{len(numbers):,} {reason} ({first_ten(numbers)})" for reason, numbers in bad.items())
    if bad and not (skip_bad and entries):
        how_many = f"{len(records) - len(entries):,} of {len(records):,} entries can't be used (numbered from 0)"
        raise ValueError(shorten(f"{name}: {how_many}: {reasons}", 680) + ". Correct or remove them"
                         + ("" if skip_bad else LEAVE_OUT))
    left_out = translate("; left out: {}").format(reasons) if bad else ""
    summary = translate("{n:,} entries, {kind}, {found}").format(n=len(entries), kind=translate(kind), found=found)
    return entries, shorten(summary + left_out, 800)


def check_records(records):
    """The usable entries, the numbers of the other records by what is wrong with them, and what was found in the usable
    ones: (list, {reason: numbers}, text). The text names formats and other keys, and counts the changes."""
    entries, bad, formats, other_keys, changes = [], defaultdict(list), Counter(), Counter(), Counter()
    for number, record in enumerate(records):
        try:
            converted = to_entry(record)
            check_text(converted.entry)
        except BadEntryError as reason:
            bad[str(reason)].append(number)
            continue
        entries.append(converted.entry)
        formats[converted.format_name] += 1
        other_keys.update(converted.other_keys)
        changes.update(converted.changes)
    found = translate(" and ").join(map(translate, formats))
    if other_keys:
        found += translate("; other keys: {}").format(shorten(", ".join(map(printable, other_keys)), 200))
    return entries, dict(bad), found + "".join(f"; {translate(what)}: {n:,}" for what, n in changes.items())


def check_text(entry):
    """Raise BadEntryError for texts that no tokenizer can read, or no GPT-2."""
    text, task = entry["instruction"] + entry["input"] + entry["output"], entry.get("task")
    try:
        (text + (task if isinstance(task, str) else "")).encode()  # the task is printed
    except UnicodeEncodeError as error:
        raise BadEntryError("with text that can't be encoded in UTF-8") from error
    if len(text) > LONGEST_TEXT:  # a million spaces would be too much for the tokenizer
        raise BadEntryError("that are far too long")


def check_lengths(entries, lengths, max_tokens, skip_bad=False):
    """The entries that the model can read.

    entries: entries or encoded items. lengths: the number of tokens of each, with its prompt. max_tokens: how many the
    model reads.

    With `skip_bad`, longer entries are left out, and a line counts them. Without it, or if all are too long, raises
    ValueError, which counts them.
    """
    too_long = [number for number, length in enumerate(lengths) if length > max_tokens]
    if too_long and not (skip_bad and len(too_long) < len(entries)):
        raise ValueError(f"{len(too_long):,} of {len(entries):,} entries have more than the model's {max_tokens:,} "
                         f"tokens (numbered from 0: {first_ten(too_long)}): shorten or remove them"
                         + ("" if skip_bad else LEAVE_OUT))
    if too_long:
        print(translate("left out: {n:,} of {total:,} entries have more than the model's {limit:,} tokens (numbered "
                        "from 0: {numbers})").format(
                            n=len(too_long), total=len(entries), limit=max_tokens, numbers=first_ten(too_long)))
    left_out = set(too_long)
    return [entry for number, entry in enumerate(entries) if number not in left_out]
