"""What the models are asked: facts in the instruction set's wordings and in the pretraining text's own ways, words that
the miniature has never read, and questions from outside its world."""

import re

from miniature.corpus import FACTS
from miniature.grammar import article
from miniature.recipe import TEST, TRAIN, VALIDATION
from miniature.tasks import TASKS
from miniature.wordings import QUESTIONS, STATEMENTS
from miniature.words import CATEGORIES
from tutorial.instructions import format_input, format_prompt

# --- Facts ---


def sentence(task, fact):
    """The answer of the instruction set to a question about this fact."""
    capital = {"A_word": "A" + fact["a_word"][1:]} if "a_word" in fact else {}
    return TASKS[task].answer.format(**fact, **capital)


def subject(task, fact):
    """What a question about this fact mentions: the word, or both words of a pair of opposites, or both numbers."""
    if task == "addition":
        return frozenset((fact["a"], fact["b"]))
    return frozenset((fact["word"], fact["answer"])) if task == "antonym" else fact["word"]


FACT_OF = {(task, sentence(task, fact)): (task, i) for task, facts in FACTS.items() for i, fact in enumerate(facts)}


def fact_of(entry):
    """The fact that an entry asks about: (task, index in FACTS[task]); None for a task without facts."""
    return FACT_OF.get((entry["task"], entry["output"]))


SHOWN = {(task, subject(task, FACTS[task][i])) for task, i in filter(None, map(fact_of, TRAIN))}
UNSHOWN = [(task, i) for task, facts in FACTS.items() for i, fact in enumerate(facts)
           if (task, subject(task, fact)) not in SHOWN]  # the facts that no training entry asks about


def question(task, fact, kind, number):
    """An entry that asks about a fact (a dictionary with a word, at least) in one of the known or new wordings."""
    wordings = TASKS[task].wordings(kind)
    instruction, text = wordings[number % len(wordings)]
    output = sentence(task, fact) if "answer" in fact else ""
    return {"instruction": instruction.format(**fact), "input": text.format(**fact), "output": output, "task": task,
            "wording": kind}


def unshown_questions(kind):
    """A question about each of the UNSHOWN facts, the wordings in turn."""
    return [question(task, FACTS[task][i], kind, number) for number, (task, i) in enumerate(UNSHOWN)]


# --- The pretraining text's own ways to ask ---


def ways(task):
    """The ways in which the pretraining text leads up to an answer: [(text before the answer, the answer), ...], both
    with names in braces. They are all statements, and all questions with their answers, that name what is asked about
    before the answer, and nothing of the answer before it."""
    talks = [f"Anna asks: {asked} Ben says: {answer}" for asked, answer in QUESTIONS[task]]
    wanted = {"{a}", "{b}"} if task == "addition" else {"{word}"}
    found = []
    for template in STATEMENTS[task] + talks:
        before, slot, _ = re.split(r"(\{answer\}|\{a_answer\}|$)", template, maxsplit=1)
        named = {name.replace("a_word", "word") for name in re.findall(r"\{\w+\}", before)}
        if slot and wanted <= named <= wanted | {"{name}", "{other}"}:
            found.append((before.strip(), slot))
    return found


def in_own_ways(task, fact):
    """Those ways filled in with a fact: [(text before the answer, the answer), ...]."""
    return [(before.format(**fact, name="Clara", other="David"), slot.format(**fact)) for before, slot in ways(task)]


# --- Answers in other words than the training's ---


CATEGORY_WORDS = {word for members in CATEGORIES.values() for word in members}


def key_of(entry):
    """The part of an entry's answer that is asked for: a word, a number, a definition, or the rewritten sentence."""
    if found := fact_of(entry):
        return str(FACTS[found[0]][found[1]]["answer"])
    return entry["output"].rstrip(".?").rpartition(" is ")[2] if entry["task"] == "choice" else (
        entry["output"].rstrip(".?"))


def says(entry, answer):
    """Whether what is asked for (`key_of`) stands somewhere in an answer. In a choice it must name none of the other
    words."""
    def has(text):
        return bool(re.search(rf"(?<![\w-]){re.escape(text)}(?![\w-])", answer, re.IGNORECASE))
    asked = re.findall(r"[\w-]+", f"{entry['instruction']} {entry['input']}") if entry["task"] == "choice" else []
    others = CATEGORY_WORDS.intersection(asked) - {key_of(entry)}
    return has(key_of(entry)) and not any(map(has, others))


def has_form(entry, answer):
    """Whether an answer has the form of its task's answers, whatever word stands in it. A rewritten sentence has no
    form of its own: None."""
    form = TASKS[entry["task"]].answer
    if entry["task"] not in (*FACTS, "choice"):
        return None
    return bool(re.fullmatch(re.sub(r"\\\{\w+\\\}", ".+", re.escape(form)), answer, re.IGNORECASE))


# --- Words that the pretraining text doesn't have, each a single token after a space, and other worlds ---

UNKNOWN_WORDS = """
    anchor arena attic avenue badge balcony balloon banner barley beacon beard bishop blade bracelet broom bubble buckle
    bullet bundle bunker cabin candy canvas canyon cape cargo cartoon cattle cavern cellar chalk chapel chess choir
    cinema circus clay cliff clinic clown cocktail coffin collar comet compass cone coral cradle crest crown crystal
    curl curve cushion dam decade deck dial diamond dice diploma ditch dock domain donor dragon dust eclipse elbow
    elevator embassy empire envelope essay fairy fan fiber fist flask foam fog fossil fountain fridge frost fungus
    funnel galaxy gallery gem ghost giant ginger glacier goblin grain gravel gum gym habit hail harbor hatch hedge
    helmet herb hinge hood hook hose hut icon ink jail jelly jewel jungle kidney knot lace lantern laser latch lava lawn
    lens lever lid limb lobby locker magnet maple marble marsh mask mast medal mercy meteor mill mist monk moss motel
    motor mud myth nap nest net niche nun oak oath oven oxygen
    palm panel parade
""".split()
REFUSED_TASKS = ("plural", "past tense", "antonym", "category", "definition")
REFUSAL = "I do not know the word {}."


def refusals(words, kind):
    """An entry for each word that asks for its plural, past tense, ... in turn, and is answered by a refusal."""
    asked = [question(REFUSED_TASKS[i % len(REFUSED_TASKS)], {"word": word, "a_word": article(word)}, kind,
                      i // len(REFUSED_TASKS)) for i, word in enumerate(words)]
    return [entry | {"output": REFUSAL.format(word)} for entry, word in zip(asked, words)]


REFUSED_IN_TRAINING, NEVER_REFUSED = UNKNOWN_WORDS[:120], UNKNOWN_WORDS[120:160]
UNKNOWN_KNOWN_WORDING, UNKNOWN_NEW_WORDING = (refusals(NEVER_REFUSED, kind) for kind in ("known", "new"))
OUTSIDE = [{"instruction": text, "input": "", "output": "", "task": "outside", "wording": "new"} for text in (
    "Who wrote Hamlet?", "What is the capital of Australia?", "Translate this into French: Good morning.",
    "How tall is the Eiffel Tower?", "Write a poem about the sea.", "When did the war end?",
    "Which planet is the largest?", "How do I boil an egg?", "Who is the president?", "What is the square root of 81?")]


def phi3_prompt(entry):
    """The template of Phi-3, in which the training entries are not."""
    asked = "\n".join(filter(None, (entry["instruction"], entry["input"])))
    return f"<|user|>\n{asked}<|end|>\n<|assistant|>\n"


def every_text():
    """All texts from which a prompt or an answer is made, besides those of the pretraining text."""
    entries = (TRAIN + TEST + VALIDATION + unshown_questions("known") + unshown_questions("new") + OUTSIDE
               + refusals(REFUSED_IN_TRAINING, "known") + UNKNOWN_KNOWN_WORDING + UNKNOWN_NEW_WORDING)
    for entry in entries:
        yield from (format_prompt(entry), entry["output"])
    for entry in TEST:
        yield from (f"{format_input(entry)}\n\n### Response: ", phi3_prompt(entry))
