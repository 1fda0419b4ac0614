"""Short, printable texts for messages, tables and figures."""


def shorten(text, longest):
    """The text, cut to at most `longest` characters; … shows where."""
    return text if len(text) <= longest else text[:longest - 1] + "…"


def printable(key):
    """A key for a message: as it is, or quoted if it is empty or has characters that can't be printed."""
    return key if key.isprintable() and key.strip() else repr(key)


def first_ten(numbers):
    """The first ten numbers of a list as a text."""
    return ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "")
