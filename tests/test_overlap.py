"""Near-duplicates across the parts of a data set, against a plain count, and tasks that a part lacks."""

import itertools
import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorial.overlap import MIN_SIMILARITY, missing_tasks, near_duplicates
from tutorial.scores import normalize


def entry(instruction, output="", **others):
    return {"instruction": instruction, "input": "", "output": output} | others


def similarity(one, other, common=()):
    """Jaccard's index of the pairs of words of two short entries."""
    def pairs(entry):
        words = re.findall(r"\w+", normalize(" ".join(entry[key] for key in ("instruction", "input", "output"))))
        return set(zip(["", *words], [*words, ""])) - set(common)
    both = pairs(one) & pairs(other)
    return len(both) / len(pairs(one) | pairs(other)) if both else 0


def test_near_duplicates_by_hand():
    train = [entry("Name three fruits that grow in warm countries.", "Mango, papaya and banana."),
             entry("Who wrote the book?", "Nobody knows."), entry("Write a poem.", "Roses are red.")]
    test = [entry("Name four fruits that grow in warm countries!", "mango, papaya and banana"),
            entry("Who wrote the book?", "Somebody else."), entry("Write a letter to my aunt.", "Dear aunt.")]
    validation = [entry("Write a letter to my old aunt.", "Dear aunt."), entry("Write a poem", "Roses are red.")]
    counts, worst = near_duplicates({"training": train, "test": test, "validation": validation})
    assert counts == {"test": 1, "validation": 2}  # an exact repetition of the question isn't counted here
    assert worst == [(1.0, validation[1], train[2]), (pytest.approx(11 / 15), test[0], train[0]),
                     (pytest.approx(8 / 11), validation[0], test[2])]


def test_only_the_worst_three_pairs_are_shown():
    train = [entry(f"Tell me about number {number} of the old list", "yes " * 5 + str(number)) for number in range(9)]
    test = [entry(f"Tell me about number {number} of the list", "yes " * 5 + str(number)) for number in range(9)]
    counts, worst = near_duplicates({"training": train, "test": test})
    assert counts == {"test": 9} and len(worst) == 3 and worst == sorted(worst, key=lambda pair: -pair[0])


def test_without_spaces_characters_are_words():
    train = entry("请写出三种生长在温暖国家的水果。", "芒果和香蕉")
    test = entry("请写出四种生长在温暖国家的水果", "芒果和香蕉")
    counts, [(found, *_)] = near_duplicates({"training": [train], "test": [test]})
    assert counts == {"test": 1} and MIN_SIMILARITY < found < 1


def test_long_texts_are_compared_at_both_ends():
    middle = " ".join(f"word{number}" for number in range(1000))
    train = [entry(f"Begin with this {middle} and end with that.", "Done.")]
    test = [entry(f"Begin with this {middle} and end with these.", "Done."), entry(f"Other {middle[::-1]}", "No.")]
    assert near_duplicates({"training": train, "test": test})[0] == {"test": 1}


def test_the_form_of_the_questions_is_no_repetition():
    form = "Below is a word from a list of words. Write its plural, and nothing else but the plural, please: "
    entries = [entry(f"{form}w{number} v{number}", f"x{number}") for number in range(150)]
    assert near_duplicates({"training": entries[:120], "test": entries[120:]}) == ({"test": 0}, [])
    entries[130] = entry(f"{form}w7 v7!", "x7")
    counts, [(_, found, known)] = near_duplicates({"training": entries[:120], "test": entries[120:]})
    assert counts == {"test": 1} and (found, known) == (entries[130], entries[7])


small_texts = st.lists(st.sampled_from(["a", "b", "c", "d,", "E"]), max_size=6).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.lists(st.builds(entry, small_texts, small_texts), max_size=3), max_size=3))
def test_the_counts_are_those_of_a_plain_comparison(parts):
    counts, worst = near_duplicates(dict(enumerate(parts)))
    found, earlier = {}, []
    for number, part in enumerate(parts):
        known = {normalize(entry["instruction"]) for entry in parts[0]}
        if earlier:
            best = [max(similarity(entry, other) for other in earlier)
                    for entry in part if normalize(entry["instruction"]) not in known]
            found[number] = sum(value >= MIN_SIMILARITY for value in best)
        earlier += part
    assert counts == found and len(worst) == min(3, sum(found.values()))
    for value, one, other in worst:
        assert value == pytest.approx(similarity(one, other))


def test_ten_thousand_entries_take_a_few_seconds():
    """In processor time, since other programs may run beside the test. To compare each with each would take minutes."""
    draw = random.Random(123)
    vocabulary = [f"word{number}" for number in range(5000)]
    frequencies = list(itertools.accumulate(1 / (number + 1) for number in range(5000)))

    def text(length):
        return " ".join(draw.choices(vocabulary, cum_weights=frequencies, k=length))
    entries = [entry(text(20), text(40)) for _ in range(10_000)]
    parts = {"training": entries[:8500], "test": entries[8500:9500], "validation": entries[9500:]}
    for number in range(30):
        changed = entries[number]["instruction"].replace(" ", " really ", 1)
        parts["test"][number] = entry(changed, entries[number]["output"])
    start = time.process_time()
    counts, worst = near_duplicates(parts)
    assert time.process_time() - start < 8
    assert counts == {"test": 30, "validation": 0} and all(value > 0.9 for value, *_ in worst)


def test_tasks_that_a_part_lacks():
    parts = {"training": [entry("a", task="plural"), entry("b", task="past"), entry("c")],
             "test": [entry("d", task="past"), entry("e", task=["no", "text"])],
             "validation": [entry("f", task="plural"), entry("g", task="past"), entry("h", task="sum")]}
    assert missing_tasks(parts) == {"training": ["sum"], "test": ["plural", "sum"]}
    assert missing_tasks({"training": [entry("a")], "test": []}) == {}
