"""Just enough English grammar for the miniature's world: word forms, and one sentence in all its forms."""

from zlib import crc32

from miniature.words import DOUBLING_VERBS, IRREGULAR_PLURALS, IRREGULAR_VERBS


def article(word):
    """The word with its indefinite article: "a horse", "an apple". Of the exceptions it knows only those that occur."""
    silent_h_or_vowel = word[0] in "aeiou" and not word.startswith(("uni", "use")) or word in ("hour", "honest")
    return f"an {word}" if silent_h_or_vowel else f"a {word}"


def ends_in_consonant_y(word):
    return word.endswith("y") and word[-2] not in "aeiou"


def add_s(word):
    if ends_in_consonant_y(word):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh", "go", "do")) else "s")


def add_ed(verb):
    if verb in DOUBLING_VERBS:
        return verb + verb[-1] + "ed"
    if ends_in_consonant_y(verb):
        return verb[:-1] + "ied"
    return verb + ("d" if verb.endswith("e") else "ed")


def plural(noun):
    return IRREGULAR_PLURALS.get(noun) or add_s(noun)


def past(verb):
    return IRREGULAR_VERBS[verb][0] if verb in IRREGULAR_VERBS else add_ed(verb)


def participle(verb):
    return IRREGULAR_VERBS[verb][1] if verb in IRREGULAR_VERBS else add_ed(verb)


def misspell(word):
    """The word with a typing error: two neighboring letters inside it are swapped, always the same two."""
    if "ie" in word[1:] or "ei" in word[1:]:
        return word[0] + word[1:].replace("ie", "#").replace("ei", "ie").replace("#", "ei")
    places = [i for i in range(1, len(word) - 2) if word[i] != word[i + 1]]
    i = places[crc32(word.encode()) % len(places)]
    return word[:i] + word[i + 1] + word[i] + word[i + 2:]


def sentence_forms(subject, verb, adjective, obj, time):
    """One event as a sentence in nine forms: {form: sentence}. `adjective` and `time` may be empty."""
    thing = f"the {adjective} {obj}" if adjective else f"the {obj}"
    when = f" {time}" if time else ""
    return {
        "active": f"The {subject} {add_s(verb)} {thing}{when}.",
        "passive": f"T{thing[1:]} is {participle(verb)} by the {subject}{when}.",
        "question": f"Does the {subject} {verb} {thing}{when}?",
        "negation": f"The {subject} does not {verb} {thing}{when}.",
        "past": f"The {subject} {past(verb)} {thing}{when}.",
        "future": f"The {subject} will {verb} {thing}{when}.",
        "past passive": f"T{thing[1:]} was {participle(verb)} by the {subject}{when}.",
        "past question": f"Did the {subject} {verb} {thing}{when}?",
        "past negation": f"The {subject} did not {verb} {thing}{when}.",
    }


def is_held_out(subject, verb, obj):
    """Whether an event is kept for test and validation, so that it occurs in neither pretraining nor training."""
    return crc32(f"{subject} {verb} {obj}".encode()) % 6 == 0
