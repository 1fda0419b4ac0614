"""The messages of a .po file, brought up to date with the texts of the notebook and of the modules."""

import difflib

import polib


def update(po, wanted):
    """Bring the messages of a .po file up to date: those that are `wanted`, in this order, then the obsolete ones.

    wanted: pairs of a context and a text, as `extract.messages` gives them. A text that is new takes over the
    translation of the most similar one that has vanished from its context, if half of their words agree.
    """
    old = {(entry.msgctxt, entry.msgid): entry for entry in po}
    vanished = {key: entry for key, entry in old.items() if key not in wanted}
    entries = []
    for context, text in wanted:
        if entry := old.get((context, text)):
            entry.obsolete = False
        else:
            entry = polib.POEntry(msgctxt=context, msgid=text)
            candidates = [key for key, other in vanished.items() if key[0] == context and other.msgstr]
            nearest = max(candidates, key=lambda key: similarity(text, key[1]), default=None)
            if nearest and similarity(text, nearest[1]) >= 0.5:
                was = vanished.pop(nearest)
                entry.msgstr, entry.flags = was.msgstr, ["fuzzy"]
                entry.previous_msgid = was.previous_msgid or was.msgid
        entries.append(entry)
    for entry in vanished.values():
        entry.obsolete = True
    po[:] = entries + [entry for entry in vanished.values() if entry.msgstr]


def similarity(one, other):
    """How similar two texts are, word by word: 0 to 1."""
    return difflib.SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()
