"""Update the Chinese edition from the English notebook.

    python scripts/translate.py [--check]

`translations/zh.po`, a gettext file that Poedit and Weblate edit, has a message for each text that a reader sees. The
message's context says where the text is:

    <cell>          a paragraph of a Markdown cell; blocks of code aren't messages
    <cell>: code    what a code cell prints or draws, as the inside of an f-string, and its comments that are prose
    modules         what the project's modules say (`engine/texts.py`)

`scripts/translation/extract.py` says which texts these are.

New texts get an empty message. When a text has changed, its old translation is kept and marked fuzzy, with the old
English beside it; when it has vanished, its message becomes obsolete. To keep a text in English, repeat it as its
translation. Where a translation is missing or fuzzy, the edition has the English text.

The edition is a notebook beside that file, without outputs until it is executed. One that is up to date keeps its
outputs; one that a reader has edited is left alone. The script prints what is missing, fuzzy or wrong. With --check
nothing is written.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nbformat
import polib

from scripts.translation import BUILT, TRANSLATION
from scripts.translation.build import build
from scripts.translation.check import problems
from scripts.translation.extract import messages
from scripts.translation.merge import update
from scripts.translation.write import write
from tutorial import NOTEBOOK
from tutorial.figure_style import cjk_fonts


def main():
    """Bring the .po file and the edition up to date, and print what is missing, fuzzy or wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything is missing or wrong")
    options = parser.parse_args()
    notebook, po = nbformat.read(NOTEBOOK, as_version=4), polib.pofile(str(TRANSLATION), wrapwidth=100)
    update(po, messages(notebook))
    found = list(problems(notebook, po))
    print("\n".join(found) or "Nothing is missing, fuzzy or wrong.")
    if options.check:
        sys.exit(bool(found))
    po.save()
    if not (drawn := bool(cjk_fonts())):
        print("No font for Chinese, so figures stay English. apt-get install fonts-noto-cjk brings one, on Fedora dnf "
              "install google-noto-sans-cjk-fonts.")
    write(build(notebook, po, drawn), BUILT)


if __name__ == "__main__":
    main()
