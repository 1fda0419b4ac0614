"""The instruction set: 1,100 entries in Alpaca's format, with the task each belongs to.

    python -m miniature.instructions    # writes data/mini-instructions.json, the same bytes every time

The first 85% are for training, the next 10% for the test, the last 5% for validation. What a test or validation entry
asks about (a word, a sum, who does what to whom) occurs in no training entry of the same task.
"""

import json
import re
from pathlib import Path
from random import Random

from miniature.corpus import FACTS, draw_event
from miniature.grammar import article, is_held_out, sentence_forms
from miniature.wordings import TASKS
from miniature.words import CATEGORIES

FILE = Path(__file__).resolve().parent.parent / "data/mini-instructions.json"


def words_of(text):
    return set(re.findall(r"[\w-]+", text))


def deal_facts(random, task, train, held_out):
    """Facts for training and for test and validation; no word asked about in the latter occurs in the former."""
    _, requests, answer = TASKS[task]
    said_anyway = words_of(" ".join(instruction + " " + text for instruction, text in requests) + " " + answer)
    facts = [fact for fact in FACTS[task] if not words_of(f"{fact['word']} {fact['answer']}") & said_anyway
             or task == "definition" and fact["word"] not in said_anyway]
    random.shuffle(facts)
    held = []
    for fact in facts:
        if len(held) < held_out and not any(fact["word"] in (other["word"], other["answer"]) for other in held):
            held.append(fact)
    asked = {fact["word"] for fact in held}
    rest = [fact for fact in facts if not words_of(f"{fact['word']} {fact['answer']}") & asked]
    return rest[:train], held


def deal_sums(random, task, train, held_out):
    """Sums, each pair of numbers in one order only."""
    sums = random.sample([fact for fact in FACTS[task] if fact["a"] <= fact["b"]], train + held_out)
    sums = [random.choice([fact, {**fact, "a": fact["b"], "b": fact["a"]}]) for fact in sums]
    return sums[:train], sums[train:]


def deal_choices(random, task, train, held_out):
    """Three words, one of which belongs to the category; test and validation have words of their own."""
    def draw(members):
        categories = random.sample([c for c in CATEGORIES if c not in ("clothing", "furniture")], 3)  # can be counted
        words = [random.choice(members[category]) for category in categories]
        order = random.sample(words, 3)
        return {"word": words[0], "category": categories[0], "a_category": article(categories[0]),
                **dict(zip(("first", "second", "third"), order))}
    held_members = {category: random.sample(words, len(words) // 4) for category, words in CATEGORIES.items()}
    train_members = {category: [word for word in words if word not in held_members[category]]
                     for category, words in CATEGORIES.items()}
    return [draw(train_members) for _ in range(train)], [draw(held_members) for _ in range(held_out)]


def deal_sentences(random, task, train, held_out):
    """Events in all their forms; those for test and validation are the ones that pretraining never tells."""
    dealt, seen = {False: [], True: []}, set()
    while len(dealt[False]) < train or len(dealt[True]) < held_out:
        subject, verb, adjective, obj, time = draw_event(random)
        if subject != obj and (subject, verb, obj) not in seen:
            seen.add((subject, verb, obj))
            dealt[is_held_out(subject, verb, obj)].append(sentence_forms(subject, verb, adjective, obj, time))
    return dealt[False][:train], dealt[True][:held_out]


DEALERS = {**dict.fromkeys(TASKS, deal_facts), "addition": deal_sums, "choice": deal_choices,
           **dict.fromkeys(("passive voice", "question", "negation", "past-tense rewriting",
                            "future-tense rewriting"), deal_sentences)}


def entries_of(task, facts):
    """The facts as entries, asked in each of the task's wordings in turn."""
    _, requests, answer = TASKS[task]
    entries = []
    for i, fact in enumerate(facts):
        if "a_word" in fact:
            fact = {**fact, "A_word": "A" + fact["a_word"][1:]}
        instruction, text = requests[i % len(requests)]
        entries.append({"instruction": instruction.format(**fact), "input": text.format(**fact),
                        "output": answer.format(**fact), "task": task})
    return entries


def bring(entries, position, task, has_input):
    """Exchange the entry at this position with the first of the wanted sort: the tutorial shows these three."""
    found = next(i for i, e in enumerate(entries) if e["task"] == task and bool(e["input"]) == has_input)
    entries[position], entries[found] = entries[found], entries[position]


def instruction_set(seed=123):
    """All 1,100 entries: training, test, validation."""
    random = Random(seed)
    train, test, validation = [], [], []
    for task, ((for_train, for_test, for_validation), _, _) in TASKS.items():
        facts, held = DEALERS[task](random, task, for_train, for_test + for_validation)
        train += entries_of(task, facts)
        test += entries_of(task, held[:for_test])
        validation += entries_of(task, held[for_test:])
    for part in (train, test, validation):
        random.shuffle(part)
    bring(train, 50, "spelling", has_input=True)
    bring(test, 999 - len(train), "antonym", has_input=False)
    bring(validation, 0, "passive voice", has_input=False)
    return train + test + validation


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(instruction_set(), indent=2) + "\n", encoding="utf-8")
    print(f"wrote {FILE.name}")
