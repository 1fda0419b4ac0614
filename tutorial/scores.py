"""Scores a model's answers.

An answered entry is an entry with the answers `before` and `after` fine-tuning.
"""

import re
import unicodedata
from collections import Counter, defaultdict

# Scripts without spaces between words, in which each character counts as a word: Thai, Lao, Tibetan, Burmese, Khmer,
# Chinese and Japanese, with their punctuation.
UNSPACED = ("\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff9f"
            "\U00020000-\U0003ffff")


def words(text):
    """The words of a text, with adjacent punctuation; in scripts without spaces, its characters."""
    return re.findall(f"[{UNSPACED}]|[^\\s{UNSPACED}]+", text)


def normalize(text):
    """The text in lower case, with single spaces and with composed characters (Unicode's NFC)."""
    return " ".join(unicodedata.normalize("NFC", text.lower()).split())


def exact_match(answer, wanted):
    """Whether the texts are equal except for case, whitespace and the encoding of composed characters."""
    return normalize(answer) == normalize(wanted)


def token_f1(answer, wanted):
    """F1, the harmonic mean of precision and recall over the words of two texts, 0 to 1, as in SQuAD (Rajpurkar et al.,
    2016), but punctuation and articles count. A repeated word counts each time."""
    answer, wanted = words(normalize(answer)), words(normalize(wanted))
    common = (Counter(answer) & Counter(wanted)).total()
    return 2 * common / (len(answer) + len(wanted)) if common else 0.0


def score_table(answered):
    """The mean scores of answered entries, 0 to 1, for each task and for "all":
    {task: (number of entries, exact before, exact after, F1 before, F1 after)}.

    Tasks with few entries come first, "all" comes last. Entries whose `task` isn't a text count in "all" only.
    """
    groups = defaultdict(list)
    for entry in answered:
        scores = [score(entry[when], entry["output"])
                  for score in (exact_match, token_f1) for when in ("before", "after")]
        task = entry.get("task")
        for group in {"all", task} if isinstance(task, str) else {"all"}:
            groups[group].append(scores)
    by_size = sorted(groups.items(), key=lambda group: (group[0] == "all", len(group[1])))
    return {task: (len(rows), *(sum(column) / len(rows) for column in zip(*rows))) for task, rows in by_size}


def by_wording(answered):
    """How many questions in known and in new wordings are answered exactly after fine-tuning, for each task that has
    both: {task: ((right, number), (right, number))}. Empty for entries that don't say their wording.

    Tasks with few questions in known wordings come first.
    """
    known, new = (right_by_task([entry for entry in answered if entry.get("wording") == kind])
                  for kind in ("known", "new"))
    shared = sorted((task for task in known if task in new), key=lambda task: len(known[task]))
    return {task: tuple((sum(right[task]), len(right[task])) for right in (known, new)) for task in shared}


def right_by_task(answered):
    """Whether the entries of each task are answered exactly after fine-tuning: {task: list of bool}. Entries whose
    `task` isn't a text are left out."""
    right = defaultdict(list)
    for entry in answered:
        if isinstance(entry.get("task"), str):
            right[entry["task"]].append(exact_match(entry["after"], entry["output"]))
    return right


def question(entry):
    """What an entry asks, without differences in case and whitespace: (instruction, input)."""
    return normalize(entry["instruction"]), normalize(entry["input"])


def count_known(entries, train_entries):
    """How many of the entries ask the same as a training entry, except for case and whitespace."""
    known = set(map(question, train_entries))
    return sum(question(entry) in known for entry in entries)


def count_right(answers, entries):
    """How many of the entries are answered exactly as wanted."""
    return sum(exact_match(answer, entry["output"]) for answer, entry in zip(answers, entries, strict=True))
