"""The pretraining text: small documents about the words and people of `words.py`, in the wordings of
`wordings.py`, drawn with a fixed seed.

- Scenes tell who does what to whom, in several forms, so that the model learns to turn one form into another.
- Facts state a plural, a past tense, an opposite, a category, a spelling, a definition or a sum in many wordings, about
  one word, as a list of many words, or as questions and answers.
- Echoes mention arbitrary words again and again, so that the model learns to copy a word it has just read.

What is asked later is never said here: no instruction template, no answer in the wording of the instruction set, and
none of the held-out events in any form. `tests/test_miniature.py` checks it.
"""

from random import Random

from miniature.grammar import article, is_held_out, misspell, past, plural, sentence_forms
from miniature.wordings import CHOICES, CONNECTIVES, ECHOES, QUESTIONS, STATEMENTS
from miniature.words import (
    ADJECTIVES,
    CATEGORIES,
    DEFINITIONS,
    NAMES,
    NOUNS,
    OPPOSITES,
    PEOPLE,
    SCENES,
    SPELLINGS,
    TIMES,
    VERBS,
)

NUM_DOCUMENTS = 60_000
LARGEST_SUMMAND = 20

# Every fact is a dictionary: the word asked about, the answer, and what else the wordings need.
FACTS = {
    "plural": [{"word": noun, "answer": plural(noun), "a_word": article(noun)} for noun in NOUNS],
    "past tense": [{"word": verb, "answer": past(verb)} for verb in VERBS],
    "antonym": [{"word": a, "answer": b} for pair in OPPOSITES for a, b in (pair, pair[::-1])],
    "category": [{"word": word, "answer": category, "a_answer": article(category)}
                 for category, members in CATEGORIES.items() for word in members],
    "spelling": [{"word": misspell(word), "answer": word} for word in SPELLINGS],
    "definition": [{"word": word, "a_word": article(word), "answer": f"{article(kind)} {rest}", "a_kind": article(kind),
                    "kind": kind, "rest": rest} for word, kind, rest in DEFINITIONS],
    "addition": [{"a": a, "b": b, "answer": a + b}
                 for a in range(1, LARGEST_SUMMAND + 1) for b in range(1, LARGEST_SUMMAND + 1)],
}

ALL_WORDS = sorted({str(fact["word"]) for facts in FACTS.values() for fact in facts if "word" in fact})
WEIGHTS = {"plural": 10, "past tense": 10, "antonym": 12, "category": 11, "spelling": 12, "definition": 9,
           "addition": 10}


def fill(random, template, fact):
    """One wording of a fact, told by two of the people with names."""
    name, other = random.sample(NAMES, 2)
    return template.format(name=name, other=other, **fact)


def draw_event(random):
    """Who does what to whom, and when."""
    verbs, objects = random.choice(SCENES)
    subject, verb, obj = random.choice(PEOPLE), random.choice(verbs), random.choice(objects)
    adjective = random.choice(ADJECTIVES) if random.random() < 0.4 else ""
    return subject, verb, adjective, obj, random.choice(TIMES) if random.random() < 0.6 else ""


def scene(random):
    """Three events, each in a few of its forms."""
    sentences = []
    while len(sentences) < 8:
        subject, verb, adjective, obj, time = draw_event(random)
        if subject == obj or is_held_out(subject, verb, obj):
            continue
        forms = list(sentence_forms(subject, verb, adjective, obj, time).values())
        told = random.sample(forms[:6] if random.random() < 0.7 else forms, random.randint(2, 4))
        sentences += [told[0]] + [random.choice(CONNECTIVES) + form for form in told[1:]]
    return sentences


def draw_fact(random):
    relation = random.choices(list(WEIGHTS), WEIGHTS.values())[0]
    return relation, random.choice(FACTS[relation])


def portrait(random):
    """Three facts, each in several wordings, with an echo of the word."""
    sentences = []
    for _ in range(3):
        relation, fact = draw_fact(random)
        sentences += [fill(random, template, fact) for template in random.sample(STATEMENTS[relation], 3)]
        if "word" in fact and random.random() < 0.3:
            sentences.append(fill(random, random.choice(ECHOES), {**fact, "another": random.choice(ALL_WORDS)}))
    return sentences


def roll(random):
    """The same wording for many words."""
    relation, _ = draw_fact(random)
    template = random.choice(STATEMENTS[relation])
    return [fill(random, template, fact) for fact in random.sample(FACTS[relation], 8)]


def talk(random):
    """Two people, questions and answers."""
    name, other = random.sample(NAMES, 2)
    sentences = []
    for _ in range(5):
        relation, fact = draw_fact(random)
        question, answer = random.choice(QUESTIONS[relation])
        sentences.append(f"{name} asks: {fill(random, question, fact)} {other} says: {fill(random, answer, fact)}")
    return sentences


def choice_of_words(random):
    """Three words, one of them of the category that is looked for."""
    sentences = []
    for _ in range(4):
        categories = random.sample(list(CATEGORIES), 3)
        words = [random.choice(CATEGORIES[category]) for category in categories]
        wanted, word = categories[0], words[0]
        random.shuffle(words)
        sentences.append(random.choice(CHOICES).format(*words, word=word, a_wanted=article(wanted),
                                                       name=random.choice(NAMES)))
    return sentences


def echo(random):
    """Words that are mentioned again: in sentences, and as a list that is read twice."""
    sentences = [fill(random, random.choice(ECHOES), dict(zip(("word", "another"), random.sample(ALL_WORDS, 2))))
                 for _ in range(4)]
    words = ", ".join(random.sample(ALL_WORDS, random.randint(3, 7)))
    return sentences + [f"{random.choice(NAMES)} reads: {words}. {random.choice(NAMES)} reads it again: {words}."]


KINDS = {scene: 34, portrait: 26, roll: 10, talk: 16, choice_of_words: 6, echo: 8}


def documents(seed=123):
    """All documents, in order; the same seed gives the same text."""
    random = Random(seed)
    for _ in range(NUM_DOCUMENTS):
        kind = random.choices(list(KINDS), KINDS.values())[0]
        yield random.choice([" ", " ", "\n"]).join(kind(random))
