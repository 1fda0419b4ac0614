"""The experiments' numbers as the notebook tells them: short tables, shares for a figure, and sentences.

Each function takes all numbers, as `results.read` gives them. `miniature/README.md` has the whole tables.
"""

import json
from collections import Counter
from statistics import mean, median

from miniature.corpus import FACTS
from miniature.experiments import catalog, results
from miniature.experiments.faults import FINGERPRINTS
from miniature.experiments.tables import over_tasks
from tutorial.scores import markdown_table

TEST = json.loads(results.DATA.read_text(encoding="utf-8"))[935:1045]
TUNED = "control", "pretrained"  # the runs of the notebook's recipe
WORDINGS = {kind: [entry["wording"] == kind for entry in TEST] for kind in ("known", "new")}


def mean_count(found, experiment, condition, mark="right", asked=None):
    """How many test answers have a mark: (mean over the seeds, number of questions). asked: which test entries count, a
    list of 110 bools; all, if None."""
    runs = [run[mark] for run in results.of(found, experiment, condition)]
    kept = [i for i, value in enumerate(runs[0]) if value != "-" and (asked is None or asked[i])]
    return mean(sum(marks[i] == "1" for i in kept) for marks in runs), len(kept)


def seeds(found):
    """The numbers of right answers of the notebook's recipe, one for each seed, as a text."""
    return ", ".join(str(run["right"].count("1")) for run in results.of(found, *TUNED))


def by_wording(found, name, places):
    """A table of right answers in known and in new wordings; places: {head of a column: (experiment, condition)}."""
    return markdown_table([name, *places], [
        [f"right of 55, {kind} wordings", *(f"{mean_count(found, *place, asked=asked)[0]:.0f}"
                                            for place in places.values())] for kind, asked in WORDINGS.items()])


# --- What was learned ---

START = {  # the weights before fine-tuning: the control's condition
    "pretrained": "pretrained",
    "random": "random",
    "random, 8 epochs at 4 × the rate": "random, 8 epochs at 1e-3",
    "pretrained embeddings, random blocks": "pretrained embeddings, random blocks",
    "the same, 8 epochs at 4 × the rate": "pretrained embeddings, random blocks, 8 epochs at 1e-3",
}


def control(found):
    """Answers of the right form and exact answers, for each kind of weights: {weights: {what: (number, of)}}."""
    return {start: {"right form": mean_count(found, "control", condition, "form"),
                    "exactly right": mean_count(found, "control", condition)} for start, condition in START.items()}


def never_shown(found):
    """Answers that say what is asked for, by the base model, without and with the task's training entries: {task:
    {model: (number, of)}}."""
    shares = {}
    for task in sorted({entry["task"] for entry in TEST}):
        asked = [entry["task"] == task for entry in TEST]
        shares[task] = {name: mean_count(found, *place, "says", asked) for name, place in {
            "base model": ("control", "pretrained, not fine-tuned"), "without this task": ("never shown", task),
            "with it": TUNED}.items()}
    return shares


def never_shown_table(found):
    """That as a table."""
    shares = never_shown(found)
    return markdown_table(["task", "questions", "base model", "fine-tuned without this task", "with it"], [
        [task, str(of["with it"][1]), *(f"{number:.0f}" for number, _ in of.values())] for task, of in shares.items()])


def examples(found):
    """A table of the scores after training on a part of the entries, in as many steps."""
    sizes = (12, 25, 50, 100, 200, 400)
    return by_wording(found, "entries", {str(size): ("examples", f"{size}, all steps") for size in sizes}
                      | {"935": TUNED})


# --- What went wrong ---


def fault_atlas(found):
    """A table of the classic mistakes: losses and scores, means over the seeds, and the number to look at first."""
    rows = []
    for fault in catalog.EXPERIMENTS["faults"].conditions:
        runs = results.of(found, "faults", fault)
        losses = [f"{mean(values):.3f}" for values in (
            [run["last loss"] for run in runs], *([run["notes"][-1][i] for run in runs] for i in (2, 3)))
                  ] if runs[0]["notes"] else ["–"] * 3
        chances = [f"{mean(run[name] for run in runs):.2f}" for name in ("P(end)", "P(first token)")]
        rows.append([fault, *losses, f"{mean_count(found, 'faults', fault)[0]:.0f}", *chances,
                     FINGERPRINTS.get(fault, ("", ""))[0]])
    return markdown_table(["mistake", "training", "validation", "true", "right", "P(end)", "P(first)", "look first at"],
                          rows)


def fault_curves(found, faults):
    """The training losses of runs with these faults, {letter: fault}, after 1, 2, 4, ... steps: {letter: {step: loss}},
    each the mean since the step before."""
    return {letter: {step: loss for step, loss, *_ in results.of(found, "faults", fault)[0]["notes"]}
            for letter, fault in faults.items()}


def rates(found):
    """A table of the scores at five learning rates."""
    return by_wording(found, "learning rate", {
        "2.5e-5": ("rates", "2.5e-05"), "8e-5": ("rates", "8e-05"), "2.5e-4, the recipe's": TUNED,
        "8e-4": ("rates", "0.0008"), "2.5e-3": ("rates", "0.0025")})


# --- Sentences, in Markdown ---


def right(found, *place, **options):
    """The mean number of right answers as a text."""
    return f"{mean_count(found, *place, **options)[0]:.0f}"


def about_control(found):
    """What training from other weights gives."""
    random, embeddings = START["random, 8 epochs at 4 × the rate"], START["the same, 8 epochs at 4 × the rate"]
    form, of = mean_count(found, "control", random, "form")
    facts = mean_count(found, "control", embeddings, asked=[entry["task"] in FACTS for entry in TEST])
    return (f"From random weights, after the longer run, {form:.0f} of {of} answers have the right form, and "
            f"{right(found, 'control', random)} of 110 are right. A thousand examples teach the form. They don't teach "
            f"what to put into it. With the pretrained embeddings {right(found, 'control', embeddings)} are right, "
            f"nearly all of them rewritten sentences; of the {facts[1]} questions about facts only {facts[0]:.0f}. So "
            "the embeddings alone don't hold the facts. They help to copy and to change words.")


def about_facts(found):
    """What is known before, and answered after."""
    base, runs = results.of(found, "facts", "base")[0], results.of(found, "facts", "fine-tuned")
    facts = [(ways, base["ways"][task]) for task, all_ways in base["right ways"].items() for ways in all_ways]
    known, new = (mean(run[kind].count("1") / len(run[kind]) for run in runs) for kind in ("known", "new"))
    half, every = sum(2 * ways > of for ways, of in facts), sum(ways == of for ways, of in facts)
    return (f"**Known before, answered after.** The pretraining text tells {len(facts):,} facts, each in a dozen ways "
            f"or more. In more than half of these ways the base model knows {half:,} of them, in every way {every:,}. "
            f"The fine-tuned model is asked about {len(runs[0]['known']):,} of them that no training entry has. It "
            f"answers {known:.0%} in known wordings and {new:.0%} in new ones. So most of what it gets wrong isn't "
            "missing knowledge. It misreads the question, mostly in new wordings. Some answers are wrong facts, mainly "
            "sums.")


def about_never_shown(found):
    """What is answered without training on the task."""
    base, without, shown = (sum(of[model][0] for of in never_shown(found).values())
                            for model in ("base model", "without this task", "with it"))
    return (f"Over all tasks, {base:.0f} of 110 answers of the base model say what is asked for, {without:.0f} without "
            f"the task's entries, {shown:.0f} with them. Facts often come out untrained: opposites, past tenses, "
            "plurals, categories. Questions and definitions never do. There the model does another task, one that it "
            "was shown. So fine-tuning teaches more than a form: it also teaches which task is meant.")


def about_parts(found):
    """Where the change is."""
    runs = results.of(found, "parts", "all")
    only = {part: mean(run["only"][part].count("1") for run in runs) for part in ("all blocks", "token embedding")}
    eight = mean(run["ranks"]["8"]["right"].count("1") for run in runs)
    change = mean(run["change"]["all blocks"] for run in runs)
    return (f"Over the seeds: the fine-tuned blocks in the base model answer {only['all blocks']:.0f} of 110, the "
            f"fine-tuned embeddings alone {only['token embedding']:.0f}. And the change is small. It is {change:.1%} "
            f"of the blocks' weights, measured by their norm; cut to rank 8, it still gives {eight:.0f}.")


def about_heads(found):
    """Which head looks at the word of the task, and what is lost without it."""
    base, runs = over_tasks(results.of(found, "heads", "base")[0]["looks"]["task"]), results.of(found, "heads",
                                                                                               "fine-tuned")
    weights = [over_tasks(run["looks"]["task"])["weight"] for run in runs]
    (head, seeds), = Counter(max(of, key=of.get) for of in weights).most_common(1)
    layer, number = head.split(".")
    scores = [mean(marks.count("1") for marks in of) for of in (
        [run["all heads"] for run in runs], [run["without"][head] for run in runs])]
    others = sorted(mean(run["without"][name].count("1") for run in runs) for name in runs[0]["without"])
    return (f"In {seeds} of {len(runs)} seeds the head that looks most at the word that names the task is head "
            f"{number} of layer {layer}. Over all such questions of the test its weight there goes from "
            f"{base['weight'][head]:.2f} to {mean(of[head] for of in weights):.2f}. Is it needed? Switched off, "
            f"{scores[1]:.0f} of 110 answers are right instead of {scores[0]:.0f}. Other heads matter, too: with one "
            f"of the 16 switched off, it is {others[0]:.0f} to {others[-1]:.0f}, and {median(others):.0f} in the "
            "middle.")


def about_refusals(found):
    """What 120 refusals teach."""
    before, after = (results.of(found, "refusals", f"{which} refusals") for which in ("without", "with"))
    refused = {name: mean(run["refused"][name].count("1") for run in after) for name in after[0]["refused"]}
    scores = [mean(run["right"].count("1") for run in runs) for runs in (before, after)]
    return (f"Afterwards {refused['unknown words, known wordings']:.0f} of 40 questions about other unknown words are "
            f"refused in known wordings, {refused['unknown words, new wordings']:.0f} of 40 in new ones. It costs "
            f"little: {refused['test']:.0f} of the test's 110 are refused wrongly, and exact answers go from "
            f"{scores[0]:.0f} to {scores[1]:.0f}. But the model hasn't learned what it knows. It has only learned to "
            "recognise tokens that pretraining never used; its refusals always name the same few words. And of ten "
            f"questions from outside its world, such as *Who wrote Hamlet?*, it refuses {refused['outside']:.0f}.")


def about_lora(found):
    """What adapters reach."""
    return (f"The whole training with adapters of rank 8 gives {right(found, 'lora', '8')} of 110 exact answers, with "
            f"all weights {right(found, *TUNED)}; rank 1 gives {right(found, 'lora', '1')} (means over the seeds).")
