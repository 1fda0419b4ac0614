"""How the cost of our training grows with the model, the batch, the length and the number of entries, as one figure.

The first three are steps on full rows of random ids, 124M with 8 rows of 64 tokens except for what varies, each in a
process of its own; the last one is a whole fine-tuning of the miniature.
"""

from functools import cache
from statistics import median

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.common import MEASURED
from benchmarks.processes import workers


@cache
def step(size, rows, length):
    """Median seconds and peak GB of a training step."""
    with workers("ours", size=size) as ask:
        seconds = [ask("ours", "random_step", rows, length)[0] for _ in range(4)]
        return median(seconds[1:]), ask("ours", "peak")[1]


def fine_tuning(entries):
    """Seconds and peak GB of a fine-tuning of the miniature."""
    with workers("ours", size="7M") as ask:
        return ask("ours", "finetune_miniature", entries // 8)[0], ask("ours", "peak")[1]


def draw(path):
    """Measure and plot."""
    series = {
        "a step, by model": {size: step(size, 8, 64) for size in MEASURED},
        "a step, by rows": {rows: step("124M", rows, 64) for rows in (1, 4, 8, 16)},
        "a step of one row, by tokens": {length: step("124M", 1, length) for length in (64, 256, 512, 1024)},
        "fine-tuning the miniature, by entries": {entries: fine_tuning(entries) for entries in (64, 128, 256)}}
    fig, axes = plt.subplots(1, len(series), figsize=(4 * len(series), 3.2))
    for ax, (title, points) in zip(axes, series.items()):
        x = range(len(points)) if title.endswith("model") else list(points)
        seconds, peaks = zip(*points.values())
        ax.plot(x, seconds, "o-")
        ax.set(title=title, ylabel="s", ylim=(0, None))
        ax.set_xticks(x, map(str, points), rotation=60)
        memory = ax.twinx()
        memory.plot(x, peaks, "s--", color="tab:orange")
        memory.set(ylabel="GB (orange)", ylim=(0, None))
    fig.tight_layout()
    fig.savefig(path, dpi=110)
