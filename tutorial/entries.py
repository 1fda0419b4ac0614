"""One record of a data file, with any known keys, as an entry.

The keys may be Alpaca's, Dolly's, `prompt` and `completion`, or those of chats with one question and one answer, each
with or without a system message. An entry is a dictionary with the texts `instruction`, `input`, which may be empty,
and `output`, and with those other keys of the record that have a value. A key whose value is null counts as missing.
"""

import json
import re

from engine.texts import marked

FORMATS = {  # name: the key of a chat, or the keys of the instruction and of the output
    marked("chats (messages)"): ["messages"], marked("chats (conversations)"): ["conversations"],
    marked("Alpaca's keys"): ["instruction", "output"], marked("Dolly's keys"): ["instruction", "response"],
    marked("the keys prompt and completion"): ["prompt", "completion"],
}
INPUTS = ["input", "context"]
TURN_KEYS = [("role", "from"), ("content", "value")]  # speaker and text of a turn, as OpenAI and ShareGPT spell them
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


class BadEntry(ValueError):
    """Why one entry can't be used, in words that follow a number of entries."""


def has_value(value):
    """Whether a value is more than null, JSON's NaN, a text that shows nothing, or a word for a missing value."""
    return not (value is None or value != value or isinstance(value, str) and (is_blank(value) or is_no_value(value)))


def is_blank(text):
    """Whether a text shows nothing."""
    return not VISIBLE.search(text)


def is_no_value(text):
    """Whether a text is a word for a missing value."""
    return text.strip().lower() in NO_VALUE


def format_of(record):
    """The name of a record's format: that whose keys are there, and have values where others' haven't; else None."""
    def values(name):
        return sum(has_value(record[key]) for key in FORMATS[name]) / len(FORMATS[name])
    names = [name for name, keys in FORMATS.items() if all(key in record for key in keys)]
    return max(names, key=values, default=None)


def to_entry(record):
    """A record as an entry: (entry, the format's name, other keys, changes). `changes` is a dictionary
    whose keys say what was changed. Raises BadEntry."""
    if isinstance(record, BadEntry):
        raise record
    format_name = format_of(record) if isinstance(record, dict) else None
    if format_name is None:
        raise BadEntry(UNKNOWN_KEYS if isinstance(record, dict) else "that aren't JSON objects")
    keys, changed = FORMATS[format_name], {}
    if len(keys) == 1:
        first_turn, instruction, output, unused = from_chat(record[keys[0]])
        inputs = []
    else:
        first_turn, unused, inputs = None, [], INPUTS
        instruction, output = map(record.get, keys)
    if has_value(record.get("history")) and record["history"] not in ([], "[]"):
        raise BadEntry(NOT_ONE_ANSWER)
    if is_zero(record.get("weight")):
        raise BadEntry(NOT_TRAINED)
    systems = [to_text(text, "a system message", changed) for text in (record.get("system"), first_turn)]
    instruction = to_text(instruction, "an instruction", changed, required=True)
    contexts = [to_text(record.get(key), "an input", changed) for key in inputs]
    output = to_text(output, "an output", changed, required=True)
    if contexts and all(contexts):
        raise BadEntry("with both an input and a context")
    if any(systems):
        changed[marked("system messages put before the instruction")] = 1
    if output != output.strip():
        changed[marked("outputs stripped of whitespace")] = 1
    entry = {"instruction": "\n\n".join([*dict.fromkeys(filter(None, systems)), instruction]),
             "input": "".join(contexts), "output": output.strip()}
    others = {key: value for key, value in record.items()
              if key not in (*keys, *inputs, "system", "history") and has_value(value)}
    unused = [*others] + [f"{keys[0]}[].{key}" for key in unused]
    return entry | {key: value for key, value in others.items() if key not in entry}, format_name, unused, changed


def to_text(value, what, changed, required=False):
    r"""A value as a text with the line ends \n, "" if it has no content; notes in `changed` what was changed. `what`:
    what the text is, for messages. Raises BadEntry if it isn't text, or is `required` and has no content."""
    text = "" if value is None else "nan" if value != value else value
    if not isinstance(text, str):
        raise BadEntry(f"with {what} that isn't text")
    if is_blank(text) and required:
        raise BadEntry(f"with an empty {what.split()[1]}")
    if is_blank(text):
        return ""
    if is_no_value(text) and required:
        raise BadEntry(f"with {what} that is a missing value, such as nan or NULL")
    if not required and (is_no_value(text) or text.strip(" <>.[]()\r\n").lower() in NO_INPUT):
        changed[f"placeholders for an empty {what.split(' ', 1)[1]} removed"] = 1
        return ""
    if "\r" in text:
        changed[marked(r"line ends changed to \n")] = 1
    return re.sub(r"\r\n?", "\n", text)


def from_chat(turns):
    """A chat's parts: (system message or None, question, answer, the keys of its turns that have no effect). Raises
    BadEntry unless it is one question and one answer."""
    if isinstance(turns, str):
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError) as error:
            raise BadEntry("with a chat that is a text, but not JSON") from error
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise BadEntry("with a chat that isn't a list of turns")
    turns = [{key: value for key, value in turn.items() if value is not None} for turn in turns]
    speakers, texts = [[turn.get(ours, turn.get(theirs)) for turn in turns] for ours, theirs in TURN_KEYS]
    if not all(isinstance(speaker, str) for speaker in speakers):
        raise BadEntry("with a chat whose turns lack a speaker")
    speakers = [SPEAKERS.get(speaker.strip().lower()) for speaker in speakers]
    if None in speakers:
        raise BadEntry("with a chat of other speakers than system, user (human) and assistant (gpt)")
    if speakers[-2:] != ["user", "assistant"] or speakers[:-2] not in ([], ["system"]):
        raise BadEntry(NOT_ONE_ANSWER)
    if is_zero(turns[-1].get("weight")):
        raise BadEntry(NOT_TRAINED)
    unused = {key: 1 for turn in turns for key, value in turn.items()
              if key not in sum(TURN_KEYS, ()) and not (key == "weight" and value == 1)}
    *system, question, answer = map(join_parts, texts)
    return system[0] if system else None, question, answer, list(unused)


def join_parts(content):
    """A turn's content; parts, {"type": "text", "text": …}, are joined. Raises BadEntry for parts of other types."""
    if not isinstance(content, list):
        return content
    parts = [part.get("text") if isinstance(part, dict) and part.get("type") in ("text", None) else part
             for part in content]
    if not all(isinstance(part, str) for part in parts):
        raise BadEntry("with a chat that has more than text")
    return "".join(parts)


def is_zero(weight):
    """Whether a message of this weight isn't to be trained on. In a table, the number is a text."""
    return weight == 0 or isinstance(weight, str) and bool(re.fullmatch(r"(?i)\s*(-?0+([.,]0*)?|false)\s*", weight))
