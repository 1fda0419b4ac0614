"""The instruction set: 1,100 entries in Alpaca's format, each with its task, and whether its wording is known.

    python -m miniature.instructions    # writes data/mini-instructions.json, the same bytes every time

The first 85% are for training, the next 10% for the test, the last 5% for validation. What a test or validation entry
asks about (a word, a sum, who does what to whom) occurs in no training entry of the same task. Half of these entries
have new wordings, which no training entry has.
"""

import json
import re
from itertools import cycle, repeat
from random import Random

from miniature.corpus import FACTS, draw_event
from miniature.grammar import article, is_held_out, sentence_forms
from miniature.tasks import TASKS
from miniature.words import CATEGORIES
from tutorial import ROOT

FILE = ROOT / "data/mini-instructions.json"

# The entries that the tutorial shows, one for each part. No other entry has their words or their event.
SHOWN_SPELLING = {
    "instruction": "The following word has a mistake. Correct it.", "input": "Word: possses",
    "output": "The correct spelling is possess.", "task": "spelling", "wording": "known"}
SHOWN_ANTONYM = {
    "instruction": "Name the opposite of offense.", "input": "", "output": "The opposite of offense is defense.",
    "task": "antonym", "wording": "known"}
SHOWN_PASSIVE = {
    "instruction": "Put this sentence into the passive voice: The woman sells the white bread on Friday.", "input": "",
    "output": "The white bread is sold by the woman on Friday.", "task": "passive voice", "wording": "known"}
SHOWN_WORDS = {"possses", "possess", "offense", "defense"}
SHOWN_EVENT = ("woman", "sell", "bread")


def words_of(text):
    return set(re.findall(r"[\w-]+", text))


def draw_facts(random, task, train, held_out):
    """Two lists of facts: for training, and for test and validation. No word that the latter ask about occurs in the
    former."""
    in_wordings = words_of(TASKS[task].known + TASKS[task].new + TASKS[task].answer) | SHOWN_WORDS
    facts = [fact for fact in FACTS[task] if not words_of(f"{fact['word']} {fact['answer']}") & in_wordings
             or task == "definition" and fact["word"] not in in_wordings]
    random.shuffle(facts)
    held = []
    for fact in facts:
        if len(held) < held_out and not any(fact["word"] in (other["word"], other["answer"]) for other in held):
            held.append(fact)
    held_words = {fact["word"] for fact in held}
    rest = [fact for fact in facts if not words_of(f"{fact['word']} {fact['answer']}") & held_words]
    return rest[:train], held


def draw_sums(random, task, train, held_out):
    """The same for sums, each pair of numbers in one order only."""
    sums = random.sample([fact for fact in FACTS[task] if fact["a"] <= fact["b"]], train + held_out)
    sums = [random.choice([fact, {**fact, "a": fact["b"], "b": fact["a"]}]) for fact in sums]
    return sums[:train], sums[train:]


def draw_choices(random, task, train, held_out):
    """The same for choices: three words, one of which belongs to a category. Training has no word of test and
    validation."""
    def draw(members):
        categories = random.sample([c for c in CATEGORIES if c not in ("clothing", "furniture")], 3)  # take "a" or "an"
        words = [random.choice(members[category]) for category in categories]
        order = random.sample(words, 3)
        return {"word": words[0], "category": categories[0], "a_category": article(categories[0]),
                **dict(zip(("first", "second", "third"), order))}
    in_wordings = words_of(TASKS[task].known + TASKS[task].new)
    words = {category: [word for word in members if word not in in_wordings]
             for category, members in CATEGORIES.items()}
    held = {category: random.sample(members, len(members) // 4) for category, members in words.items()}
    rest = {category: [word for word in members if word not in held[category]] for category, members in words.items()}
    return [draw(rest) for _ in range(train)], [draw(held) for _ in range(held_out)]


def draw_sentences(random, task, train, held_out):
    """The same for events, in all their forms. Those for test and validation don't occur in the pretraining text."""
    drawn, seen = {False: [], True: []}, {SHOWN_EVENT}  # drawn: by whether they are held out
    while len(drawn[False]) < train or len(drawn[True]) < held_out:
        subject, verb, adjective, obj, time = draw_event(random)
        if subject != obj and (subject, verb, obj) not in seen:
            seen.add((subject, verb, obj))
            drawn[is_held_out(subject, verb, obj)].append(sentence_forms(subject, verb, adjective, obj, time))
    return drawn[False][:train], drawn[True][:held_out]


DRAW = {**dict.fromkeys(TASKS, draw_facts), "addition": draw_sums, "choice": draw_choices,
        **dict.fromkeys(("passive voice", "question", "negation", "past-tense rewriting", "future-tense rewriting"),
                        draw_sentences)}


def entries_of(random, task, facts, kinds):
    """The facts as entries, each in a wording of the next kind. A wording is repeated only after all others of its kind
    have been used."""
    unused = {"known": [], "new": []}
    entries = []
    for fact, kind in zip(facts, kinds):
        wordings = TASKS[task].wordings(kind)
        unused[kind] = unused[kind] or random.sample(wordings, len(wordings))
        instruction, text = unused[kind].pop()
        if "a_word" in fact:
            fact = {**fact, "A_word": "A" + fact["a_word"][1:]}
        entries.append({"instruction": instruction.format(**fact), "input": text.format(**fact),
                        "output": TASKS[task].answer.format(**fact), "task": task, "wording": kind})
    return entries


def replace_similar(entries, shown):
    """Put the entry `shown` in the place of the last one with its task and kind of wording."""
    similar = [i for i, e in enumerate(entries) if (e["task"], e["wording"]) == (shown["task"], shown["wording"])]
    entries[similar[-1]] = shown


def move_to(entries, index, shown):
    """Swap the entry `shown` with the one at this index."""
    found = entries.index(shown)
    entries[index], entries[found] = entries[found], entries[index]


def instruction_set():
    """All 1,100 entries: training, test, validation."""
    random, random_wordings = Random(123), Random(123)  # two, so that the facts don't depend on the wordings
    train, test, validation = [], [], []
    kinds_of_test, kinds_of_validation = cycle(("new", "known")), cycle(("known", "new"))
    for task, (for_train, for_test, for_validation, *_) in TASKS.items():
        facts, held = DRAW[task](random, task, for_train, for_test + for_validation)
        train += entries_of(random_wordings, task, facts, repeat("known"))
        test += entries_of(random_wordings, task, held[:for_test], kinds_of_test)
        validation += entries_of(random_wordings, task, held[for_test:], kinds_of_validation)
    for part, shown in ((train, SHOWN_SPELLING), (test, SHOWN_ANTONYM), (validation, SHOWN_PASSIVE)):
        replace_similar(part, shown)
        random.shuffle(part)
    move_to(train, 50, SHOWN_SPELLING)
    move_to(test, 999 - len(train), SHOWN_ANTONYM)
    move_to(validation, 0, SHOWN_PASSIVE)
    return train + test + validation


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(instruction_set(), indent=2) + "\n", encoding="utf-8")
    print(f"wrote {FILE.name}")
