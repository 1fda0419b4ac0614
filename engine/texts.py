"""What engine and tutorial say to a reader, in English or, once a translation was read, in its language.

The English stands in the code: `translate("{n} entries").format(n=3)`. scripts/translate.py finds the literal texts in
calls of `translate`, `marked` and figures' `label`. Errors and data stay English.
"""

CONTEXT = "modules"  # of these texts in a translation
TRANSLATIONS = {}    # {English text: its translation}


def read_translation(path):
    """From now on, translate by a gettext file (.po)."""
    import polib  # here: without a translation nobody needs it
    TRANSLATIONS.update({entry.msgid: entry.msgstr for entry in polib.pofile(str(path))
                         if entry.msgctxt == CONTEXT and entry.translated()})


def translate(text):
    """The text in the language that was read; any other text as it is."""
    return TRANSLATIONS.get(text, text)


def marked(text):
    """The text as it is. It stands in a table, and is translated when it is shown."""
    return text
