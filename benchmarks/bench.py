"""Speed and memory of this project and of its peers: python -m benchmarks.bench writes results.md and growth.png.

README.md says how it is measured. A row of the table has its peers (peers.py) in processes of their own, which take
turns (processes.py).
"""

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks import growth
from benchmarks.common import DATA_NAME, DEVICE, FOLDER, PRECISION, RANK, ROOT, machine
from benchmarks.models import write_models
from benchmarks.processes import COMPILER, WARM_UP, agree, in_turns, peaks, workers
from engine.precision import resolve_precision

TURNS = 5  # times that each runs
BOOK, HF, OURS_COMPILED, HF_COMPILED = "llms-from-scratch", "transformers", "ours, compiled", "transformers, compiled"
STEPS = 24  # of fine-tuning the miniature


def row(what, amounts, first_call=None, unit="s"):
    """A line of the table, also printed at once, from {name: amount}, ours first, in "s" or "GB"; what compiling takes
    is in `first_call`."""
    (_, ours), *peers = amounts.items()
    cells = []
    for name, amount in peers:
        compiling = f" after {first_call[name]:.0f} s" if first_call and "compiled" in name else ""
        ratio = amount / ours if unit == "s" else ours / amount
        cells.append(f"{name} {amount:.2f} {unit}{compiling}, **{ratio:.2f}×**")
    line = f"| {what} | {ours:.2f} {unit} | {'<br>'.join(cells)} |"
    print(line, file=sys.stderr, flush=True)
    return line


def numbered(*call):
    """This call for a batch in each turn, the first of which don't count."""
    return [(*call, number) for number in range(WARM_UP + TURNS)]


def training():
    """The rows about a training step of all weights."""
    plain = "ours", BOOK, HF
    names = *plain, OURS_COMPILED, HF_COMPILED
    with workers(*names) as ask:
        yield row("one training step, loss on all tokens", *in_turns(ask, names, numbered("data_step", False)))
        yield row("its peak memory", peaks(ask, names), unit="GB")
        yield row("one training step, loss on answers only",
                  *in_turns(ask, plain, numbered("data_step", True)[WARM_UP:], warm_up=0))
        yield row("the loss alone, as in a validation",
                  *in_turns(ask, plain, numbered("forward")[WARM_UP:], warm_up=0))


def adapters():
    """The rows about a training step of adapters."""
    names = "ours with LoRA", "PEFT"
    with workers(*names) as ask:
        yield row(f"one training step, adapters of rank {RANK}",
                  *in_turns(ask, names, numbered("data_step", False), tolerance=1e-3))
        yield row("its peak memory", peaks(ask, names), unit="GB")


def generation():
    """The rows about answers to the 110 test prompts, of which every 110th, every 10th or every one is continued."""
    in_batches = "ours", HF, "transformers, static cache", "CTranslate2"
    compiled = HF_COMPILED, OURS_COMPILED
    with workers(*in_batches, BOOK, *compiled) as ask:
        yield row("one prompt, the first token",
                  *in_turns(ask, (*in_batches, BOOK), [("generate", 110, 1)] * (WARM_UP + TURNS)))
        yield row("one prompt, 30 new tokens",
                  *in_turns(ask, (*in_batches, *compiled), [("generate", 110, 30)] * (WARM_UP + TURNS)))
        yield row("110 test prompts, as many tokens as their answers have",
                  *in_turns(ask, in_batches, [("generate", 1, None)] * TURNS, warm_up=0))
        yield row("11 of them", *in_turns(ask, ("ours", BOOK), [("generate", 10, None)] * TURNS, warm_up=0))


def loading():
    """The rows about the way from files to the first logits."""
    seconds, peak_of = {}, {}
    for _ in range(TURNS):
        for name in ("ours", BOOK, HF):
            start = perf_counter()
            output = subprocess.check_output(
                [sys.executable, "-m", "benchmarks.load", name, FOLDER / "355M"], cwd=ROOT)
            peak_of[name] = int(output.split()[-1]) / 1e9
            seconds.setdefault(name, []).append(perf_counter() - start)
    yield row("355M from files to first logits, imports included", {name: median(seconds[name]) for name in seconds})
    yield row("its peak memory", peak_of, unit="GB")


def whole_runs():
    """The rows about trainings from beginning to end."""
    names = "ours", BOOK
    with workers(*names) as ask:
        yield row("12 steps with validation, each in its own loop",
                  *in_turns(ask, names, [("finetune",)] * TURNS, warm_up=0))
    names = "ours", "TRL"
    with workers(*names, size="7M") as ask:
        yield row(f"fine-tuning the miniature: {STEPS} steps and a validation",
                  *in_turns(ask, names, [("finetune_miniature", STEPS)] * TURNS, warm_up=0))


def finetune_in(processes):
    """Fine-tune the miniature in a number of processes of one thread each: (median seconds of a step, losses)."""
    with tempfile.TemporaryDirectory() as folder:  # for torchrun's logs and the model
        run = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
             "scripts/finetune.py", "--max-steps=40", f"--output-dir={folder}"], cwd=ROOT, stdout=subprocess.PIPE,
            text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": folder})
        steps = [(perf_counter(), line.split()) for line in run.stdout if line.startswith("step ")]
        if run.wait():
            raise RuntimeError("scripts/finetune.py failed")
    times = [time for time, _ in steps[1:]]
    return median(after - before for before, after in pairwise(times)), [float(words[3]) for _, words in steps]


def two_processes():
    """The row about a training in two processes."""
    (in_one, one), (in_two, two) = finetune_in(1), finetune_in(2)
    if not agree(two, one):
        raise ValueError(f"losses differ: {one} {two}")
    yield row("a step of `scripts/finetune.py`, the miniature, in two processes of one thread",
              {"ours": in_two, "in one": in_one})


def main(parts):
    """Measure, and write results.md and growth.png. parts: functions that yield rows."""
    write_models()
    table = "\n".join(row for part in parts for row in part())
    growth.draw(Path(__file__).with_name("growth.png"))
    versions = ", ".join(f"{name} {version(name)}" for name in (BOOK, HF, "peft", "trl", "ctranslate2"))
    Path(__file__).with_name("results.md").write_text(f"""# Results

{machine()}; {versions}. All in {resolve_precision(PRECISION, DEVICE)}.

GPT-2 124M with random weights unless a row says otherwise, batches of 8 from {DATA_NAME}. Medians. In bold: how many
times longer a peer takes, and our fraction of its memory. {BOOK} is its plain GPT-2, without the key/value
cache of its other variants. {"A compiled model is ready after that many seconds of torch.compile." if COMPILER else
                              "Nothing is compiled, since there is no g++."}

| | ours | peers |
|---|---|---|
{table}

![How the cost of training grows](growth.png)
""", encoding="utf-8")


if __name__ == "__main__":
    on_a_cpu = (loading, whole_runs, two_processes) if DEVICE == "cpu" else ()
    main((training, adapters, generation, *on_a_cpu))
