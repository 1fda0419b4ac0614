"""Speed and memory of this project and of its peers: python -m benchmarks.bench writes results.md and growth.png.

- Every peer (benchmarks/peers.py) has the same random weights, and the same batches and prompts.
- Losses and generated ids are compared before a time counts, and in every turn.
- Each runs in a process of its own. They take turns, so that a slow moment of the machine affects all of them, and the
  median counts. Each begins when the threads of the one before sleep (benchmarks/processes.py).
- Memory is the peak of a process, minus what it had after its imports.
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
from benchmarks.common import DATA_NAME, DEVICE, FOLDER, RANK, ROOT, machine
from benchmarks.models import write_models
from benchmarks.processes import COMPILER, agree, in_turns, peaks, workers

TURNS = 5  # times that each runs
LOSS, IDS = 1e-4 if DEVICE == "cpu" else 1e-2, 0  # how far results may differ
BOOK, HF, OURS_COMPILED, HF_COMPILED = "llms-from-scratch", "transformers", "ours, compiled", "transformers, compiled"
STEPS = 24  # of fine-tuning the miniature


def row(what, amounts, first_call=None, memory=False):
    """A line of the table, also printed at once, from {name: seconds}, or bytes of `memory`, ours first; what compiling
    takes is in `first_call`."""
    def cell(amount):
        return f"{amount / 1e9:.2f} GB" if memory else f"{amount:.2f} s"

    (_, ours), *peers = amounts.items()
    cells = []
    for name, amount in peers:
        compiling = f" after {first_call[name]:.0f} s" if first_call and "compiled" in name else ""
        cells.append(f"{name} {cell(amount)}{compiling}, **{ours / amount if memory else amount / ours:.2f}×**")
    line = f"| {what} | {cell(ours)} | {'<br>'.join(cells)} |"
    print(line, file=sys.stderr, flush=True)
    return line


def numbered(*call):
    """This call for a batch in each turn, and for one that doesn't count."""
    return [(*call, number) for number in range(TURNS + 1)]


def training():
    names = "ours", BOOK, HF, OURS_COMPILED, HF_COMPILED
    with workers(*names) as ask:
        yield row("one training step, loss on all tokens", *in_turns(ask, names, numbered("data_step", False), LOSS))
        yield row("its peak memory", peaks(ask, names), memory=True)
        yield row("one training step, loss on answers only",
                  *in_turns(ask, names[:3], numbered("data_step", True), LOSS))
        yield row("the loss alone, as in a validation", *in_turns(ask, names[:3], numbered("forward"), LOSS))


def adapters():
    names = "ours with LoRA", "PEFT"
    with workers(*names) as ask:
        yield row(f"one training step, adapters of rank {RANK}",
                  *in_turns(ask, names, numbered("data_step", False), 1e-3))
        yield row("its peak memory", peaks(ask, names), memory=True)


def generation():
    names = ("ours", HF, "transformers, static cache", "CTranslate2", "CTranslate2 with MKL", BOOK, HF_COMPILED,
             OURS_COMPILED)
    with workers(*names) as ask:
        one = 110  # every so-manieth prompt
        yield row("one prompt, the first token",
                  *in_turns(ask, names[:6], [("generate", one, 1)] * (TURNS + 1), IDS))
        yield row("one prompt, 30 new tokens", *in_turns(ask, names, [("generate", one, 30)] * (TURNS + 1), IDS))
        calls = [("generate", 1, None)] * TURNS
        yield row("110 test prompts, as many tokens as their answers have", *in_turns(ask, names[:5], calls, IDS, 0))
        calls = [("generate", 10, None)] * TURNS
        yield row("11 of them", *in_turns(ask, ("ours", BOOK), calls, IDS, 0))


def loading():
    seconds, peak_of = {}, {}
    for _ in range(TURNS):
        for name in ("ours", BOOK, HF):
            start = perf_counter()
            output = subprocess.check_output(
                [sys.executable, "-m", "benchmarks.load", name, FOLDER / "355M"], cwd=ROOT)
            peak_of[name] = int(output.split()[-1])
            seconds.setdefault(name, []).append(perf_counter() - start)
    yield row("355M from files to first logits, imports included", {name: median(seconds[name]) for name in seconds})
    yield row("its peak memory", peak_of, memory=True)


def whole_runs():
    for what, size, names, call in (
            ("12 steps with validation, each in its own loop", "124M", ("ours", BOOK), ("finetune",)),
            (f"fine-tuning the miniature: {STEPS} steps and a validation", "7M", ("ours", "TRL", "TRL, padding-free"),
             ("finetune_miniature", STEPS))):
        with workers(*names, size=size) as ask:
            yield row(what, *in_turns(ask, names, [call] * TURNS, LOSS, warm_up=0))


def finetune(processes):
    """A fine-tuning of the miniature in so many processes of one thread each: median seconds of a step, losses."""
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
    (in_one, one), (in_two, two) = finetune(1), finetune(2)
    if not agree(two, one, LOSS):
        raise ValueError(f"losses differ: {one} {two}")
    yield row("a step of `scripts/finetune.py`, the miniature, in two processes of one thread",
              {"ours": in_two, "in one": in_one})


def main(parts):
    write_models()
    table = "\n".join(row for part in parts for row in part())
    growth.draw(Path(__file__).with_name("growth.png"))
    versions = ", ".join(f"{name} {version(name)}" for name in (BOOK, HF, "peft", "trl", "ctranslate2"))
    Path(__file__).with_name("results.md").write_text(f"""# Results

{machine()}; {versions}.

GPT-2 124M with random weights unless a row says otherwise, batches of 8 from {DATA_NAME}. Medians. In bold: how many
times longer a peer takes, and our fraction of its memory. {BOOK} is its plain GPT-2, without the key/value
cache of its other variants. {"A compiled model comes after so many seconds of torch.compile." if COMPILER else
                              "Nothing is compiled, since there is no g++."}

| | ours | peers |
|---|---|---|
{table}

![How the cost of training grows](growth.png)
""", encoding="utf-8")


if __name__ == "__main__":
    on_a_cpu = (loading, whole_runs, two_processes) if DEVICE == "cpu" else ()
    main((training, adapters, generation, *on_a_cpu))
