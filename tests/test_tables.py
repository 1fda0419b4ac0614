"""The notebook's tables, against rows by hand."""

from tutorial import tables


def record(task="plural", instruction="Plural?", before="", after="", output="cats"):
    return {"instruction": instruction, "input": "cat", "output": output, "task": task, "before": before,
            "after": after}


def rows(table):
    """The cells of a Markdown table without its line of dashes."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "---" not in line]


def test_the_task_of_an_entry_without_one_is_whether_it_has_an_input():
    assert tables.task_of(record()) == "plural"
    assert [tables.task_of({"instruction": "a", "input": given, "output": "b"}) for given in ("", "c")] == [
        "without input", "with input"]


def test_tasks_are_counted_and_shown_by_their_first_entry():
    entries = [record(instruction="One"), record("past", "Two"), record(instruction="Three")]
    assert rows(tables.tasks(entries)) == [["task", "entries", "instruction", "input", "output"],
                                           ["plural", "2", "One", "cat", "cats"], ["past", "1", "Two", "cat", "cats"]]


def test_what_stands_for_a_missing_task_is_translated_where_it_is_shown(monkeypatch):
    monkeypatch.setattr("engine.texts.TRANSLATIONS", {"without input": "ohne Eingabe", "plural": "Mehrzahl"})
    entries = [{"instruction": "a", "input": "", "output": "b"}, record()]
    assert tables.task_of(entries[0]) == "without input"
    assert [row[0] for row in rows(tables.tasks(entries))[1:]] == ["ohne Eingabe", "plural"], "a task is data"


def test_of_each_task_the_first_entry_and_the_task_that_ends_last_is_first():
    entries = [record("a", "1"), record("b", "2"), record("a", "3"), record("c", "4"), record("b", "5")]
    assert [(task, entry["instruction"]) for task, entry in tables.one_of_each(entries).items()] == [
        ("b", "2"), ("c", "4"), ("a", "1")]


def test_answers_have_the_wanted_columns_and_are_cut():
    assert rows(tables.answers([record(after="x" * 200)], {"wanted": "output", "got": "after"})) == [
        ["question", "wanted", "got"], ["Plural? cat", "cats", "x" * 99 + "…"]]


def test_only_changed_answers_are_shown():
    assert rows(tables.changes({0: "a", 1: "a", 2: "b", 4: "b", 8: "a"})) == [
        ["from step", "answer"], ["0", "a"], ["2", "b"], ["8", "a"]]


def test_scores_are_counts_and_means():
    scores = {"plural": (4, 0.25, 0.75, 0.5, 1.0), "all": (4, 0.25, 0.75, 0.5, 1.0)}
    assert rows(tables.scores(scores))[1:] == [["plural", "4", "1", "3"], ["all", "4", "1", "3"]]
    del scores["plural"]
    assert rows(tables.scores(scores))[1] == ["all", "4", "1", "3", "0.50", "1.00"], "F1 for data without tasks"


def test_improved_answers_are_of_different_tasks():
    records = [record("a", after="dogs"), record("b", before="cats", after="cats"), record("c", after="cats"),
               record("c", instruction="Second", after="cats"), record("d", after="cats")]
    assert [(r["task"], r["instruction"]) for r in tables.improved(records, 9)] == [("d", "Plural?"), ("c", "Plural?")]
    assert [r["task"] for r in tables.improved(records, 9, without={"d"})] == ["c"]
    assert len(tables.improved(records, 1)) == 1
    assert [r["task"] for r in tables.improved(records[:2], 9)] == ["b", "a"], "if none was made right, any"
