"""Show how two runs differ.

    python scripts/compare.py build/run.json other/run.json

Each is a record that the notebook wrote. Prints what differs in settings, data, weights, code and versions, the first
step with different losses, and both runs' scores.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tutorial.record import compare

PARTS = {"settings", "hashes", "versions", "losses", "scores"}


def read_record(path):
    """The record in a file. Ends the process with one sentence if there is none."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"can't read {path}: {error}. The notebook writes such a record as build/run.json")
    if not isinstance(record, dict) or record.keys() != PARTS:
        sys.exit(f"{path} is not the record of a run, which the notebook writes as build/run.json")
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("records", nargs=2, metavar="RECORD", help="a run.json that the notebook wrote")
    print("\n".join(compare(*map(read_record, parser.parse_args().records))))


if __name__ == "__main__":
    main()
