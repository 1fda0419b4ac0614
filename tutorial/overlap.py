"""Finds how the parts of a data set overlap: near-duplicates of earlier entries, and tasks that a part lacks.

A test entry that repeats a training entry with one word changed measures less than it seems to. Questions that are
repeated exactly are counted by `scores.count_known`.

The similarity of two entries is Jaccard's index (1901) of their pairs of neighbouring words: the number of pairs that
both have, divided by the number that either has, over instruction, input and output. Case and punctuation are ignored.
Pairs that very many entries share belong to the form of the data and are ignored, too.
"""

import re
from collections import defaultdict
from itertools import count
from typing import NamedTuple

import numpy as np

from engine.texts import marked, translate
from tutorial.messages import shorten
from tutorial.scores import UNSPACED, count_known, normalize, question

PARTS = marked("training"), marked("test"), marked("validation")  # as the notebook names them
MIN_SIMILARITY = 0.6  # the similarity from which an entry is a near-duplicate
EDGE_LENGTH = 200     # longer texts are compared by their first and last EDGE_LENGTH characters


class PairIndex(NamedTuple):
    """Says which entry has which pairs of words. N entries, P pairs."""

    pairs_of: list      # for each entry, the numbers of its pairs: N arrays
    entries_with: list  # for each pair, the indices of the entries that have it: P arrays
    sizes: np.ndarray   # how many pairs each entry has: (N,)


def near_duplicates(parts):
    """How many entries of each part nearly repeat one of an earlier part, and the three most similar: ({part: number},
    list of triples).

    parts: {name: list of entries}, training first; the first part has no number. Questions that repeat one of the
    training exactly don't count. A triple is (similarity, entry, the most similar entry of an earlier part).
    """
    entries = [entry for part in parts.values() for entry in part]
    index = index_pairs(entries)
    counts, found = {}, []
    known = set(map(question, next(iter(parts.values()), [])))
    n_earlier = 0  # the number of the earlier parts' entries
    for name, part in parts.items():
        if n_earlier:
            in_part = list(near_duplicates_in(part, n_earlier, known, index))
            counts[name] = len(in_part)
            found += [(similarity, entry, entries[nearest]) for similarity, entry, nearest in in_part]
        n_earlier += len(part)
    return counts, sorted(found, key=lambda triple: -triple[0])[:3]


def near_duplicates_in(part, n_earlier, known, index):
    """Yields the near-duplicates in one part: (similarity, entry, index of the most similar entry of an earlier part).

    n_earlier: how many entries the earlier parts have; known: the training questions. index: the PairIndex of all
    entries, in which this part's begin at `n_earlier`.
    """
    for number, entry in enumerate(part, start=n_earlier):
        if index.sizes[number] and question(entry) not in known:
            similarity, nearest = most_similar(number, n_earlier, index)
            if similarity >= MIN_SIMILARITY:
                yield similarity, entry, nearest


def most_similar(number, n_earlier, index):
    """Which of the first `n_earlier` entries is most similar to the entry at `number`: (similarity, its index)."""
    own = index.pairs_of[number]
    others = np.concatenate([index.entries_with[pair] for pair in own])     # an entry as often as it shares a pair
    shared = np.bincount(others, minlength=n_earlier)[:n_earlier]           # (n_earlier,)
    similarities = shared / (index.sizes[:n_earlier] + len(own) - shared)   # (n_earlier,), both / either
    nearest = similarities.argmax()
    return float(similarities[nearest]), nearest


def index_pairs(entries):
    """The PairIndex of some entries, without pairs that more than 100 entries have, if these are more than 1% of all.

    M: pairs in entries, a pair counted once in each entry that has it; M': those that are kept.
    """
    entry_of_pair, pairs = word_pairs(entries)                                  # (M,) each
    n_entries_with = np.bincount(pairs)                                         # (P,)
    distinctive = n_entries_with[pairs] <= max(100, len(entries) / 100)         # (M,)
    entry_of_pair, pairs = entry_of_pair[distinctive], pairs[distinctive]       # (M',) each
    sizes = np.bincount(entry_of_pair, minlength=len(entries))                  # (N,)
    by_pair = np.argsort(pairs, kind="stable")                                  # (M',)
    return PairIndex(in_groups(pairs, sizes), in_groups(entry_of_pair[by_pair], np.bincount(pairs)), sizes)


def in_groups(values, sizes):
    """An array (M,) cut into consecutive groups of these sizes, which sum to M: a list of arrays."""
    return np.split(values, np.cumsum(sizes)[:-1])


def word_pairs(entries):
    """The pairs of neighbouring words in each entry, each pair once: (indices of entries, numbers of pairs), two arrays
    (M,), sorted by entry. Texts begin and end with an empty word.

    The two entries "a b" and "b" become the words 0 1 2 0 2 0, in which the empty one is 0. Their W = 5 pairs (0, 1)
    (1, 2) (2, 0) (0, 2) (2, 0) belong to the entries 0 0 0 1 1.
    """
    numbers = defaultdict(count(1).__next__)  # {word: its number}, from 1; the empty word is 0
    words, lengths = [0], []                  # the numbers of all words in turn; the pairs of each entry
    for entry in entries:
        text = f"{entry['instruction']} {entry['input']} {entry['output']}"
        text = normalize(text if len(text) <= 2 * EDGE_LENGTH else f"{text[:EDGE_LENGTH]} {text[-EDGE_LENGTH:]}")
        own = re.findall(f"[{UNSPACED}]|[^\\W{UNSPACED}]+", text)
        words += [*map(numbers.__getitem__, own), 0]
        lengths.append(len(own) + 1)
    words = np.array(words)                                               # (W + 1,), of W pairs with repetitions
    pair_codes = words[:-1] * (len(numbers) + 1) + words[1:]              # (W,), one number for both words
    entry_of_pair = np.repeat(np.arange(len(entries)), lengths)           # (W,)
    _, pairs = np.unique(pair_codes, return_inverse=True)                 # (W,), numbered from 0: each below W
    # One number for an entry and a pair: repetitions of a pair in an entry have the same.
    entry_and_pair = np.unique(entry_of_pair * len(pairs) + pairs)        # (M,)
    return np.divmod(entry_and_pair, len(pairs))


def missing_tasks(parts):
    """The tasks that a part lacks, but another has: {part that lacks any: sorted list of tasks}."""
    tasks = {name: {entry["task"] for entry in part if isinstance(entry.get("task"), str)}
             for name, part in parts.items()}
    lacking = {name: sorted(set().union(*tasks.values()) - own) for name, own in tasks.items()}
    return {name: missing for name, missing in lacking.items() if missing}


def describe_overlap(parts):
    """Lines of text about the overlap of `parts`, which are as in `near_duplicates`: the number of exact and of near
    duplicates in each, the three most similar pairs of entries, and the missing tasks."""
    near, closest = near_duplicates(parts)
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
