"""The errors of data files, and how damaged lines become bad entries."""

from collections import defaultdict

from tutorial.messages import first_ten


class UnreadableFileError(ValueError):
    """The file isn't a data file; the message says what it looks like."""


class BadEntryError(ValueError):
    """One entry can't be used; the message says why, in words that follow a number of entries."""


def with_damaged(records, damaged):
    """The records, with a BadEntryError in each place of `damaged`, {index: (what is wrong, number of the line)}. Each
    BadEntryError names all lines that have the same fault."""
    lines = defaultdict(list)
    for fault, line in damaged.values():
        lines[fault].append(line)
    errors = {fault: BadEntryError(f"{fault}, line{'s' if len(numbers) > 1 else ''} {first_ten(numbers)}")
              for fault, numbers in lines.items()}
    return [errors[damaged[index][0]] if index in damaged else record for index, record in enumerate(records)]
