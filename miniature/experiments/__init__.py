"""Experiments: what fine-tuning the miniature teaches, and what was there before.

    python -m miniature.experiments                # all that is missing; run it again to go on
    python -m miniature.experiments control faults # these only
    python -m miniature.experiments tables         # writes the tables of miniature/README.md

Every experiment is a function `run(condition, seed) -> numbers`, and `catalog` lists all with their conditions and
seeds. The numbers of each run are kept in `miniature/experiments.json` as soon as they are known.

    results     the file with the numbers
    questions   what the models are asked
    models      the miniature cut down to its world, trained and asked
    trainings   the control, a task never shown, how many examples, which rate, how long, adapters, refusals
    facts       what the base model knows, and what the fine-tuned one answers
    faults      ten classic mistakes and their fingerprints
    heads       attention heads: where they look, and what is lost without them
    parts       where in the model the change sits
    influence   which training entries taught a mistake
    tables      the numbers as tables
    findings    the numbers as the notebook tells them
"""
