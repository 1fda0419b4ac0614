"""The experiments' numbers as tables, written between markers into `miniature/README.md`.

Every table is made from the file of numbers alone. A share is the mean over seeds; ± is its standard deviation over
them, and in brackets stands Wilson's interval of 95% for as many questions as were asked.
"""

import re
from statistics import mean, stdev

from miniature.corpus import FACTS
from miniature.experiments import catalog, results
from miniature.experiments.faults import FINGERPRINTS
from miniature.experiments.influence import MISTAKES
from miniature.experiments.parts import PARTS
from miniature.experiments.questions import UNSHOWN, fact_of
from miniature.experiments.trainings import CONTROL, EPOCHS, RANKS, RATES, SIZES
from miniature.recipe import RECIPE, TEST, TRAIN
from miniature.tasks import TASKS
from tutorial import ROOT
from tutorial.intervals import fisher, mcnemar, wilson

README = ROOT / "miniature/README.md"
KNOWN, NEW = ([i for i, entry in enumerate(TEST) if entry["wording"] == kind] for kind in ("known", "new"))
ALL = range(len(TEST))

# --- Numbers as texts ---


def counts(marks, places=ALL):
    """How many of the marks at these places are 1, in each seed: [(successes, number), ...]."""
    return [(sum(mark[i] == "1" for i in places), sum(mark[i] != "-" for i in places)) for mark in marks]


def share(marks, places=ALL):
    """A share as a text: mean and deviation over seeds, and the interval for this number of questions."""
    successes, numbers = zip(*counts(marks, places))
    low, high = wilson(mean(successes), numbers[0])
    return f"{spread([s / n for s, n in zip(successes, numbers)], '.0%')} [{low * 100:.0f}–{high * 100:.0f}]"


def spread(values, form):
    """Mean and deviation over seeds."""
    deviation = f" ± {stdev(values):{form}}" if len(values) > 1 else ""
    return f"{mean(values):{form}}{deviation}".replace("% ±", " ±")


def most(marks):
    """What is right in most seeds: a list of bools."""
    return [sum(mark[i] == "1" for mark in marks) * 2 > len(marks) for i in range(len(marks[0]))]


def p_value(p):
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def column(runs, name):
    return [numbers[name] for numbers in runs]


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


# --- One function for each experiment: from {(experiment, condition, seed): numbers} to a text ---


def control(found):
    reference = most(column(results.of(found, "control", "pretrained"), "right"))
    rows = []
    for condition in CONTROL:
        runs = results.of(found, "control", condition)
        marks = column(runs, "right")
        against = "" if condition == "pretrained" else p_value(mcnemar(reference, most(marks)))
        rows.append([condition, share(marks, KNOWN), share(marks, NEW), share(column(runs, "form")),
                     share(column(runs, "says")), spread(column(runs, "validation loss"), ".3f"), against])
    return table(["weights before fine-tuning", "right, known wordings (55)", "right, new wordings (55)",
                  "right form (70)", "says what is asked for (110)", "validation loss", "p"], rows)


def two_by_two(knows, answers):
    """Known or not before, against answered or not after: the four counts and the p of an exact test."""
    pairs = list(zip(knows, answers))
    cells = [[sum(pair == (known, answered) for pair in pairs) for answered in (True, False)]
             for known in (True, False)]
    return [*cells[0], *cells[1], p_value(fisher(cells))]


def facts(found):
    base, runs = results.of(found, "facts", "base")[0], results.of(found, "facts", "fine-tuned")
    asked = [(i, fact_of(entry)) for i, entry in enumerate(TEST) if fact_of(entry)]
    answered = most(column(results.of(found, "control", "pretrained"), "right"))
    answers = {f"the test's {len(asked)} questions about facts": ([fact for _, fact in asked],
                                                                  [answered[i] for i, _ in asked])}
    for kind in ("known", "new"):
        answers[f"all {len(UNSHOWN):,} facts that no training entry has, {kind} wordings"] = (
            UNSHOWN, most(column(runs, kind)))
    rows = []
    for which, (asked_facts, marks) in answers.items():
        ways = [(base["right ways"][task][i], base["ways"][task]) for task, i in asked_facts]
        for how, knows in (("in one way at least", [right > 0 for right, _ in ways]),
                           ("in more than half of the ways", [2 * right > all_ways for right, all_ways in ways]),
                           ("in all ways", [right == all_ways for right, all_ways in ways])):
            rows.append([which, how, *two_by_two(knows, marks)])
    first = table(["questions", "known before", "known, answered", "known, not answered", "not known, answered",
                   "not known, not answered", "p"], rows)

    rows = []
    for task in FACTS:
        places = [n for n, (of, _) in enumerate(UNSHOWN) if of == task]
        told = [base["told"][task][UNSHOWN[n][1]] for n in places]
        all_right, ways = [base["right ways"][task][UNSHOWN[n][1]] for n in places], base["ways"][task]
        cells = [task, len(places), ways, f"{sum(right == ways for right in all_right) / len(places):.0%}"]
        for kind in ("known", "new"):
            marks = most(column(runs, kind))
            by = {mark: [times for times, n in zip(told, places) if marks[n] == mark] for mark in (True, False)}
            cells += [share(column(runs, kind), places),
                      " / ".join(f"{mean(times):.0f}" if times else "–" for times in by.values())]
        rows.append(cells)
    second = table(["task", "facts", "ways", "known in all ways", "answered, known wordings",
                    "times told: right / wrong", "answered, new wordings", "times told: right / wrong"], rows)
    return f"{first}\n\n{second}"


def faults(found):
    rows = []
    for fault in catalog.EXPERIMENTS["faults"].conditions:
        runs = results.of(found, "faults", fault)
        losses, last = column(runs, "last loss"), [notes[-1] for notes in column(runs, "notes") if notes]
        trained = [spread(losses, ".3f"), spread([note[2] for note in last], ".3f"),
                   spread([note[3] for note in last], ".3f")] if last else ["–"] * 3
        answer = runs[0]["answer"].replace("\n", "⏎").replace("|", "\\|")
        rows.append([fault, *trained, share(column(runs, "right")),
                     f"{mean(column(runs, 'begins right')) / len(TEST):.0%}", spread(column(runs, "P(end)"), ".2f"),
                     spread(column(runs, "P(first token)"), ".2f"), f"{mean(column(runs, 'mean length')):.0f}",
                     answer[:40] + "…" * (len(answer) > 40), FINGERPRINTS.get(fault, ["–"])[0]])
    return table(["mistake", "training loss, last 16 steps", "validation loss, as the run shows it",
                  "true validation loss", "right (110)", "begins right", "P(end)", "P(first token)", "tokens",
                  '"sum of 2 and 14?" (seed 0)', "look first at"], rows)


def scores(found, experiment, conditions, name):
    """A table of the trainings that differ in one thing. The recipe's own is the control's."""
    rows = []
    for condition in map(str, conditions):
        runs = results.of(found, experiment, condition) or results.of(found, "control", "pretrained")
        rows.append([condition, share(column(runs, "right"), KNOWN), share(column(runs, "right"), NEW),
                     spread(column(runs, "validation loss"), ".3f")])
    return table([name, "right, known wordings (55)", "right, new wordings (55)", "validation loss"], rows)


def examples(found):
    return scores(found, "examples", [f"{size}, {how_long}" for how_long in ("two epochs", "all steps")
                                      for size in (*SIZES, len(TRAIN))], "entries")


def rates(found):
    return scores(found, "rates", sorted((*RATES, RECIPE["learning_rate"])), "learning rate")


def epochs(found):
    return scores(found, "epochs", sorted((*EPOCHS, RECIPE["num_epochs"])), "epochs")


def lora(found):
    return scores(found, "lora", RANKS, "rank")


def never_shown(found):
    shown, base = results.of(found, "control", "pretrained"), results.of(found, "control", "pretrained, not fine-tuned")
    rows = []
    for task in TASKS:
        runs = results.of(found, "never shown", task)
        places = [i for i, entry in enumerate(TEST) if entry["task"] == task]
        others = [i for i in ALL if i not in places]
        rows.append([task, len(places), share(column(shown, "right"), places), share(column(runs, "right"), places),
                     share(column(runs, "says"), places), share(column(base, "says"), places),
                     share(column(runs, "right"), others), runs[0]["answers"][0].replace("\n", "⏎")[:60]])
    return table(["task left out", "questions", "right, shown", "right, never shown", "says it, never shown",
                  "says it, base model", "right, other tasks", "its first answer (seed 0)"], rows)


def over_tasks(looks):
    """What `heads.looks` gives for single tasks, for all of them together: places, and weight and most by head. Sums
    ask about numbers, not words, and aren't among them."""
    looks = [of for task, of in looks.items() if task != "addition"]
    places = sum(of["places"] for of in looks)

    def by_head(name, factor):
        return {f"{layer + 1}.{head + 1}": sum(of[name][layer][head] * factor(of) for of in looks)
                for layer, row in enumerate(looks[0][name]) for head in range(len(row))}
    return {"places": places, "weight": by_head("weight", lambda of: of["places"] / places),
            "most": by_head("most", lambda of: 1)}


def heads(found):
    base, runs = results.of(found, "heads", "base")[0], results.of(found, "heads", "fine-tuned")
    rows, by_task, chosen = [], [], []
    for what, text in (("task", "the word of the task"), ("word", "the word asked about")):
        before, response = (over_tasks(base["looks"][at]) for at in (what, "Response"))
        for seed, numbers in enumerate(runs):
            after, response_after = (over_tasks(numbers["looks"][at]) for at in (what, "Response"))
            first, second = sorted(after["weight"], key=after["weight"].get)[:-3:-1]
            chosen.append(first)
            rows.append([text, seed, first, *(f"{of['weight'][first]:.2f}" for of in (before, after)),
                         *(f"{of['most'][first]} of {of['places']}" for of in (before, after)),
                         *(f"{of['weight'][first]:.2f}" for of in (response, response_after)),
                         f"{second}: {after['weight'][second]:.2f}"])
        layer, head = (int(number) - 1 for number in chosen[-len(runs)].split("."))
        for task, of in base["looks"][what].items():
            after = [numbers["looks"][what][task]["weight"][layer][head] for numbers in runs]
            by_task.append([text, task, of["places"], chosen[-len(runs)], f"{of['weight'][layer][head]:.2f}",
                            spread(after, ".2f")])
    where = table(["looks at", "seed", "head", "weight before", "weight after", "most before", "most after",
                   "on Response before", "on Response after", "second"], rows)
    tasks = table(["looks at", "task", "places", "head", "weight before", "weight after"], by_task)

    rows, ways = [], {task: 0 for task in FACTS}
    for entry in TEST:
        if fact := fact_of(entry):
            ways[fact[0]] += base_ways(found, fact[0])
    for task in [*TASKS, "all"]:
        places = [i for i, entry in enumerate(TEST) if task in (entry["task"], "all")]
        cells = [task, share(column(runs, "all heads"), places)]
        for head in sorted(set(chosen)):
            cells.append(share([numbers["without"][head] for numbers in runs], places))
        for numbers in (base["all heads"], *(base["without"][head] for head in sorted(set(chosen)))):
            known = numbers.get(task) if task != "all" else sum(numbers.values())
            cells.append("–" if known is None else f"{known / (ways.get(task) or sum(ways.values())):.0%}")
        rows.append(cells)
    off = [f"without {head}" for head in sorted(set(chosen))]
    lost = table(["task", "right after, all heads", *(f"right after, {text}" for text in off),
                  "known before, all heads", *(f"known before, {text}" for text in off)], rows)

    rows = []
    for head in base["without"]:
        marks = [numbers["without"][head] for numbers in runs]
        p = mcnemar(most(column(runs, "all heads")), most(marks))
        rows.append([head, share(marks), p_value(p),
                     f"{sum(base['without'][head].values()) / sum(ways.values()):.0%}"])
    each = table(["without head", "right after (110)", "p", "known before"], rows)
    return "\n\n".join((where, tasks, lost, each))


def base_ways(found, task):
    return results.of(found, "facts", "base")[0]["ways"][task]


def parts(found):
    runs = results.of(found, "parts", "all")
    rows = [[part, spread([numbers["change"][part] for numbers in runs], ".1%"),
             share([numbers["only"][part] for numbers in runs]), share([numbers["without"][part] for numbers in runs])]
            for part in PARTS]
    exchanged = table(["part", "change, of its norm", "right: base model with this part fine-tuned (110)",
                       "right: fine-tuned model with this part of the base (110)"], rows)
    rows = []
    for rank in map(str, RANKS):
        trained = results.of(found, "lora", rank)
        rows.append([rank, spread([numbers["ranks"][rank]["energy"] for numbers in runs], ".0%"),
                     share([numbers["ranks"][rank]["right"] for numbers in runs]), share(column(trained, "right"))])
    full = [numbers["ranks"]["128"]["right"] for numbers in runs]
    rows.append(["128 (all)", "100%", share(full), "–"])
    ranks = table(["rank", "energy of the matrices' change", "right: change cut to this rank (110)",
                   "right: adapters of this rank trained (110)"], rows)
    return f"{exchanged}\n\n{ranks}"


def refusals(found):
    rows = []
    for condition in catalog.EXPERIMENTS["refusals"].conditions:
        runs = results.of(found, "refusals", condition)
        refused = column(runs, "refused")
        rows.append([condition, *(share([of[name] for of in refused], range(len(refused[0][name]))) for name in (
            "unknown words, known wordings", "unknown words, new wordings", "outside", "test")),
            share(column(runs, "right"), KNOWN), share(column(runs, "right"), NEW)])
    return table(["training", "refuses unknown words, known wordings (40)", "unknown words, new wordings (40)",
                  "questions from outside (10)", "test questions (110)", "right, known wordings (55)",
                  "right, new wordings (55)"], rows)


def influence(found):
    mistakes = found["influence", "cosines", 0]["mistakes"]
    rows = []
    for i in range(MISTAKES):
        mistake, entry = mistakes[i], TEST[mistakes[i]["entry"]]
        asked = " / ".join(filter(None, (entry["instruction"], entry["input"])))
        cells = [asked.replace("|", "\\|"), mistake["answer"],
                 f"{mistake['cosines'][0]:.2f} to {mistake['cosines'][-1]:.2f}, median {mistake['median']:.2f}",
                 f"{mistake['same task']} of 30"]
        for condition in ("none removed", f"mistake {i + 1}: first removed", f"mistake {i + 1}: others removed"):
            runs = [numbers["mistakes"][i] for numbers in results.of(found, "influence", condition)]
            same = sum(numbers["answer"] == mistake["answer"] for numbers in runs)
            cells.append(f"{spread(column(runs, 'wrong'), '.1f')} ({same} of {len(runs)})")
        rows.append(cells)
    return table(["question", "wrong answer", "cosine of the first 30 entries", "of its task",
                  "log P (given): none removed", "first 30 removed", "30 others removed"], rows)


TABLES = {"control": control, "facts": facts, "faults": faults, "examples": examples, "rates": rates, "epochs": epochs,
          "never shown": never_shown, "heads": heads, "parts": parts, "refusals": refusals, "influence": influence}
NEEDS = {"facts": ["control"], "examples": ["control"], "rates": ["control"], "epochs": ["control"],
         "never shown": ["control"], "heads": ["facts"], "parts": ["lora"]}

# --- Into the README ---


def complete(found, name):
    """Whether all runs are there that a table is made of."""
    return all(key in found for key in catalog.runs([name, *NEEDS.get(name, [])]))


def tables(found):
    """The tables of all experiments that are complete: {experiment: text}."""
    return {name: make(found) for name, make in TABLES.items() if complete(found, name)}


def between_markers(text, name, found):
    """The text with the table of an experiment between its markers. Raises ValueError if they aren't there, once."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
    text, number = re.subn(pattern, lambda marks: f"{marks[1]}\n{found}\n\n{marks[2]}", text, flags=re.DOTALL)
    if number != 1:
        raise ValueError(f"{README.name} has the marker <!-- {name} --> {number} times, not once")
    return text


def write():
    """Write the tables into the README."""
    text = README.read_text(encoding="utf-8")
    for name, made in tables(results.read()).items():
        text = between_markers(text, name, made)
        print(f"{name}: written")
    README.write_text(text, encoding="utf-8")
