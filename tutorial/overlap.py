"""How the parts of a data set overlap: entries that nearly repeat one of the training, and tasks that a part lacks.

A test that repeats the training with one word changed measures less than it seems to. Questions that are repeated
exactly are counted by `scores.count_known`.
"""

import re
from collections import defaultdict
from itertools import count

import numpy as np

from engine.texts import marked, translate
from tutorial.data_files import shorten
from tutorial.scores import UNSPACED, count_known, normalize, question

PARTS = marked("training"), marked("test"), marked("validation")  # as the notebook names them
NEAR = 0.6  # the similarity from which an entry is a near repetition
END = 200  # characters at the beginning, and at the end, of a longer text that are compared


def near_repetitions(parts):
    """The entries that nearly repeat one of an earlier part: ({part: number of them}, the three most similar).

    parts: {name: list of entries}, training first. The similarity of two entries is the number of pairs of
    neighbouring words that both have, divided by the number that either has (Jaccard's index), over instruction, input
    and output; case and punctuation don't matter. Pairs of words that more than 100 entries and more than 1 %
    of all have belong to the form of the data and don't count. Questions that are repeated exactly are left out. Each
    of the three is (similarity, entry, the most similar entry of an earlier part).
    """
    entries = [entry for part in parts.values() for entry in part]
    owners, pairs = word_pairs(entries)
    telling = np.bincount(pairs)[pairs] <= max(100, len(entries) / 100)   # pairs that few entries have
    owners, pairs = owners[telling], pairs[telling]
    sizes = np.bincount(owners, minlength=len(entries))                   # how many pairs each entry has: (entries,)
    pairs_of = np.split(pairs, np.cumsum(sizes)[:-1])                     # for each entry, its pairs
    by_pair = np.argsort(pairs, kind="stable")
    entries_with = np.split(owners[by_pair], np.cumsum(np.bincount(pairs))[:-1])  # for each pair, the entries with it
    counts, near, known, first = {}, [], set(), 0
    for name, part in parts.items():  # whose first entry has the index `first` in `entries`
        similar = []
        for own, entry in zip(pairs_of[first:], part):
            if not first or not len(own) or question(entry) in known:
                continue
            others = np.concatenate([entries_with[pair] for pair in own])
            shared = np.bincount(others, minlength=first)[:first]         # pairs in common with each earlier entry
            similarities = shared / (sizes[:first] + len(own) - shared)
            nearest = similarities.argmax()
            if similarities[nearest] >= NEAR:
                similar.append((float(similarities[nearest]), entry, entries[nearest]))
        if first:
            counts[name] = len(similar)
        near += similar
        known.update(map(question, part))
        first += len(part)
    return counts, sorted(near, key=lambda found: -found[0])[:3]


def word_pairs(entries):
    """The pairs of neighbouring words in each entry, without repetitions: (indices of entries, numbers of pairs), two
    arrays of the same length, sorted by entry. Texts begin and end with an empty word."""
    numbers, flat, lengths = defaultdict(count(1).__next__), [0], []
    for entry in entries:
        text = f"{entry['instruction']} {entry['input']} {entry['output']}"
        text = normalize(text if len(text) <= 2 * END else f"{text[:END]} {text[-END:]}")
        words = re.findall(f"[{UNSPACED}]|[^\\W{UNSPACED}]+", text)
        flat += [*map(numbers.__getitem__, words), 0]
        lengths.append(len(words) + 1)
    flat = np.array(flat)
    pairs = flat[:-1] * (len(numbers) + 1) + flat[1:]
    owners = np.repeat(np.arange(len(entries)), lengths)
    # Number the pairs from 0; then sort the pairs of each entry and drop repetitions.
    in_order = np.argsort(pairs, kind="stable")
    pairs[in_order] = np.cumsum(np.diff(pairs[in_order], prepend=-1) > 0) - 1
    numbered = np.sort(owners * (len(pairs) + 1) + pairs)
    numbered = numbered[np.diff(numbered, prepend=-1) > 0]
    return np.divmod(numbered, len(pairs) + 1)


def missing_tasks(parts):
    """The tasks that some part has and another lacks: {part that lacks any: sorted list of tasks}."""
    tasks = {name: {entry["task"] for entry in part if isinstance(entry.get("task"), str)}
             for name, part in parts.items()}
    lacking = {name: sorted(set().union(*tasks.values()) - own) for name, own in tasks.items()}
    return {name: missing for name, missing in lacking.items() if missing}


def describe_overlap(parts):
    """The number of repetitions in each of the `parts`, as in `near_repetitions`, the three most similar pairs of
    entries, and the missing tasks, in lines of text."""
    near, closest = near_repetitions(parts)
    training, *others = parts
    lines = [translate("{part}: {n} of {total} repeat a {training} question exactly, {near} nearly").format(
        part=translate(name), n=count_known(parts[name], parts[training]), total=len(parts[name]),
        training=translate(training), near=near[name]) for name in others]
    for similarity, entry, earlier in closest:
        lines += [f"  {similarity:.0%} {shorten(entry['instruction'] + ' ' + entry['input'], 80)!r}",
                  f"      {shorten(earlier['instruction'] + ' ' + earlier['input'], 80)!r}"]
    lines += [translate("tasks without an entry in {part}: {tasks}").format(
        part=translate(name), tasks=shorten(", ".join(lacking), 200)) for name, lacking in missing_tasks(parts).items()]
    return "\n".join(lines)
