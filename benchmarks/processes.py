"""Processes of their own: one for a function, or one for each peer, which are asked in turns."""

import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from statistics import median
from time import sleep

from benchmarks import peers
from benchmarks.common import DEVICE

COMPILER = shutil.which("g++")
TOLERANCE = 1e-4 if DEVICE == "cpu" else 1e-2  # of losses; ids are whole numbers, and so have to be equal
WARM_UP = 2  # calls that don't count: in its first two steps, a process gets memory from the system
SLOW = 20  # seconds; what takes longer runs once
SPIN = 0.3  # seconds; a library's threads keep their cores busy for up to 0.2 s after a product


def new_process():
    """A pool of one process, which begins with nothing but Python."""
    return ProcessPoolExecutor(1, get_context("spawn"))


def can_run(name):
    """Whether a peer has what it needs: a C++ compiler, or to run on the CPU."""
    return bool(COMPILER or "compiled" not in name) and (DEVICE == "cpu" or "CTranslate2" not in name)


@contextmanager
def workers(*names, size="124M"):
    """Gives a function, ask(name, method, *arguments) -> (seconds, result), for processes with these peers, except
    those that can't run here."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pools = {name: stack.enter_context(new_process()) for name in filter(can_run, names)}
        starts = [pool.submit(peers.start, name, size, f"{folder}/{number}")  # a compiler takes no spaces in a path
                  for number, (name, pool) in enumerate(pools.items())]
        for start in starts:
            start.result()
        yield lambda name, *request: pools[name].submit(peers.call, *request).result()


def peaks(ask, names):
    """The peak memory of each process so far: {name: GB}."""
    return {name: ask(name, "peak")[1] for name in filter(can_run, names)}


def in_turns(ask, names, calls, warm_up=WARM_UP, tolerance=TOLERANCE):
    """Run the calls, (method, *arguments), of each peer in turns: ({name: median seconds}, {name: seconds by which its
    first call took longer}). The first `warm_up` calls don't count. Raises ValueError if results differ by more than
    the tolerance."""
    answers = {name: [] for name in filter(can_run, names)}  # {name: [(seconds, result), ...]}
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


def agree(result, expected, tolerance=TOLERANCE):
    """Whether losses, a number or a list of them, or ids, lists of lists, are the same up to the tolerance."""
    if isinstance(expected, list):
        return len(result) == len(expected) and all(agree(*pair, tolerance) for pair in zip(result, expected))
    return abs(result - expected) <= tolerance
