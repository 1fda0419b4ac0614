"""The lines of a text, whose ends may be those of any system."""

import re

LINE_END = re.compile(r"\r\n?|\n")


def count_line_ends(text):
    """How many line ends a text has."""
    return len(LINE_END.findall(text))


def with_line_feeds(text):
    r"""The text with the line ends \n."""
    return LINE_END.sub("\n", text)
