"""Makes an entry of one record of a data file, with any known keys.

The keys may be Alpaca's, Dolly's, `prompt` and `completion`, or those of chats with one question and one answer, each
with or without a system message. An entry is a dictionary with the texts `instruction`, `input`, which may be empty,
and `output`, and with those other keys of the record that have a value. A key whose value is null counts as missing.
"""

import json
import math
import re
from typing import NamedTuple

from engine.texts import marked
from tutorial.errors import BadEntryError
from tutorial.lines import with_line_feeds

FORMATS = {  # of records, {name: the key of a chat, or the keys of the instruction and of the output}
    marked("chats (messages)"): ["messages"], marked("chats (conversations)"): ["conversations"],
    marked("Alpaca's keys"): ["instruction", "output"], marked("Dolly's keys"): ["instruction", "response"],
    marked("the keys prompt and completion"): ["prompt", "completion"],
}
INPUTS = ["input", "context"]
SPEAKER_KEYS, TEXT_KEYS = ("role", "from"), ("content", "value")  # of a turn, as OpenAI and ShareGPT spell them
SPEAKERS = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
NO_INPUT = {"no input", "noinput", "none", "n/a", "no input required", "no input needed"}  # placeholders
NO_VALUE = {"nan", "-nan", "null", "<na>", "#n/a"}  # what pandas, databases and Excel write for a missing value
# Any character but whitespace, control characters, what has Unicode's property Default_Ignorable_Code_Point, the empty
# Braille pattern, and the anchors of annotations.
VISIBLE = re.compile(
    "[^\\s\0-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]")
UNKNOWN_KEYS = "without the keys of a known format"
NOT_ONE_ANSWER = "with a chat that isn't one question and one answer"
NOT_TRAINED = "with an answer of weight 0, which isn't to be trained"


class Fields(NamedTuple):
    """What a record has for each text of an entry: any JSON values, not yet checked."""

    systems: list      # system messages, of the record and of its chat
    instruction: object
    contexts: list     # the values of INPUTS; none beside a chat
    output: object
    used: set          # the record's keys that have an effect, or no value: they aren't reported
    unused: list       # keys of a chat's turns that have no effect, such as messages[].name


class Converted(NamedTuple):
    """An entry, and how it was made of a record."""

    entry: dict
    format_name: str   # a key of FORMATS
    other_keys: list   # the names of the keys that no text was taken from
    changes: list      # what was changed, in words


def to_entry(record):
    """A record as a Converted entry. Raises BadEntryError if it can't be used."""
    if isinstance(record, BadEntryError):
        raise record
    if not isinstance(record, dict):
        raise BadEntryError("that aren't JSON objects")
    format_name = format_of(record)
    if format_name is None:
        raise BadEntryError(UNKNOWN_KEYS)
    fields = fields_of(record, FORMATS[format_name])
    check_usable(record)
    entry, changes = build_entry(fields)
    others = {key: value for key, value in record.items() if key not in fields.used and has_value(value)}
    added = {key: value for key, value in others.items() if key not in entry}  # a chat may have an `input` beside it
    return Converted(entry | added, format_name, [*others] + fields.unused, changes)


def format_of(record):
    """The name of the format whose keys the record has; None if there is none. If there are several, it is the one with
    the largest share of keys that have values."""
    def share_of_values(name):
        return sum(has_value(record[key]) for key in FORMATS[name]) / len(FORMATS[name])
    names = [name for name, keys in FORMATS.items() if all(key in record for key in keys)]
    return max(names, key=share_of_values, default=None)


def fields_of(record, keys):
    """The Fields of a record whose format has these keys. Raises BadEntryError for a chat that can't be used."""
    if len(keys) == 1:  # that of a chat
        chat = from_turns(turns_of(record[keys[0]]))
        return Fields([record.get("system"), chat.system], chat.question, [], chat.answer,
                      {*keys, "system", "history"}, [f"{keys[0]}[].{key}" for key in chat.unused])
    instruction, output = map(record.get, keys)
    return Fields([record.get("system")], instruction, list(map(record.get, INPUTS)), output,
                  {*keys, *INPUTS, "system", "history"}, [])


def check_usable(record):
    """Raise BadEntryError for a record that isn't one question, or whose answer isn't to be trained."""
    if has_value(record.get("history")) and record["history"] not in ([], "[]"):
        raise BadEntryError(NOT_ONE_ANSWER)
    if is_zero(record.get("weight")):
        raise BadEntryError(NOT_TRAINED)


def build_entry(fields):
    r"""An entry with its three texts, whose lines end with \n, and a list of what was changed. Raises BadEntryError for
    a value that isn't text, and for an instruction or an output without content."""
    systems = [to_text(value, "a system message") for value in fields.systems]
    instruction = required_text(fields.instruction, "instruction")
    contexts = [to_text(value, "an input") for value in fields.contexts]
    output = required_text(fields.output, "output")
    changes = {
        marked("placeholders for an empty system message removed"): any(map(is_placeholder, systems)),
        marked("placeholders for an empty input removed"): any(map(is_placeholder, contexts)),
    }
    systems, contexts = ([text for text in texts if not is_blank(text) and not is_placeholder(text)]
                         for texts in (systems, contexts))
    if len(contexts) > 1:
        raise BadEntryError("with both an input and a context")
    changes |= {
        marked(r"line ends changed to \n"): any("\r" in text for text in (*systems, instruction, *contexts, output)),
        marked("system messages put before the instruction"): bool(systems),
        marked("outputs stripped of whitespace"): output != output.strip(),
    }
    systems = dict.fromkeys(map(with_line_feeds, systems))  # one that is given twice is put there once
    entry = {"instruction": "\n\n".join([*systems, with_line_feeds(instruction)]),
             "input": with_line_feeds("".join(contexts)), "output": with_line_feeds(output).strip()}
    return entry, [change for change, happened in changes.items() if happened]


# --- Values ---


def has_value(value):
    """Whether a value is more than null, JSON's NaN, a blank text, or a word for a missing value."""
    if isinstance(value, str):
        return not is_blank(value) and not is_no_value(value)
    return value is not None and not is_nan(value)


def is_nan(value):
    """Whether a value is JSON's NaN, which pandas writes for a missing value."""
    return isinstance(value, float) and math.isnan(value)


def is_blank(text):
    """Whether a text has no visible character."""
    return not VISIBLE.search(text)


def is_no_value(text):
    """Whether a text is a word for a missing value."""
    return text.strip().lower() in NO_VALUE


def is_placeholder(text):
    """Whether a text only says that there is nothing, such as "<noinput>"."""
    return is_no_value(text) or text.strip(" <>.[]()\r\n").lower() in NO_INPUT


def is_zero(weight):
    """Whether a message's weight is 0: it isn't to be trained on. In CSV, the number is a text."""
    if isinstance(weight, str):
        return re.fullmatch(r"(?i)\s*(-?0+([.,]0*)?|false)\s*", weight) is not None
    return weight == 0


def to_text(value, what):
    """A value as a text: "" for null, and "nan" for JSON's NaN. what: what the text is, for the message. Raises
    BadEntryError for a value that isn't text."""
    # NaN becomes the word that a table has for it, so that both are treated alike, as a missing value.
    text = "" if value is None else "nan" if is_nan(value) else value
    if not isinstance(text, str):
        raise BadEntryError(f"with {what} that isn't text")
    return text


def required_text(value, key):
    """The text of an entry's instruction or output, as `to_text` gives it. Raises BadEntryError also if it has no
    content."""
    text = to_text(value, f"an {key}")
    if is_blank(text):
        raise BadEntryError(f"with an empty {key}")
    if is_no_value(text):
        raise BadEntryError(f"with an {key} that is a missing value, such as nan or NULL")
    return text


# --- Chats ---


class Chat(NamedTuple):
    """A chat of one question and one answer: any JSON values, not yet checked."""

    system: object     # the system message, or None
    question: object
    answer: object
    unused: list       # the keys of its turns that have no effect


def from_turns(turns):
    """The Chat of some turns. Raises BadEntryError unless they are one question and one answer."""
    speakers, texts = ([turn.get(key, turn.get(other_key)) for turn in turns]
                       for key, other_key in (SPEAKER_KEYS, TEXT_KEYS))
    if not all(isinstance(speaker, str) for speaker in speakers):
        raise BadEntryError("with a chat whose turns lack a speaker")
    speakers = [SPEAKERS.get(speaker.strip().lower()) for speaker in speakers]
    if None in speakers:
        raise BadEntryError("with a chat of other speakers than system, user (human) and assistant (gpt)")
    if speakers[-2:] != ["user", "assistant"] or speakers[:-2] not in ([], ["system"]):
        raise BadEntryError(NOT_ONE_ANSWER)
    if is_zero(turns[-1].get("weight")):
        raise BadEntryError(NOT_TRAINED)
    unused = dict.fromkeys(key for turn in turns for key, value in turn.items()
                           if key not in (*SPEAKER_KEYS, *TEXT_KEYS) and (key, value) != ("weight", 1))
    *system, question, answer = map(join_content, texts)
    return Chat(system[0] if system else None, question, answer, list(unused))


def turns_of(chat):
    """The turns of a chat, a list or its JSON, without keys whose value is null. Raises BadEntryError if it is
    neither."""
    if isinstance(chat, str):
        try:
            chat = json.loads(chat)
        except (ValueError, RecursionError) as error:
            raise BadEntryError("with a chat that is a text, but not JSON") from error
    if not isinstance(chat, list) or not all(isinstance(turn, dict) for turn in chat):
        raise BadEntryError("with a chat that isn't a list of turns")
    return [{key: value for key, value in turn.items() if value is not None} for turn in chat]


def join_content(content):
    """A turn's content. A list of content parts, {"type": "text", "text": …}, is joined. Raises BadEntryError for a
    part that isn't text."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") in ("text", None) else part
             for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise BadEntryError("with a chat that has more than text")
    return "".join(texts)
