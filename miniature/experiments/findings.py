"""The experiments' numbers as the notebook tells them: short tables, shares for a figure, and sentences.

Each function takes all numbers, as `results.read` gives them. `miniature/README.md` has the whole tables.
"""

from collections import Counter
from statistics import mean, median

from engine.texts import marked, translate
from miniature.corpus import FACTS
from miniature.experiments import catalog, results
from miniature.experiments.faults import FINGERPRINTS
from miniature.experiments.tables import over_tasks
from miniature.recipe import TEST
from tutorial.tables import markdown_table

TUNED = "control", "pretrained"  # the runs of the notebook's recipe
REWRITTEN = [entry["task"] in ("passive voice", "negation", "question") or entry["task"].endswith("rewriting")
             for entry in TEST]
WORDINGS = {kind: [entry["wording"] == kind for entry in TEST] for kind in ("known", "new")}


def mean_count(found, experiment, condition, mark="right", asked=None):
    """How many test answers have a mark: (mean over the seeds, number of questions). asked: which test entries count, a
    list of 110 bools; all, if None."""
    runs = [run[mark] for run in results.of(found, experiment, condition)]
    kept = [i for i, value in enumerate(runs[0]) if value != "-" and (asked is None or asked[i])]
    return mean(sum(marks[i] == "1" for i in kept) for marks in runs), len(kept)


def mean_ones(marks):
    """The mean number of ones in marks, texts such as "01-1", one for each seed."""
    return mean(text.count("1") for text in marks)


def seeds(found):
    """The numbers of right answers of the notebook's recipe, one for each seed, as a text."""
    return translate(", ").join(str(run["right"].count("1")) for run in results.of(found, *TUNED))


def by_wording(found, name, places):
    """A table of right answers in known and in new wordings; places: {head of a column: (experiment, condition)}."""
    return markdown_table([name, *places], [
        [translate(text), *(f"{mean_count(found, *place, asked=WORDINGS[kind])[0]:.0f}" for place in places.values())]
        for kind, text in (("known", marked("right of 55, known wordings")),
                           ("new", marked("right of 55, new wordings")))])


# --- What was learned ---

START = {  # the weights before fine-tuning: the control's condition
    marked("pretrained"): "pretrained",
    marked("random"): "random",
    marked("random, 8 epochs at 4 × the rate"): "random, 8 epochs at 1e-3",
    marked("pretrained embeddings, random blocks"): "pretrained embeddings, random blocks",
    marked("pretrained embeddings, 8 epochs at 4 × the rate"): "pretrained embeddings, random blocks, 8 epochs at 1e-3",
}

EXAMPLES = {**{str(size): ("examples", f"{size}, all steps") for size in (12, 25, 50, 100, 200, 400)}, "935": TUNED}


def control(found):
    """Answers of the right form and exact answers, for each kind of weights: {weights: {what: (number, of)}}."""
    return {start: {marked("right form"): mean_count(found, "control", condition, "form"),
                    marked("exactly right"): mean_count(found, "control", condition)}
            for start, condition in START.items()}


def never_shown(found):
    """Answers in which the wanted word or sentence stands somewhere, by the base model, without and with the task's
    training entries: {task: {model: (number, of)}}."""
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
    return markdown_table([
        translate("task"), translate("questions"), translate("base model"), translate("fine-tuned without this task"),
        translate("with it")], [
        [task, str(of["with it"][1]), *(f"{number:.0f}" for number, _ in of.values())] for task, of in shares.items()])


def examples(found):
    """A table of the scores after training on a part of the entries, in as many steps."""
    return by_wording(found, translate("entries"), EXAMPLES)


# --- What went wrong ---


NO_FINGERPRINT = marked("none"), marked("mean of means")  # conditions without one
SHOWN_AS = {"a space for the line feed": marked("a space for the newline")}  # other names than the experiments'


def fault_atlas(found):
    """A table of the classic mistakes: losses and scores, means over the seeds, and the number to look at first."""
    rows = []
    for fault in catalog.EXPERIMENTS["faults"].conditions:
        runs = results.of(found, "faults", fault)
        losses = [f"{mean(values):.3f}" for values in (
            [run["last loss"] for run in runs], *([run["notes"][-1][i] for run in runs] for i in (2, 3)))
                  ] if runs[0]["notes"] else ["–"] * 3
        chances = [f"{mean(run[name] for run in runs):.2f}" for name in ("P(end)", "P(first token)")]
        rows.append([translate(SHOWN_AS.get(fault, fault)), *losses, f"{mean_count(found, 'faults', fault)[0]:.0f}",
                     *chances, translate(FINGERPRINTS.get(fault, ("", ""))[0])])
    return markdown_table([
        translate("mistake"), translate("training"), translate("validation"), translate("true"), translate("right"),
        translate("P(end)"), translate("P(first)"), translate("look first at")], rows)


def fault_curves(found, faults):
    """The training losses of runs with these faults, {letter: fault}, after 1, 2, 4, ... steps: {letter: {step: loss}},
    each the mean since the step before."""
    return {letter: {step: loss for step, loss, *_ in results.of(found, "faults", fault)[0]["notes"]}
            for letter, fault in faults.items()}


def rates(found):
    """A table of the scores at five learning rates."""
    return by_wording(found, translate("learning rate"), {
        "2.5e-5": ("rates", "2.5e-05"), "8e-5": ("rates", "8e-05"), translate("2.5e-4, the recipe's"): TUNED,
        "8e-4": ("rates", "0.0008"), "2.5e-3": ("rates", "0.0025")})


# --- Sentences, in Markdown ---


def right(found, *place, **options):
    """The mean number of right answers as a text."""
    return f"{mean_count(found, *place, **options)[0]:.0f}"


def about_control(found):
    """What training from other weights gives."""
    random, embeddings = (START[f"{start}, 8 epochs at 4 × the rate"] for start in ("random", "pretrained embeddings"))
    form, of = mean_count(found, "control", random, "form")
    facts = mean_count(found, "control", embeddings, asked=[entry["task"] in FACTS for entry in TEST])
    choices = mean_count(found, "control", embeddings, asked=[entry["task"] == "choice" for entry in TEST])
    rewritten = mean_count(found, "control", embeddings, asked=REWRITTEN)
    return translate(
        "From random weights, after the longer run, {form:.0f} of {of} answers have the right form, and {random} of "
        "110 are right. A thousand examples teach the form. They don't teach what to put into it. Not even the "
        "{sentences} rewritten sentences, which need no fact, are right. With the pretrained embeddings, after the "
        "longer run, {right} of 110 are right: (rounded) {rewritten:.0f} of these {sentences}, {choices:.0f} of the "
        "{lists} choices, but only {facts:.0f} of the {asked} questions about facts. So embeddings and a thousand "
        "examples give much of a skill, but not the facts.").format(
        form=form, of=of, random=right(found, "control", random), right=right(found, "control", embeddings),
        rewritten=rewritten[0], sentences=rewritten[1], choices=choices[0], lists=choices[1], facts=facts[0],
        asked=facts[1])


def about_facts(found):
    """What is known before, and answered after, with a table."""
    base, runs = results.of(found, "facts", "base")[0], results.of(found, "facts", "fine-tuned")
    facts = [(ways, base["ways"][task]) for task, all_ways in base["right ways"].items() for ways in all_ways]
    share = {kind: mean(run[kind].count("1") / len(run[kind]) for run in runs) for kind in ("known", "new")}
    some, every = sum(2 * ways > of for ways, of in facts), sum(ways == of for ways, of in facts)
    table = markdown_table([translate("model"), translate("a fact counts if"), translate("facts")], [
        [translate("base model"), translate("more than half of the text's ways to tell it are completed right"),
         translate("{} of {}").format(f"{some:,}", f"{len(facts):,}")],
        [translate("base model"), translate("all of these ways are"),
         translate("{} of {}").format(f"{every:,}", f"{len(facts):,}")],
        *([translate("fine-tuned"), translate(text), translate("{share} of {number}").format(
            share=f"{share[kind]:.0%}", number=f"{len(runs[0][kind]):,}")] for kind, text in (
                ("known", marked("the answer in a known wording is right")),
                ("new", marked("the answer in a new wording is right"))))])
    return "\n\n".join([
        translate(
            "**Known before, answered after.** We ask for every fact of the pretraining text. The base model completes "
            "the text's own sentences, a dozen or more for each fact. The fine-tuned model is asked about facts that "
            "no training entry has."),
        table,
        translate(
            "By the first count nearly every fact is known. So most of what the fine-tuned model gets wrong isn't "
            "missing knowledge. In section 7, too, most errors mistake the task or the word.")])


def about_never_shown(found):
    """What is answered without training on the task."""
    base, without, shown = (sum(of[model][0] for of in never_shown(found).values())
                            for model in ("base model", "without this task", "with it"))
    return translate(
        "In all, the base model says what is asked for {base:.0f} times out of 110, the model trained without the task "
        "{without:.0f} times, the model trained with it {shown:.0f} times. (The rows are rounded.) Facts often come "
        "out anyway: opposites, past tenses, plurals, categories. Definitions never do, nor do questions: the model "
        "does another task. In three rewriting tasks, and by one answer in *definition*, the base model is ahead: it "
        "recites several forms, often the right one among them. Trained on the other tasks, the model gives one form "
        "only, often the wrong one: which task is meant must be shown."
    ).format(
        base=base, without=without, shown=shown)


def about_parts(found):
    """Where the change is."""
    runs = results.of(found, "parts", "all")
    blocks, embeddings = (mean_ones(run["only"][part] for run in runs) for part in ("all blocks", "token embedding"))
    return translate(
        "Over the seeds, this gives {blocks:.0f} of 110; the fine-tuned embeddings alone, {embeddings:.0f}. And the "
        "change is small: its norm (the root of the sum of its squares) is {change:.1%} of that of the blocks' "
        "weights. And it is simple: replace each matrix's change by the nearest product of two thin matrices, one with "
        "8 columns and one with 8 rows (*rank 8*), and {eight:.0f} are still right. LoRA (section 10) uses this."
    ).format(
        blocks=blocks, embeddings=embeddings, change=mean(run["change"]["all blocks"] for run in runs),
        eight=mean_ones(run["ranks"]["8"]["right"] for run in runs))


def about_heads(found, fetching=None):
    """Which head looks at the word of the task, and what is lost without it. fetching: the name of the head that
    section 5 shows, such as "4.1" for head 1 of layer 4."""
    base, runs = over_tasks(results.of(found, "heads", "base")[0]["looks"]["task"]), results.of(found, "heads",
                                                                                               "fine-tuned")
    weights = [over_tasks(run["looks"]["task"])["weight"] for run in runs]
    (head, times), = Counter(max(of, key=of.get) for of in weights).most_common(1)
    layer, number = head.split(".")
    whole = mean_ones(run["all heads"] for run in runs)
    without = {name: mean_ones(run["without"][name] for run in runs) for name in runs[0]["without"]}
    worst = min(without, key=without.get)
    about = translate(
        "In {times} of {seeds} seeds the head that looks most at the word that names the task is head {number} of "
        "layer {layer}. Over all questions of the test with such a word, its weight there goes from {before:.2f} to "
        "{after:.2f}. Is it needed? Without it, {without:.0f} of 110 answers are right instead of {whole:.0f}; with "
        "another head removed instead, {middle:.0f} in the median. The worst is to lose head {worst_number} of layer "
        "{worst_layer}: {worst:.0f} are right then.").format(
        times=times, seeds=len(runs), number=number, layer=layer, before=base["weight"][head],
        after=mean(of[head] for of in weights), without=without[head], whole=whole, worst=without[worst],
        middle=median(without.values()), worst_number=worst.split(".")[1],
        worst_layer=worst.split(".")[0])
    if worst != fetching:
        return about
    return about + translate(" It is the one of section 5, which fetches *glass*.")


def about_examples(found):
    """What few entries give, and more of them."""
    share = {size: mean_count(found, *place)[0] / len(TEST) for size, place in EXAMPLES.items()}
    return translate(
        "With 12 entries, fewer than there are tasks, already about {few:.0%} of the answers are right. Going from 400 "
        "to 935 adds about {more:.0f} of {of}.").format(
        few=share["12"], more=len(TEST) * (share["935"] - share["400"]), of=len(TEST))


def about_refusals(found):
    """What 120 refusals teach."""
    before, after = (results.of(found, "refusals", f"{which} refusals") for which in ("without", "with"))
    refused = {name: mean_ones(run["refused"][name] for run in after) for name in after[0]["refused"]}
    score_before, score_after = (mean_ones(run["right"] for run in runs) for runs in (before, after))
    [(refusal, times)] = Counter(after[0]["to unknown words"]).most_common(1)
    return translate(
        "Afterwards {known:.0f} of 40 questions about other unknown words are refused in known wordings, {new:.0f} of "
        "40 in new ones (any answer that begins *I do not know* counts). It costs little: of the test's 110 questions "
        "the model refuses {wrongly:.0f}, and exact answers go from {before:.0f} to {after:.0f}. But it hasn't learned "
        "to tell what it knows from what it doesn't. It has only learned a sign: a token that pretraining never used, "
        "in a question of a known kind. It even names the wrong word: of ten refusals in one run, {times} say "
        "*{refusal}* And of ten questions of other kinds, such as *Who wrote Hamlet?*, it refuses {outside:.0f}."
    ).format(
        known=refused["unknown words, known wordings"], new=refused["unknown words, new wordings"],
        wrongly=refused["test"], before=score_before, after=score_after, outside=refused["outside"],
        refusal=refusal, times=times)


def about_lora(found):
    """What adapters reach."""
    return translate(
        "The whole training with adapters of rank 8, at ten times the learning rate, gives {eight} of 110 exact "
        "answers; with all weights it gives {whole}. Rank 1 gives {one}. (Means over the seeds.)").format(
        eight=right(found, "lora", "8"), whole=right(found, *TUNED), one=right(found, "lora", "1"))
