"""Scores of answers, and the tables that show them, against results computed by hand."""

import json
import re
from html import unescape

import mistune
import pytest

from tutorial import ROOT
from tutorial.scores import by_wording, count_known, count_right, exact_match, score_table, token_f1, words
from tutorial.tables import markdown_table

ENTRY = {"instruction": "Name a colour.", "input": "", "output": "Blue."}


def test_scores_by_hand():
    assert exact_match(" A  cat\n", "a CAT") and not exact_match("a cat.", "a cat")
    assert token_f1("the the cat", "the cat sat") == pytest.approx(2 * 2 / 6)
    assert token_f1("", "a") == 0.0
    long = [{"output": "a", "before": "", "after": "a", "task": "x" * 60 + end} for end in "12"]
    assert len(score_table(long)) == 3
    records = [{"output": "a b", "before": "", "after": "A b", "task": "x"},
               {"output": "c", "before": "c d", "after": "d", "task": "y"}]
    assert score_table(records)["all"] == (2, 0.0, 0.5, pytest.approx(1 / 3), 0.5)
    without = [{key: record[key] for key in ("output", "before", "after")} for record in records]
    assert count_right(["A b", "d"], records) == 1
    assert set(score_table(without)) == set(score_table([record | {"task": ["z"]} for record in without])) == {"all"}


@pytest.mark.parametrize("text, expected", [
    ("I'm here, now.", ["I'm", "here,", "now."]), ("你好。", ["你", "好", "。"]), ("GPT-2是", ["GPT-2", "是"]),
    ("ありがとう", list("ありがとう")), ("고맙습니다 여러분", ["고맙습니다", "여러분"]), ("a\u3000b", ["a", "b"])])
def test_words_of_scripts_with_and_without_spaces(text, expected):
    assert words(text) == expected


def test_a_missing_full_stop_in_chinese_costs_little():
    assert token_f1("主动语态变成被动语态", "主动语态变成被动语态。") == pytest.approx(20 / 21)


def test_entries_that_are_in_training_are_counted():
    data = json.loads((ROOT / "tests/cases/test_entries_in_training.json").read_text())
    train, test = data[:51], data[51:57]
    assert count_known(test, train) == 6
    train = [ENTRY | {"instruction": f"Name colour {i}."} for i in range(5)] + [ENTRY]
    assert count_known([ENTRY, ENTRY | {"instruction": " name  a COLOUR."}, ENTRY | {"input": "x"}], train) == 2


@pytest.mark.parametrize("text", ["a | b", "*a* _b_ `c`", "<script>x</script>", "# a\n- b", "[a](b)", "$x$ ~~y~~",
                                  "![a](b)", "&amp;", "\\", "a\nb", "It isn't \"so\""])
def test_no_text_of_a_table_is_markup(text):
    table = markdown_table(["one", "two"], [[text, "plain"]])
    html = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "math"])(table)
    [cells] = re.findall(r"<tbody>\s*<tr>\s*<td>(.*?)</td>\s*<td>plain</td>", html, flags=re.DOTALL)
    assert unescape(cells) == " ".join(text.split()) and "<" not in cells


@pytest.mark.parametrize("composed, decomposed", [
    ("caf\u00e9", "cafe\u0301"), ("\u00c5ngstr\u00f6m", "A\u030angstro\u0308m"), ("\u212b", "\u00c5"),
    ("\ud55c\uae00", "\u1112\u1161\u11ab\u1100\u1173\u11af"), ("\u304c", "\u304b\u3099"), ("\u1e69", "s\u0307\u0323"),
    ("\u0130stanbul", "I\u0307stanbul")])
def test_canonically_equal_texts_are_equal(composed, decomposed):
    assert composed != decomposed
    for wanted, answer in ((composed, decomposed), (decomposed, composed)):
        assert exact_match(f"In {answer}.", f"in {wanted}.") == token_f1(f"In {answer}.", f"in {wanted}.") == 1.0
        table = score_table([{"output": wanted, "before": "", "after": answer.upper()}])
        assert table["all"] == (1, 0.0, 1.0, 0.0, 1.0)
    assert count_known([ENTRY | {"input": composed}], [ENTRY | {"input": decomposed}]) == 1


def test_right_answers_are_counted_by_wording():
    answered = [{"task": task, "wording": wording, "output": "a", "after": after} for task, wording, after in (
        ("x", "known", "a"), ("x", "known", "b"), ("x", "new", "a"), ("y", "new", "b"), ("y", "known", "A"),
        ("z", "known", "a"), (["no", "text"], "new", "a"))]
    assert list(by_wording(answered).items()) == [("y", ((1, 1), (0, 1))), ("x", ((1, 2), (1, 1)))]
    assert by_wording([{"task": "x", "output": "a", "after": "a"}]) == {}


def test_texts_that_only_look_alike_are_not():
    assert not any((exact_match("caf\u00e9", "cafe"), exact_match("\ufb01sh", "fish"), exact_match("\u0430", "a")))
