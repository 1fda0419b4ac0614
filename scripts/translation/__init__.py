"""The Chinese edition, from the English notebook and its translations. `scripts/translate.py` is the program.

    markdown     a Markdown cell in paragraphs
    templates    a text with fields, as the inside of an f-string
    extract      the texts that a reader sees
    merge        the messages of a .po file, brought up to date with them
    build        the edition
    check        what is missing, fuzzy or wrong
    write        the edition in a file, unless a reader has edited it
"""

from tutorial import NOTEBOOK, ROOT

TRANSLATION = ROOT / "translations/zh.po"
BUILT = TRANSLATION.with_name(f"{NOTEBOOK.stem}.zh.ipynb")
