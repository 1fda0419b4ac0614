"""Makes the notebook's tables, in Markdown, and chooses what they show. Answered entries are those of `scores`."""

import html
import re
from collections import Counter

from engine.texts import marked, translate
from tutorial.messages import shorten
from tutorial.scores import exact_match

WITH_INPUT, WITHOUT_INPUT = marked("with input"), marked("without input")  # the tasks of data that has none


def markdown_table(header, rows):
    """A table in Markdown. header: texts; rows: lists of texts. Markup in cells is escaped, and each cell is one
    line."""
    def cell(text):
        text = html.escape(" ".join(text.split()), quote=False)
        return re.sub(r"([\\`*_{}\[\]#|~$!+-])", lambda sign: f"&#{ord(sign[1])};", text)
    lines = [header, ["---"] * len(header), *(map(cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def task_of(entry):
    """An entry's task; in data without tasks, whether it has an input."""
    return str(entry.get("task", WITH_INPUT if entry["input"] else WITHOUT_INPUT))


def one_of_each(entries):
    """The first entry of each task: {task: entry}. Tasks are in reverse order of their last entry."""
    return {task_of(entry): entry for entry in reversed(entries)}


def shown_task(task):
    """A task as a cell shows it. A name that the tutorial gives, such as "all", is translated; a task of the data
    isn't."""
    return shorten(translate(task) if task in (WITH_INPUT, WITHOUT_INPUT, "all") else task, 30)


def tasks(entries):
    """A table of the most common tasks, up to 20, each with its number of entries and its first entry."""
    first_of = one_of_each(entries)
    return markdown_table(
        [translate("task"), translate("entries"), translate("instruction"), translate("input"), translate("output")],
        [[shown_task(task), str(n),
          *(shorten(first_of[task][part], 80) for part in ("instruction", "input", "output"))]
         for task, n in Counter(map(task_of, entries)).most_common(20)])


def answers(answered, columns):
    """A table of questions with answers, a row for each answered entry. columns: {heading: key of the entry}."""
    return markdown_table([translate("question"), *columns], [
        [f"{entry['instruction']} {entry['input']}", *(shorten(entry[key], 100) for key in columns.values())]
        for entry in answered])


def changes(answer_at):
    """A table of a model's answers in the course of its training, {step: answer}, without those that equal the one
    before."""
    steps = list(answer_at)
    changed = [step for step, before in zip(steps, [None, *steps]) if answer_at[step] != answer_at.get(before)]
    return markdown_table([translate("from step"), translate("answer")],
                          [[str(step), shorten(answer_at[step], 80)] for step in changed])


def scores(by_task):
    """A table of what `score_table` gives, with exact answers as counts. F1 is shown only for data without tasks."""
    header = [translate("task"), translate("questions"), translate("exact before"), translate("exact after")]
    rows = [[shown_task(task), str(n), f"{exact_before * n:.0f}", f"{exact_after * n:.0f}"]
            for task, (n, exact_before, exact_after, *_) in by_task.items()]
    if list(by_task) == ["all"]:
        header += [translate("F1 before"), translate("F1 after")]
        rows[0] += [f"{f1:.2f}" for f1 in by_task["all"][3:]]
    return markdown_table(header, rows)


def improved(answered, n, without=()):
    """Up to n answered entries that fine-tuning made right, each of another task and none of the tasks `without`, in
    the order of `one_of_each`. If it made none right, they are chosen from all answered entries."""
    better = [entry for entry in answered if exact_match(entry["after"], entry["output"])
              and not exact_match(entry["before"], entry["output"])]
    return [entry for task, entry in one_of_each(better or answered).items() if task not in without][:n]
