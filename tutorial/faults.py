"""Faults of data files: the errors, and how damaged lines become bad entries."""

from collections import defaultdict

from tutorial.messages import first_ten


class OtherFile(ValueError):
    """What a file that can't be read looks like."""


class BadEntry(ValueError):
    """Why one entry can't be used, in words that follow a number of entries."""


def with_damaged(records, damaged):
    """The records, with a BadEntry in each place of `damaged`, {index: (what is wrong, number of the line)}. Each
    BadEntry names all lines that have the same fault."""
    lines = defaultdict(list)
    for fault, line in damaged.values():
        lines[fault].append(line)
    errors = {fault: BadEntry(f"{fault}, line{'s' if len(numbers) > 1 else ''} {first_ten(numbers)}")
              for fault, numbers in lines.items()}
    return [errors[damaged[index][0]] if index in damaged else record for index, record in enumerate(records)]
