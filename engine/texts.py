"""What the project's modules print for a reader: in English, or in another language after `read_translation`.

Source texts are English: `translate("{n} entries").format(n=3)`. `scripts/translate.py` finds the literal texts in
calls of `translate`, `marked` and `label` (of `tutorial/figure_style.py`). Errors and data stay English.
"""

CONTEXT = "modules"  # the message context of these texts in a .po file
TRANSLATIONS = {}    # {English text: its translation}


def read_translation(path):
    """Translate from now on, with the messages of a gettext file (.po), and with those of earlier ones besides."""
    import polib  # only here: English needs no polib
    TRANSLATIONS.update({entry.msgid: entry.msgstr for entry in polib.pofile(str(path))
                         if entry.msgctxt == CONTEXT and entry.translated()})


def translate(text):
    """The translation of an English text; the text itself if there is none."""
    return TRANSLATIONS.get(text, text)


def marked(text):
    """The text as it is, like gettext's `N_`: marked for `scripts/translate.py`, and translated when it is printed."""
    return text
