"""The pretraining text: small documents about the words and people of `words.py`, in the wordings of
`wordings.py`, drawn with a fixed seed.

- Scenes tell who does what to whom, in several forms, so that the model learns to turn one form into another. A label
  such as "In the passive:" names some of the forms.
- Facts state a plural, a past tense, an opposite, a category, a spelling, a definition or a sum in many wordings, about
  one word, as a list of many words, as a page with a heading, or as questions and answers.
- Echoes repeat arbitrary words, so that the model learns to copy a word it has just read.
- Notes on language explain the terms of grammar, list words with similar uses, and show how people talk.

The text contains nothing that the instruction set asks: no instruction template, no answer in the wording of the
instruction set, and no held-out event in any form. `tests/test_miniature.py` checks it.
"""

from random import Random

from miniature.grammar import article, is_held_out, misspell, past, plural, sentence_forms
from miniature.wordings import (
    ALIKE,
    ALIKE_LINES,
    CHOICES,
    CONNECTIVES,
    ECHOES,
    FORM_TERMS,
    GLOSSARY,
    HEADINGS,
    HOW_LABELS,
    INTO_LABELS,
    OTHER_LABELS,
    PAGE_LINES,
    QUESTIONS,
    SMALL_TALK,
    STATEMENTS,
    TERM_QUESTIONS,
    TERM_STATEMENTS,
    TERMS,
)
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
LARGEST_SUM = 20

# Every fact is a dictionary: the word, the answer, and what else the wordings need.
FACTS = {
    "plural": [{"word": noun, "answer": plural(noun), "a_word": article(noun)} for noun in NOUNS],
    "past tense": [{"word": verb, "answer": past(verb)} for verb in VERBS],
    "antonym": [{"word": a, "answer": b} for pair in OPPOSITES for a, b in (pair, pair[::-1])],
    "category": [{"word": word, "answer": category, "a_answer": article(category)}
                 for category, members in CATEGORIES.items() for word in members],
    "spelling": [{"word": misspell(word), "answer": word} for word in SPELLINGS],
    "definition": [{"word": word, "a_word": article(word), "answer": f"{article(kind)} {rest}", "a_kind": article(kind),
                    "kind": kind, "rest": rest} for word, kind, rest in DEFINITIONS],
    "addition": [{"a": a, "b": b, "answer": a + b, "steps": ", ".join(map(str, range(a + 1, a + b + 1)))}
                 for a in range(1, LARGEST_SUM) for b in range(1, LARGEST_SUM - a + 1)],
}

ALL_WORDS = sorted({str(fact["word"]) for facts in FACTS.values() for fact in facts if "word" in fact})
# How often each kind of fact is drawn. Opposites and sums are the hardest to learn: neither a word's letters nor its
# category helps.
WEIGHTS = {"plural": 9, "past tense": 9, "antonym": 22, "category": 9, "spelling": 11, "definition": 9,
           "addition": 30}


def capitalize(text):
    return text[0].upper() + text[1:]


def uncapitalize(text):
    return text[0].lower() + text[1:]


def fill(random, template, fact):
    """A template filled in with a fact and the names of two people. One word in ten is put in quotes."""
    name, other = random.sample(NAMES, 2)
    if "word" in fact and random.random() < 0.1:
        fact = {**fact, "word": random.choice(["'{}'", '"{}"']).format(fact["word"])}
    return template.format(name=name, other=other, **fact)


def named(random, relation, fact):
    """The fact with a term for its relation, such as "plural" or "opposite", as `term` and `Term`."""
    term = random.choice(TERMS[relation])
    return {"word": f"{fact.get('a')} and {fact.get('b')}", **fact, "term": term, "Term": capitalize(term)}


def statements(random, relation, fact, number):
    """The fact in `number` wordings, often with the term for its relation in one of them: a list of sentences."""
    templates = random.sample(STATEMENTS[relation], number)
    if random.random() < 0.6:
        templates[random.randrange(number)] = random.choice(TERM_STATEMENTS)
    return [fill(random, template, named(random, relation, fact)) for template in templates]


def space_after_colon(random):
    """A space or, one time in three, a line feed."""
    return random.choice(["\n", " ", " "])


def label(random, form):
    """A label for a sentence in this form, such as "In the passive: "."""
    name, other = random.sample(NAMES, 2)
    how, into = map(random.choice, FORM_TERMS[form])
    labels = random.choice([HOW_LABELS, HOW_LABELS, INTO_LABELS, OTHER_LABELS[form]])
    text = random.choice(labels).format(name=name, other=other, how=how, How=capitalize(how), into=into)
    text = text[:-1] + space_after_colon(random)
    return uncapitalize(text) if random.random() < 0.1 else text


def draw_event(random):
    """A random event: (subject, verb, adjective, object, time); adjective and time may be empty."""
    verbs, objects = random.choice(SCENES)
    subject, verb, obj = random.choice(PEOPLE), random.choice(verbs), random.choice(objects)
    adjective = random.choice(ADJECTIVES) if random.random() < 0.4 else ""
    return subject, verb, adjective, obj, random.choice(TIMES) if random.random() < 0.6 else ""


def scene(random):
    """Events in a few of their forms each: at least eight sentences."""
    sentences = []
    while len(sentences) < 8:
        subject, verb, adjective, obj, time = draw_event(random)
        if subject == obj or is_held_out(subject, verb, obj):
            continue
        forms = list(sentence_forms(subject, verb, adjective, obj, time).items())
        told = random.sample(forms[:6] if random.random() < 0.8 else forms, random.randint(2, 4))
        if random.random() < 0.5:  # begin with the plain sentence
            told = [forms[0]] + [form for form in told if form != forms[0]]
        for i, (form, sentence) in enumerate(told):
            if form in FORM_TERMS and random.random() < (0.6 if i else 0.2):
                sentences.append(label(random, form) + sentence)
            else:
                sentences.append((random.choice(CONNECTIVES) if i else "") + sentence)
    return sentences


def draw_fact(random, relations=tuple(WEIGHTS)):
    """A random fact: (relation, fact)."""
    relation = random.choices(relations, [WEIGHTS[relation] for relation in relations])[0]
    return relation, random.choice(FACTS[relation])


def portrait(random):
    """Three facts, each in three wordings; some of the words are echoed."""
    sentences = []
    for _ in range(3):
        relation, fact = draw_fact(random)
        sentences += statements(random, relation, fact, 3)
        if "word" in fact and random.random() < 0.3:
            sentences.append(fill(random, random.choice(ECHOES), {**fact, "another": random.choice(ALL_WORDS)}))
    return sentences


def page(random):
    """Three words, each as a heading with three lines about it below."""
    lines = []
    for _ in range(3):
        relation, fact = draw_fact(random, tuple(PAGE_LINES))
        lines.append(random.choice(HEADINGS).format(fact["word"]))
        told = [fill(random, template, fact) for template in random.sample(PAGE_LINES[relation], 2)]
        lines += map(uncapitalize, told) if random.random() < 0.2 else told
        lines += statements(random, relation, fact, 1)
    return lines


def roll(random):
    """Eight facts of one relation, all in the same wording."""
    relation, _ = draw_fact(random)
    template = random.choice(random.choice([STATEMENTS[relation], TERM_STATEMENTS]))
    return [fill(random, template, named(random, relation, fact)) for fact in random.sample(FACTS[relation], 8)]


def talk(random):
    """Questions and answers of two people."""
    name, other = random.sample(NAMES, 2)
    sentences = []
    for _ in range(5):
        relation, fact = draw_fact(random)
        question, answer = random.choice(QUESTIONS[relation] if random.random() < 0.7 else TERM_QUESTIONS)
        fact = named(random, relation, fact)
        sentences.append(f"{name} asks:{space_after_colon(random)}{fill(random, question, fact)} "
                         f"{other} says:{space_after_colon(random)}{fill(random, answer, fact)}")
    return sentences


def choice_of_words(random):
    """Three words, and which of them belongs to a category; four times."""
    sentences = []
    for _ in range(4):
        categories = random.sample(list(CATEGORIES), 3)
        words = [random.choice(CATEGORIES[category]) for category in categories]
        wanted, word = categories[0], words[0]
        random.shuffle(words)
        sentences.append(random.choice(CHOICES).format(*words, word=word, wanted=wanted, a_wanted=article(wanted),
                                                       name=random.choice(NAMES)))
    return sentences


def echo(random):
    """Words that are repeated: in sentences, and in a list that is read twice."""
    sentences = [fill(random, random.choice(ECHOES), dict(zip(("word", "another"), random.sample(ALL_WORDS, 2))))
                 for _ in range(4)]
    words = ", ".join(random.sample(ALL_WORDS, random.randint(3, 7)))
    return sentences + [f"{random.choice(NAMES)} reads: {words}. {random.choice(NAMES)} reads it again: {words}."]


def alike(random):
    """Words with similar uses."""
    lines = []
    for _ in range(6):
        words = random.choice(ALIKE)
        a, b, c = random.sample(words, 3) if len(words) > 2 else [*words, random.choice(words)]
        capitals = {"A": capitalize(a), "B": capitalize(b), "C": capitalize(c)}
        lines.append(random.choice(ALIKE_LINES).format(a=a, b=b, c=c, **capitals))
    return lines


def language(random):
    """Explanations of grammatical terms, or small talk."""
    return random.sample(random.choice([GLOSSARY, SMALL_TALK]), 6)


KINDS = {scene: 24, portrait: 24, page: 12, roll: 9, talk: 18, choice_of_words: 6, echo: 7, alike: 6, language: 5}


def documents(seed=123):
    """All documents, in order; the same seed gives the same text."""
    random = Random(seed)
    for _ in range(NUM_DOCUMENTS):
        kind = random.choices(list(KINDS), KINDS.values())[0]
        joint = "\n" if kind in (page, alike, language) else random.choice([" ", " ", "\n"])
        yield joint.join(kind(random))
