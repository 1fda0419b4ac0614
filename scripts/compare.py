"""Show how two runs differ.

    python scripts/compare.py build/run.json other/run.json

Each is a record that the notebook wrote. Prints what differs in settings, data, weights, code and versions, the first
step with different losses, and both runs' scores.
"""

import argparse
import json
import sys
from pathlib import Path

FIELDS = {"settings", "hashes", "versions", "losses", "scores"}


def read_record(path):
    """The record in a file. Ends the process with one sentence if there is none."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"can't read {path}: {error}. The notebook writes such a record as build/run.json")
    if not isinstance(record, dict) or record.keys() != FIELDS:
        sys.exit(f"{path} is not the record of a run, which the notebook writes as build/run.json")
    return record


def differences(ours, other):
    """Yields how two records differ, in lines of text."""
    for kind in ("settings", "hashes", "versions"):
        for name in ours[kind] | other[kind]:
            values = ours[kind].get(name), other[kind].get(name)
            if values[0] != values[1]:
                shown = [value[:12] if kind == "hashes" and value else value for value in values]
                yield f"{kind}: {name} is {shown[0]!r} and {shown[1]!r}"
    yield f"losses: {compared_losses(ours['losses'], other['losses'])}"
    if len(ours["losses"]) != len(other["losses"]):
        yield f"losses: {len(ours['losses'])} steps and {len(other['losses'])} steps"
    for name in ours["scores"] | other["scores"]:
        yield f"scores: {name} {ours['scores'].get(name)} and {other['scores'].get(name)}"


def compared_losses(ours, other):
    """Whether the losses of two runs, {step: loss}, are equal in the steps that both have, or the first that isn't."""
    common = [step for step in ours if step in other]
    if not common:
        return "no step in common"
    for step in common:
        if ours[step] != other[step]:
            return f"they first differ in step {step}: {ours[step]!r} and {other[step]!r}"
    return f"equal in all of {len(common)} steps"


def main():
    """Print how the two records of the command line differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("records", nargs=2, metavar="RECORD", help="a run.json that the notebook wrote")
    print("\n".join(differences(*map(read_record, parser.parse_args().records))))


if __name__ == "__main__":
    main()
