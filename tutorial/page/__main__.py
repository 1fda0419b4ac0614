"""Write the site: python -m tutorial.page SITE NOTEBOOK... [--tuned FILE] [--source URL] [--address URL]

Each executed notebook becomes a page, one whose name ends in .zh.ipynb the Chinese one; nothing is executed. Both
models become one script each.
"""

import argparse
import os
import shutil
from pathlib import Path

import nbformat

from miniature import recipe
from tutorial import ROOT
from tutorial.page import models
from tutorial.page.html import HERE, LANGUAGES, Site, page


def main():
    parser = argparse.ArgumentParser(description="Write executed notebooks as a site with the miniature in it.")
    parser.add_argument("site", type=Path, help="the folder to write to")
    parser.add_argument("notebooks", type=Path, nargs="+", help="executed notebooks, one a language")
    parser.add_argument("--tuned", type=Path, default=ROOT / "build/gpt2-instruct.pt",
                        help="the run's fine-tuned model (default: build/gpt2-instruct.pt)")
    parser.add_argument("--source", help="the address of the project's files, for links (default: this folder's)")
    parser.add_argument("--address", default="", help="the site's own address, with / at its end, for shared links")
    arguments = parser.parse_args()
    notebooks = {Path(path.stem).suffix[1:] or "en": path for path in arguments.notebooks}  # name.zh.ipynb
    if unknown := notebooks.keys() - LANGUAGES.keys():
        parser.error(f"the page has no language {', '.join(unknown)}; it has {', '.join(LANGUAGES)}")
    folder = arguments.site
    folder.mkdir(parents=True, exist_ok=True)

    tuned, other = models.fine_tuned(arguments.tuned)
    base = recipe.pretrained()
    tokens = models.world_tokens(base)
    for name, model in (("base", base), ("tuned", tuned)):
        (folder / f"{name}.js").write_text(models.model_file(name, model, tokens), encoding="utf-8")

    source = arguments.source or Path(os.path.relpath(ROOT, folder.resolve())).as_posix()
    site = Site(list(notebooks), models.merges(), models.world_words(), other, source, arguments.address)
    for language, path in notebooks.items():
        shutil.copy(HERE / f"share.{language}.png", folder)
        text = page(nbformat.read(path, as_version=4), language, site)
        (folder / LANGUAGES[language]).write_text(text, encoding="utf-8")
    print(f"The site: {folder}/{LANGUAGES[min(notebooks)]}")


if __name__ == "__main__":
    main()
