"""The edition in a file. It has a hash of its cells, by which a reader's changes are noticed."""

import hashlib
import json
import sys

import nbformat


def write(built, path):
    """Write a built notebook, unless it is there with the same cells. Raises SystemExit if a reader has edited it."""
    built.metadata["built"] = source_hash(built)
    if path.exists():
        there = nbformat.read(path, as_version=4)
        if there.metadata.get("built") != source_hash(there):
            sys.exit(f"{path} was edited since it was built: move it, or delete it to have it built anew")
        if source_hash(there) == source_hash(built):
            return
    nbformat.write(built, path)


def source_hash(notebook):
    """A hash of the sources and tags of a notebook's cells, without outputs."""
    cells = [(cell.source, cell.metadata.get("tags")) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()
