"""The errors of data files, and how damaged lines become bad entries."""

from collections import defaultdict

from tutorial.messages import first_ten


class UnreadableFileError(ValueError):
    """The file isn't a data file. The message says what the file looks like."""


class BadEntryError(ValueError):
    """One entry can't be used. The message says why, in words that follow a number of entries."""


def with_damaged(records, damaged):
    """The records of JSON Lines or CSV, with a BadEntryError in place of each damaged one.

    damaged: {index in `records`: (fault, number of the line)}. Records with the same fault share one BadEntryError,
    which names all their lines: `data_files` groups bad entries by their message, so the fault is reported once.
    """
    lines = defaultdict(list)
    for fault, line in damaged.values():
        lines[fault].append(line)
    errors = {fault: BadEntryError(f"{fault}, line{'s' if len(numbers) > 1 else ''} {first_ten(numbers)}")
              for fault, numbers in lines.items()}
    return [errors[damaged[index][0]] if index in damaged else record for index, record in enumerate(records)]
