"""Speed and memory of this project and of its peers: python -m benchmarks.bench writes results.md and growth.png.

- Every peer (benchmarks/peers.py) has the same random weights, and the same batches and prompts.
- Losses and generated ids are compared before a time counts, and in every turn.
- Each runs in a process of its own. They take turns, so that a slow moment of the machine affects all of them, and the
  median counts. Each begins when the threads of the one before sleep. What takes longer than SLOW runs once.
- Memory is the peak of a process, minus what it had after its imports.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

from benchmarks import growth
from benchmarks.common import (
    DEVICE,
    FOLDER,
    ROOT,
    command,
    data_name,
    in_own_process,
    machine,
    write_for_ctranslate2,
    write_models,
)
from benchmarks.peers import RANK

TURNS, SLOW = 5, 20  # times that each runs; seconds
SPIN = 0.3  # seconds; a library's threads keep their cores busy for up to 0.2 s after a product
LOSS, IDS = 1e-4 if DEVICE == "cpu" else 1e-2, 0  # how far results may differ
BOOK, HF, STATIC, MKL = "llms-from-scratch", "transformers", "transformers, static cache", "CTranslate2 with MKL"
OURS_COMPILED, HF_COMPILED = "ours, compiled", "transformers, compiled"
COMPILER = shutil.which("g++")
STEPS = 24  # of fine-tuning the miniature


# --- Measuring ---


def can_run(name):
    """Whether a peer has what it needs: a C++ compiler, or a CPU."""
    return bool(COMPILER or "compiled" not in name) and (DEVICE == "cpu" or "CTranslate2" not in name)


@contextmanager
def workers(*names, size="124M"):
    """Gives a function, ask(name, method, *arguments) -> (seconds, result), for processes with these peers, but for
    those that can't run here. It raises RuntimeError when one of them fails."""
    processes, log = {}, FOLDER / "log.txt"
    with tempfile.TemporaryDirectory() as folder, open(log, "w") as errors:
        for name in filter(can_run, names):
            environment = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/{len(processes)}"}  # nothing is compiled yet
            processes[name] = subprocess.Popen(
                command("benchmarks.peers", name, size), cwd=ROOT, text=True, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors,
                env=os.environ | environment | ({"CT2_USE_MKL": "1"} if name == MKL else {}))

        def ask(name, *request):
            print(json.dumps(request), file=processes[name].stdin, flush=True)
            answer = processes[name].stdout.readline()
            if not answer:
                raise RuntimeError(f"{name} failed at {request}: see {log}")
            return json.loads(answer)

        try:
            ask.peaks = lambda: {name: ask(name, "peak")[1] for name in processes}
            ask.peaks()  # answered when a process has loaded its model
            yield ask
        finally:
            for process in processes.values():
                process.communicate()


def in_turns(ask, names, calls, tolerance, warm_up=1):
    """Run the calls, (method, *arguments), of each peer in turns: ({name: median seconds}, {name: seconds by which its
    first call took longer}). The first `warm_up` calls don't count. Raises ValueError if results differ by more than
    the tolerance."""
    answers = {name: [] for name in filter(can_run, names)}
    for turn, call in enumerate(calls):
        for name, earlier in answers.items():
            if turn <= warm_up or earlier[warm_up][0] < SLOW:
                sleep(SPIN)
                earlier.append(ask(name, *call))
        results = {name: of_one[turn][1] for name, of_one in answers.items() if len(of_one) > turn}
        if not all(agree(result, results[names[0]], tolerance) for result in results.values() if names[0] in results):
            raise ValueError(f"{call}: results differ: {results}")
    seconds = {name: median(time for time, _ in of_one[warm_up:]) for name, of_one in answers.items()}
    return seconds, {name: of_one[0][0] - seconds[name] for name, of_one in answers.items()}


def agree(result, expected, tolerance):
    """Whether losses, a number or a list of them, or ids, lists of lists, are the same up to the tolerance."""
    if isinstance(expected, list):
        return len(result) == len(expected) and all(agree(*pair, tolerance) for pair in zip(result, expected))
    return abs(result - expected) <= tolerance


def finetune(processes):
    """A fine-tuning of the miniature in so many processes of one thread each: median seconds of a step, losses."""
    losses, times = [], []
    with tempfile.TemporaryDirectory() as folder:  # for torchrun's logs and the model
        run = subprocess.Popen(
            command("torch.distributed.run", "--standalone", "--nproc-per-node", processes, "scripts/finetune.py",
                    "--max-steps", 40, "--output-dir", folder), cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": folder})
        for line in run.stdout:
            if line.startswith("step "):
                losses.append(float(line.split()[3]))
                times.append(perf_counter())
        if run.wait():
            raise RuntimeError("scripts/finetune.py failed")
    return median(after - before for before, after in pairwise(times[1:])), losses


# --- The rows ---


def row(what, amounts, first_call=None, memory=False):
    """A line of the table, also printed at once, from {name: seconds}, or bytes of `memory`, ours first: how many times
    longer a peer takes, or our fraction of its memory; and what compiling takes, from {name: seconds}."""
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


def training():
    names = "ours", BOOK, HF, OURS_COMPILED, HF_COMPILED
    with workers(*names) as ask:
        calls = [("data_step", False, number) for number in range(TURNS + 1)]
        yield row("one training step, loss on all tokens", *in_turns(ask, names, calls, LOSS))
        yield row("its peak memory", ask.peaks(), memory=True)
        for what, method in (("one training step, loss on answers only", ("data_step", True)),
                             ("the loss alone, as in a validation", ("forward",))):
            calls = [(*method, number) for number in range(TURNS + 1)]
            yield row(what, *in_turns(ask, names[:3], calls, LOSS))


def adapters():
    names = "ours with LoRA", "PEFT"
    with workers(*names) as ask:
        calls = [("data_step", False, number) for number in range(TURNS + 1)]
        yield row(f"one training step, adapters of rank {RANK}", *in_turns(ask, names, calls, 1e-3))
        yield row("its peak memory", ask.peaks(), memory=True)


def generation():
    names = "ours", HF, STATIC, "CTranslate2", MKL, BOOK, HF_COMPILED, OURS_COMPILED
    if can_run("CTranslate2"):
        write_for_ctranslate2("124M")
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
    seconds, peaks = {}, {}
    for _ in range(TURNS):
        for name in ("ours", BOOK, HF):
            start = perf_counter()
            peaks[name] = in_own_process("benchmarks.load", name, FOLDER, "355M")
            seconds.setdefault(name, []).append(perf_counter() - start)
    yield row("355M from files to first logits, imports included", {name: median(seconds[name]) for name in seconds})
    yield row("its peak memory", peaks, memory=True)


def whole_runs():
    for what, size, names, call in (
            ("12 steps with validation, each in its own loop", "124M", ("ours", BOOK), ("finetune",)),
            (f"fine-tuning the miniature: {STEPS} steps and a validation", "7M", ("ours", "TRL", "TRL, padding-free"),
             ("finetune_miniature", STEPS))):
        with workers(*names, size=size) as ask:
            yield row(what, *in_turns(ask, names, [call] * TURNS, LOSS, warm_up=0))


def processes():
    (in_one, one), (in_two, two) = finetune(1), finetune(2)
    if not agree(two, one, LOSS):
        raise ValueError(f"losses differ: {one} {two}")
    yield row("a step of `scripts/finetune.py`, the miniature, in two processes of one thread",
              {"ours": in_two, "in one": in_one})


def main(parts):
    write_models()
    table = "\n".join(row for part in parts for row in part())
    growth.draw(workers, Path(__file__).with_name("growth.png"))
    versions = ", ".join(f"{name} {version(name)}" for name in (BOOK, HF, "peft", "trl", "ctranslate2"))
    Path(__file__).with_name("results.md").write_text(f"""# Results

{machine()}; {versions}.

GPT-2 124M with random weights unless a row says otherwise, batches of 8 from {data_name()}. Medians. In bold: how many
times longer a peer takes, and our fraction of its memory. {BOOK} is its plain GPT-2, without the key/value
cache of its other variants. {"A compiled model comes after so many seconds of torch.compile." if COMPILER else
                              "Nothing is compiled, since there is no g++."}

| | ours | peers |
|---|---|---|
{table}

![How the cost of training grows](growth.png)
""", encoding="utf-8")


if __name__ == "__main__":
    on_a_cpu = (loading, whole_runs, processes) if DEVICE == "cpu" else ()
    main((training, adapters, generation, *on_a_cpu))
