"""People's data files as checked entries, and the scores of answers.

An entry is a dictionary with the texts `instruction`, `input` and `output`; `input` may be empty, and other keys of the
file are kept beside them. A file is told by its content, not by its name: a JSON list, a JSON object that holds one
list, JSON Lines, or CSV with a header, in UTF-8, with Alpaca's keys, Dolly's, `prompt` and `completion`, or chats of
one question and one answer.

All that is wrong with a file is reported at once, as one ValueError of at most 800 characters.
"""

import csv
import html
import io
import json
import re
from collections import Counter, defaultdict
from math import inf
from pathlib import Path

KEYS = {  # of the instruction and the output, by what readers know the form as
    "Alpaca's keys": ("instruction", "output"), "Dolly's keys": ("instruction", "response"),
    "the keys prompt and completion": ("prompt", "completion"),
}
INPUTS = ("input", "context")
CHATS = {"messages": ("role", "content"), "conversations": ("from", "value")}  # who speaks, and what is said
SPEAKERS = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
NO_INPUT = {"no input", "noinput", "none", "n/a", "no input required", "no input needed"}  # as some sets spell it out
OTHER_FILES = {
    b"version https://git-lfs": "a Git LFS pointer, which only says where the file is: run git lfs pull",
    b"<!doctype html": "a web page", b"<html": "a web page", b"PK\x03\x04": "a zip archive: unpack it",
    b"\x1f\x8b": "a gzip archive: unpack it", b"PAR1": "a Parquet file", b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16", b"\x80": "a Python pickle",
}
WANTED = ("wanted are instructions and their answers as a JSON list, JSON Lines or CSV with a header, in UTF-8, with "
          "the keys instruction and output (or response), prompt and completion, messages, or conversations")
LONGEST_TOKEN = 128  # characters: a text with more of them for each token that the model reads is certainly too long


# --- Reading ---


def load_entries(path, count_tokens=None, max_tokens=inf, skip_bad=False):
    """The entries of a data file, and a line that says what was found: (list of entries, text).

    count_tokens: a function of an entry, which may have at most `max_tokens`. White space at the ends of outputs is
    dropped. With `skip_bad`, entries at fault are left out. The line says how many of each. Raises ValueError if the
    file is something else, has no entries, or, without `skip_bad`, has entries at fault: how many, by kind, with the
    numbers of the first ten, counted from 0.
    """
    name = Path(path).name
    records, kind = read_records(path)
    entries, faults, found = sort_out(records, count_tokens, max_tokens)
    if len(faults.get(NO_KEYS, ())) == len(records):
        there = ", ".join(map(repr, dict.fromkeys(key for record in records[:100] for key in record)))
        there = "with the keys " + shorten(there, 200) if there else "without keys"
        raise ValueError(f"{name} has entries {there}; {WANTED}")
    kinds = "; ".join(f"{len(numbers):,} {fault} ({', '.join(map(str, numbers[:10]))}{', …' * (len(numbers) > 10)})"
                      for fault, numbers in faults.items())
    if faults and not (skip_bad and entries):
        bad = f"{len(records) - len(entries):,} of {len(records):,} entries are at fault (their numbers count from 0)"
        raise ValueError(shorten(f"{name}: {bad}: {kinds}", 730) + ". Mend or remove them"
                         + ("" if skip_bad else ", or set SKIP_BAD_ENTRIES=1 to leave them out"))
    left_out = f"; left out: {kinds}" if faults else ""
    return entries, shorten(f"{len(entries):,} entries, {kind}, {found}{left_out}", 800)


def sort_out(records, count_tokens, max_tokens):
    """The records that are entries, the numbers of the others by what is wrong with them, and what was found: (list,
    {fault: numbers}, text)."""
    entries, faults, forms, changes = [], defaultdict(list), Counter(), Counter()
    for number, record in enumerate(records):
        try:
            entry, form, changed = to_entry(record)
            check_text(entry, count_tokens, max_tokens)
        except EntryFault as fault:
            faults[str(fault)].append(number)
            continue
        entries.append(entry)
        forms[form] += 1
        changes.update(changed)
    return entries, dict(faults), " and ".join(forms) + "".join(f"; {what}: {n:,}" for what, n in changes.items())


def shorten(text, longest):
    """A text of at most so many characters, with … for what is left out."""
    return text if len(text) <= longest else text[:longest - 1] + "…"


def read_records(path):
    """What a file holds, one object after another, and the kind of the file: (list, text). Raises ValueError for a file
    of no known kind."""
    content, name = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf"), Path(path).name
    for beginning, what in OTHER_FILES.items():
        if content.lstrip()[:len(beginning)].lower() == beginning.lower():
            raise ValueError(f"{name} looks like {what}; {WANTED}")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} looks like text in another encoding than UTF-8, or no text; {WANTED}") from error
    try:
        for read in (read_json, read_json_lines, read_csv):
            records, kind = read(text)
            if records:
                return records, kind
    except csv.Error as error:
        raise ValueError(f"{name} looks like damaged CSV ({error}); {WANTED}") from error
    looks = "JSON without entries, or damaged JSON" if text.lstrip()[:1] in ("[", "{") else (
        "CSV without entries" if kind else "some other text" if text.strip() else "an empty file")
    raise ValueError(f"{name} looks like {looks}; {WANTED}")


# Each of the following gives what `read_records` does, or (None, None) for a text of another kind.


def read_json(text):
    """From one JSON list, an object that holds one, or a single entry."""
    data = parse(text)
    if isinstance(data, dict) and not form_of(data):
        lists = [value for value in data.values() if isinstance(value, list)]
        return (lists[0], "JSON object with one list") if len(lists) == 1 else (None, None)
    return ([data], "JSON Lines") if isinstance(data, dict) else (data if isinstance(data, list) else None, "JSON list")


def read_json_lines(text):
    """From a JSON object on each line; None stands for a line that isn't JSON."""
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]  # splitlines() would split within strings
    if not lines or not isinstance(parse(lines[0]), dict):
        return None, None
    return [parse(line) for line in lines], "JSON Lines"


def parse(text):
    """What a text says in JSON; None if it isn't JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_csv(text):
    """From CSV with a header, separated by commas, semicolons or tabs. Raises csv.Error for a quote left open."""
    csv.field_size_limit(2**31 - 1)
    other = None, None
    for delimiter in ",;\t":
        header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if text.strip() else [[]]
        keys = [key.strip().lower() for key in header]
        records = [dict(zip(keys, row)) | ({TOO_MANY: row[len(keys):]} if len(row) > len(keys) else {})
                   for row in rows if row]
        if form_of(dict.fromkeys(keys)):
            list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))  # are all quotes closed?
            return records, "CSV"
        if len(keys) > 1 and rows and len(rows[0]) == len(keys):
            other = records, "CSV"
    return other


# --- From any form to one ---


class EntryFault(ValueError):
    """What is wrong with one entry, in words that follow a number of entries."""


NO_KEYS = "without the keys of a known form"
TOO_MANY = "fields beyond the header's"  # the key for them, in a row of CSV that has any


def form_of(record):
    """What the form of a record is known as; None if it is none."""
    for key in CHATS:
        if key in record:
            return f"chats ({key})"
    forms = (form for form, (instruction, output) in KEYS.items() if instruction in record and output in record)
    return next(forms, None)


def to_entry(record):
    """A record of any known form as an entry, its form, and what was changed: (entry, text, list of texts). Raises
    EntryFault."""
    form = form_of(record) if isinstance(record, dict) else None
    if form is None:
        raise EntryFault(NO_KEYS if isinstance(record, dict) else "that are no JSON objects")
    if TOO_MANY in record:
        raise EntryFault("with more fields than the header")
    if form in KEYS:
        used = [*KEYS[form], *INPUTS]
        instruction, output, *inputs = ("" if record.get(key) is None else record.get(key) for key in used)
        if all(inputs):
            raise EntryFault("with both an input and a context")
        context = inputs[0] or inputs[1]
    else:
        used = [key for key in CHATS if key in record]
        (instruction, output), context = from_chat(record[used[0]], *CHATS[used[0]]), ""
    for what, text in (("instruction", instruction), ("input", context), ("output", output)):
        if not isinstance(text, str):
            raise EntryFault(f"with an {what} that is no text")
    for what, text in (("instruction", instruction), ("output", output)):
        if not text.strip():
            raise EntryFault(f"with an empty {what}")
    changed = []
    if context.strip(" <>.[]()\n").lower() in NO_INPUT:
        context, changed = "", ["inputs that say there is none"]
    if output != output.strip():
        changed.append("outputs whose white space at the ends was dropped")
    entry = {"instruction": instruction, "input": context if context.strip() else "", "output": output.strip()}
    return entry | {key: value for key, value in record.items() if key not in (*used, *entry)}, form, changed


def from_chat(turns, speaker, said):
    """Question and answer of a chat that has one of each, a system message going in front: [instruction, output]."""
    try:
        texts = [turn[said] for turn in turns]
        speakers = [SPEAKERS.get(turn[speaker]) for turn in turns]
    except (TypeError, KeyError) as error:
        raise EntryFault("with a chat whose turns lack a speaker or a text") from error
    if speakers[-2:] != ["user", "assistant"] or speakers[:-2] not in ([], ["system"]):
        raise EntryFault("with a chat that isn't one question and one answer")
    *system, question, answer = texts
    if system and isinstance(system[0], str) and system[0].strip() and isinstance(question, str) and question.strip():
        question = f"{system[0]}\n\n{question}"
    return ["" if text is None else text for text in (question, answer)]


def check_text(entry, count_tokens, max_tokens):
    """Raise EntryFault unless the texts of an entry can be read by tokenizer and model."""
    text = entry["instruction"] + entry["input"] + entry["output"]
    try:
        (text + str(entry.get("task", ""))).encode()  # the task is printed
    except UnicodeEncodeError as error:
        raise EntryFault("with text that can't be encoded") from error
    if len(text) > LONGEST_TOKEN * max_tokens:  # a million spaces would be too much for the tokenizer
        raise EntryFault("of absurd length")
    if count_tokens and count_tokens(entry) > max_tokens:
        raise EntryFault(f"with more than the model's {max_tokens:,} tokens")


# --- Scores ---

# Scripts that put no spaces between words, one character a word: Thai, Lao, Tibetan, Burmese, Khmer, Chinese and
# Japanese with their punctuation.
UNSPACED = ("\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff9f"
            "\U00020000-\U0003ffff")


def words(text):
    """The words of a text, with the punctuation that sticks to them; the characters of scripts without spaces."""
    return re.findall(f"[{UNSPACED}]|[^\\s{UNSPACED}]+", text)


def normalize(text):
    """Lower case, with single spaces."""
    return " ".join(text.lower().split())


def exact_match(answer, wanted):
    """1.0 if the texts are equal up to case and white space, else 0.0."""
    return float(normalize(answer) == normalize(wanted))


def token_f1(answer, wanted):
    """Harmonic mean of precision and recall over the words of two texts, 0 to 1; words count as often as they occur."""
    answer, wanted = words(answer.lower()), words(wanted.lower())
    common = (Counter(answer) & Counter(wanted)).total()
    return 2 * common / (len(answer) + len(wanted)) if common else 0.0


def score_table(records):
    """Mean scores per task and in total: {task: (entries, exact before, exact after, F1 before, F1 after)}.

    records: entries with the answers `before` and `after`; those whose `task` is a text are grouped by it.
    """
    groups = defaultdict(list)
    for record in records:
        scores = [score(record[when], record["output"])
                  for score in (exact_match, token_f1) for when in ("before", "after")]
        for group in ({record["task"]} if isinstance(record.get("task"), str) else set()) | {"all"}:
            groups[group].append(scores)
    by_size = sorted(groups.items(), key=lambda group: len(group[1]))
    return {task: (len(rows), *(sum(column) / len(rows) for column in zip(*rows))) for task, rows in by_size}


def markdown_table(header, rows):
    """A table in Markdown whose cells show their texts as they are, on one line each: texts of data are no markup."""
    def cell(text):
        text = html.escape(" ".join(text.split()), quote=False)
        return re.sub(r"([\\`*_{}\[\]#|~$!+-])", lambda sign: f"&#{ord(sign[1])};", text)
    lines = [header, ["---"] * len(header), *(map(cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def count_known(entries, train_entries):
    """How many of the entries ask what a training entry asks, up to case and white space."""
    def question(entry):
        return normalize(entry["instruction"]), normalize(entry["input"])
    known = set(map(question, train_entries))
    return sum(question(entry) in known for entry in entries)
