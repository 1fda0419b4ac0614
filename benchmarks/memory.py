"""The memory of a training step: python -m benchmarks.memory writes memory.md.

For each of OpenAI's sizes, with random weights in a mapped file, a separate process trains for two steps on the longest
batch of 8 in the first epoch: all weights or adapters (LoRA), in float32 and in bfloat16. The figure is its peak minus
what it had after its imports, mapped pages included. Where training all weights would take more than LIMIT, it isn't
run: the figure is then that of the adapters plus 12 bytes per parameter, for the gradient and AdamW's two moments.

INSTRUCTION_DATA is the path of the published data set; without it the miniature's is used. A run that was interrupted
continues with what is missing.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks import common
from benchmarks.load import memory
from engine.lora import add_lora
from engine.precision import resolve_precision
from engine.trainer import train
from gpt_download import nest_params, tensor_shapes
from previous_chapters import load_weights_into_gpt
from weights.empty import empty_model
from weights.sizes import OPENAI_SIZES, openai_settings

CONFIGS = {size: common.SIZES[size].config() for size in OPENAI_SIZES}
LIMIT = 12e9  # bytes
RANK = 8


def shapes(size):
    return tensor_shapes(openai_settings(CONFIGS[size]))


def parameters(size):
    """The number of parameters."""
    return sum(map(math.prod, shapes(size).values()))


def mapped_params(size):
    """Random weights of the real shapes, as arrays in a mapped file, which is written first if it doesn't exist."""
    path = common.FOLDER / f"random-{size}.bin"
    if not path.exists():
        block = np.random.default_rng(0).normal(0, 0.02, 1 << 20).astype(np.float32)
        with open(path.with_suffix(".part"), "wb") as file:
            for first in range(0, parameters(size), len(block)):
                file.write(block[:parameters(size) - first])
        path.with_suffix(".part").rename(path)
    data, tensors, first = np.memmap(path, np.float32, mode="c"), {}, 0
    for name, shape in shapes(size).items():
        tensors[name] = np.asarray(data[first:first + math.prod(shape)]).reshape(shape)
        first += math.prod(shape)
    return nest_params(tensors, CONFIGS[size]["n_layers"])


def leave_out_products():
    """Make matrix products return zeros, since only their memory is measured. This lasts as long as the library that is
    returned."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("mm", lambda a, b: a.new_zeros(a.shape[0], b.shape[1]), "CPU")
    library.impl("addmm", lambda bias, a, b, **_: a.new_zeros(a.shape[0], b.shape[1]), "CPU")
    return library


def peak_of_step(size, precision, rank, micro_batch_size):
    """The peak memory of two training steps in bytes, minus what the process had after its imports."""
    if precision != "float32" and resolve_precision("auto", "cpu") != precision:
        library = leave_out_products()  # noqa: F841  emulated products would take minutes
    longest = max(common.loader(common.entries()[0]), key=lambda batch: batch[0].shape[1])
    before = memory("VmRSS")
    model = empty_model(CONFIGS[size])
    load_weights_into_gpt(model, mapped_params(size))  # the file is unmapped when no weight lies there any more
    if int(rank):
        add_lora(model, int(rank))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1, fused=True)
    train(model, [longest], [longest], optimizer, "cpu", num_epochs=2, eval_freq=None, eval_iter=None, start_context="",
          tokenizer=common.TOKENIZER, precision=precision, micro_batch_size=int(micro_batch_size))
    return memory("VmHWM") - before


def measured(size, *arguments):
    """The peak memory of a step in a process of its own; kept in a file until all are measured."""
    path = common.FOLDER / f"peak-{'-'.join(map(str, (size, *arguments)))}.json"
    if not path.exists():
        peak = common.in_own_process("benchmarks.memory", "peak_of_step", size, *arguments)
        path.write_text(json.dumps(peak))
    return json.loads(path.read_text())


def column(precision, rank, micro_batch_size, of_adapters=None):
    """A column of the table: {size: (peak memory in bytes, whether it was measured)}."""
    peaks = {}
    for size in CONFIGS:
        computed = of_adapters[size][0] + 3 * 4 * parameters(size) if of_adapters else 0
        small = computed < LIMIT
        peaks[size] = measured(size, precision, rank, micro_batch_size) if small else computed, small
        print(precision, rank, micro_batch_size, size, peaks[size], file=sys.stderr, flush=True)
    return peaks


def main():
    common.FOLDER.mkdir(parents=True, exist_ok=True)
    lora = {precision: column(precision, RANK, 8) for precision in ("float32", "bfloat16")}
    columns = {
        "all weights, float32": column("float32", 0, 8, lora["float32"]),
        "all weights, bfloat16": column("bfloat16", 0, 8, lora["bfloat16"]),
        f"LoRA of rank {RANK}, float32": lora["float32"], f"LoRA of rank {RANK}, bfloat16": lora["bfloat16"],
        f"LoRA of rank {RANK}, float32, two rows at a time": column("float32", RANK, 2)}
    rows, newline = [], "\n"
    for size in CONFIGS:
        cells = (f"{peak / 1e9:.1f} GB" if measured else f"({peak / 1e9:.1f} GB)"
                 for peak, measured in (peaks[size] for peaks in columns.values()))
        rows.append(f"| {size} | {' | '.join(cells)} |")
    Path(__file__).with_name("memory.md").write_text(f"""# Memory of a training step

{common.machine()}; random weights, the longest batch of 8 of {common.data_name()}. The figures are the peak memory of a
process minus what it had after its imports. Those in parentheses are computed, not measured, as `memory.py` explains.
Where the processor has no bfloat16, the bfloat16 columns are measured with matrix products that return zeros.

| | {' | '.join(columns)} |
|---|{'---|' * len(columns)}
{newline.join(rows)}
""", encoding="utf-8")
    for path in (*common.FOLDER.glob("peak-*.json"), *common.FOLDER.glob("random-*.bin")):
        path.unlink()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
    else:
        main()
