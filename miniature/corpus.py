"""The pretraining text: small documents about the words and people of `words.py`, drawn with a fixed seed.

- Scenes tell who does what to whom, in several forms, so that the model learns to turn one form into another.
- Facts state a plural, a past tense, an opposite, a category, a spelling, a definition or a sum in many wordings, about
  one word, as a list of many words, or as questions and answers.
- Echoes mention arbitrary words again and again, so that the model learns to copy a word it has just read.

What is asked later is never said here: no instruction template, no answer in the wording of the instruction set, and
none of the held-out events in any form. `tests/test_miniature.py` checks it.
"""

from random import Random

from grammar import article, is_held_out, misspell, past, plural, sentence_forms
from words import ADJECTIVES, CATEGORIES, DEFINITIONS, NAMES, NOUNS, OPPOSITES, PEOPLE, SCENES, SPELLINGS, TIMES, VERBS

NUM_DOCUMENTS = 60_000
LARGEST_SUMMAND = 20

# Every fact is a dictionary: the word asked about, the answer, and what else the wordings below need.
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

STATEMENTS = {
    "plural": [
        "One {word}, two {answer}.",
        "First there was one {word}, then there were many {answer}.",
        "{name} has {a_word}, and {other} has three {answer}.",
        "We say {word} for one and {answer} for many.",
        "If you have more than one {word}, you have {answer}.",
        "In the plural, {word} becomes {answer}.",
        "The noun {word} has the plural {answer}.",
        "Many {answer} are more than one {word}.",
        "The plural {answer} comes from the noun {word}.",
        "Not only one {word}, but a lot of {answer}.",
        "{name} wants {a_word}, but the shop has only big {answer}.",
        "The word {word} means one thing, the word {answer} means several.",
        "With {word} in the plural you write {answer}.",
        "You count like this: one {word}, two {answer}, three {answer}.",
        "Singular {word}, plural {answer}.",
    ],
    "past tense": [
        "Today I {word}, yesterday I {answer}.",
        "They {word} now, and they {answer} last week.",
        "{name} and {other} {word} every day, and they {answer} yesterday too.",
        "We say {word} for the present and {answer} for the past.",
        "In the past, {word} becomes {answer}.",
        "The verb {word} has the past form {answer}.",
        "What you {answer} last year you can {word} again this year.",
        "They {answer} a long time ago, and now they {word} again.",
        "The past form {answer} comes from the verb {word}.",
        "{name} did not {word} today, but {other} {answer} two days ago.",
        "You will {word} tomorrow as you {answer} yesterday.",
        "With {word} in the past tense you write {answer}.",
        "Did {name} {word}? Yes, {name} {answer}.",
        "People who like to {word} often {answer} as children.",
        "Present {word}, past {answer}.",
    ],
    "antonym": [
        "What is {word} is not {answer}.",
        "Not {word} but {answer}.",
        "If it is not {word}, it may be {answer}.",
        "The words {word} and {answer} are opposites.",
        "{name} says {word}, and {other} says the opposite, {answer}.",
        "The contrary to {word} is {answer}.",
        "Between {word} and {answer} there is a great difference.",
        "First {word}, then {answer}.",
        "When you turn {word} around, you get {answer}.",
        "The word {word} is the antonym for {answer}.",
        "Some like {word}, others like {answer}.",
        "From {word} to {answer} is a long way.",
        "As an antonym for {word} you can use {answer}.",
        "The opposite to {word} would be {answer}.",
        "With {word} on one side, {answer} is on the other side.",
    ],
    "category": [
        "A word for {a_answer} is {word}.",
        "We know {word} as {a_answer}.",
        "When {name} thinks of {word}, {name} thinks of {a_answer}.",
        "The word {word} names {a_answer}.",
        "By {word} we mean {a_answer}.",
        "You can call {word} {a_answer}.",
        "With {word} you have {a_answer}.",
        "In the list of each {answer} you find {word}.",
        "Everyone knows that {word} is {a_answer}.",
        "The word {word} belongs to the group {answer}.",
        "The group {answer} has {word} in it.",
        "There is {a_answer} with the name {word}.",
        "The category for {word} is {answer}.",
        "{name} puts {word} into the category {answer}.",
        "As a class, {word} goes under {answer}.",
    ],
    "spelling": [
        "{name} wrote {word} but meant {answer}.",
        "Do not write {word}, write {answer}.",
        "The letters {word} are wrong, {answer} is right.",
        "Where it says {word}, read {answer}.",
        "The teacher changed {word} to {answer}.",
        "Some people spell it {word}, but it should be {answer}.",
        "The mistake {word} stands for {answer}.",
        "Instead of {word} you should write {answer}.",
        "In the letter, {word} was a mistake for {answer}.",
        "The word {answer} is often misspelled as {word}.",
        "If you mean {answer}, do not spell it {word}.",
        "A dictionary does not have {word}, but it has {answer}.",
        "There is a mistake in {word}. It is spelled {answer}.",
        "For {word} the correct word is {answer}.",
        "Wrong {word}, correct {answer}.",
    ],
    "definition": [
        "What is {a_word}? It is {answer}.",
        "We call {answer} {a_word}.",
        "By {a_word} we mean {answer}.",
        "The word {word} means {answer}.",
        "{name} asks about {a_word}, and {other} says that it is {answer}.",
        "Think of {answer}: that is {a_word}.",
        "If you see {answer}, you see {a_word}.",
        "Everyone knows {a_word} as {answer}.",
        "In the dictionary, {word} is explained as {answer}.",
        "With {word} we mean {a_kind}. Which {kind}? Well, {answer}.",
        "There is {a_kind} {rest}, and its name is {word}.",
        "To explain {word}, say that it is {answer}.",
    ],
    "addition": [
        "{a} + {b} = {answer}",
        "If you add {b} to {a}, you get {answer}.",
        "{a} and {b} make {answer}.",
        "{name} has {a} coins and gets {b} more, so {name} has {answer} coins.",
        "Take {a}, add {b}, and you have {answer}.",
        "{a} plus {b} equals {answer}.",
        "How much is {a} plus {b}? It is {answer}.",
        "There are {a} boys and {b} girls, {answer} children together.",
        "The numbers {a} and {b} together give {answer}.",
        "You get {answer} when you add {a} and {b}.",
    ],
}

QUESTIONS = {
    "plural": [
        ("What do we call more than one {word}?", "We call them {answer}."),
        ("How do you write {word} when there are many?", "You write {answer}."),
        ("What is the word for two of {word}?", "Two of {word} are {answer}."),
        ("Which plural does the noun {word} have?", "For {word} it is {answer}."),
    ],
    "past tense": [
        ("How do you say {word} about yesterday?", "You say {answer}."),
        ("What is {word} when it is over?", "When it is over, {word} is {answer}."),
        ("Which form does {word} have in the past?", "The verb {word} turns into {answer}."),
        ("Did they {word}?", "Yes, they {answer}."),
    ],
    "antonym": [
        ("What is as far from {word} as can be?", "Far from {word} is {answer}."),
        ("Is it {word}?", "No, it is not {word}, it is {answer}."),
        ("Which word means the opposite to {word}?", "Opposite to {word} is {answer}."),
        ("Which antonym does {word} have?", "For {word} it is {answer}."),
    ],
    "category": [
        ("What do you know about {word}?", "I know that {word} is {a_answer}."),
        ("What kind of thing is {word}?", "The kind for {word} is {answer}."),
        ("Is {word} {a_answer}?", "Yes, {word} is {a_answer}."),
        ("Into which category does {word} go?", "For {word} it is {answer}."),
    ],
    "spelling": [
        ("Is {word} written well?", "No, one writes {answer}."),
        ("What should {word} be?", "It should be {answer}."),
        ("How do you spell {word} correctly?", "Correctly it is {answer}."),
        ("Which word is meant by {word}?", "The right word is {answer}."),
    ],
    "definition": [
        ("What is {a_word}?", "It is {answer}."),
        ("What do you call {answer}?", "You call it {a_word}."),
        ("What does {word} mean?", "By {word} people mean {answer}."),
    ],
    "addition": [
        ("How much is {a} plus {b}?", "It is {answer}."),
        ("What do {a} and {b} make?", "They make {answer}."),
        ("What do you get when you add {a} and {b}?", "You get {answer}."),
    ],
}

# Each mentions its words more than once, the second time often after "of", where a model has to remember the first.
ECHOES = [
    "{name} writes {word} on the wall, and {other} reads {word} aloud.",
    "The word is {word}. Please say {word} again.",
    "Do you know the word {word}? Yes, I know {word}.",
    "Look for {word} in the dictionary. The meaning of {word} is there.",
    "{name} hears {word} and likes the sound of {word}.",
    "Word: {word}. The letters of {word} are easy to read.",
    "Here are two words, {word} and {another}. The sound of {word} is not the sound of {another}.",
    "First {word}, then {another}, then {word} again.",
    "{name} asks for the meaning of {word}. {other} knows the meaning of {word}.",
    "Noun or verb: {word}. The use of {word} is easy to learn.",
]

CONNECTIVES = ["", "", "", "Or: ", "In other words: "]
ALL_WORDS = sorted({str(fact["word"]) for facts in FACTS.values() for fact in facts if "word" in fact})
WEIGHTS = {"plural": 10, "past tense": 10, "antonym": 12, "category": 11, "spelling": 12, "definition": 9, "addition": 10}


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
        sentences.append(random.choice([
            "{name} sees {0}, {1} and {2}. Only {word} is {a_wanted}.",
            "There are {0}, {1} and {2}. Which is {a_wanted}? It is {word}.",
            "Look at {0}, {1} and {2}. For {a_wanted}, take {word}.",
            "From {0}, {1} and {2}, {name} takes {word}, because {name} wants {a_wanted}.",
        ]).format(*words, word=word, a_wanted=article(wanted), name=random.choice(NAMES)))
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
