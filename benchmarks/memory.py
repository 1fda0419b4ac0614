"""How much memory a training step needs: python -m benchmarks.memory writes memory.md.

For each of OpenAI's sizes, with random weights in a mapped file, a process of its own takes two steps on the longest
batch of 8 in the first pass over the data: all weights trained, or adapters (LoRA), in float32 and in bfloat16. What is
quoted is its peak above what it had after its imports, the mapped pages included. Training all weights isn't run where
it would take more than LIMIT, but computed: what the adapters' step takes, and 12 bytes a parameter for the gradient
and AdamW's two moments.

INSTRUCTION_DATA names the published data set; without it the miniature's is used. A run that was stopped goes on where
it was.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks import bench
from benchmarks.load import memory
from engine.fast import micro_batches, ready_to_train
from engine.lora import add_lora
from engine.params import nest_params
from engine.precision import mixed_precision, number_format
from gpt_download import OPENAI_SIZES, tensor_shapes
from previous_chapters import GPTModel, calc_loss_batch, gpt_config, load_weights_into_gpt

SIZES = {size: sizes for size, sizes in bench.SIZES.items() if size in OPENAI_SIZES}
LIMIT = 12e9  # bytes
RANK = 8


def parameters(size):
    return sum(math.prod(shape) for shape in tensor_shapes(SIZES[size]).values())


def mapped_params(size):
    """Random weights of the real shapes as arrays in a mapped file, which is written if it isn't there."""
    path = bench.MODELS / f"random-{size}.bin"
    if not path.exists():
        block = np.random.default_rng(0).normal(0, 0.02, 1 << 20).astype(np.float32)
        with open(path.with_suffix(".part"), "wb") as file:
            for first in range(0, parameters(size), len(block)):
                file.write(block[:parameters(size) - first])
        path.with_suffix(".part").rename(path)
    data, tensors, first = np.memmap(path, np.float32, mode="c"), {}, 0
    for name, shape in tensor_shapes(SIZES[size]).items():
        tensors[name] = np.asarray(data[first:first + math.prod(shape)]).reshape(shape)
        first += math.prod(shape)
    return nest_params(tensors, SIZES[size]["n_layer"])


def leave_out_products():
    """Have matrix products be zeros from now on: their memory is all that counts here. (The library's overrides last as
    long as what is returned.)"""
    library = torch.library.Library("aten", "IMPL")
    library.impl("mm", lambda a, b: a.new_zeros(a.shape[0], b.shape[1]), "CPU")
    library.impl("addmm", lambda bias, a, b, **_: a.new_zeros(a.shape[0], b.shape[1]), "CPU")
    return library


def peak_of_step(size, precision, rank, micro_batch_size):
    """Peak bytes of two training steps, above what the process had after its imports."""
    if precision != "float32" and number_format("auto", "cpu") != precision:
        library = leave_out_products()  # noqa: F841  emulated ones would take minutes
    batches = bench.loader(bench.entries()[0])
    inputs, targets = max(batches, key=lambda batch: batch[0].shape[1])
    before = memory("VmRSS")
    with torch.device("meta"):
        model = GPTModel(gpt_config(SIZES[size]))
    load_weights_into_gpt(model, mapped_params(size))  # whose file is unmapped once no weight lies there any more
    if int(rank):
        add_lora(model, int(rank), 2 * int(rank))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1, fused=True)
    ready_to_train(model, optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        with mixed_precision("cpu", precision):
            for part_inputs, part_targets, share in micro_batches(inputs, targets, int(micro_batch_size)):
                (share * calc_loss_batch(part_inputs, part_targets, model, "cpu")).backward()
        optimizer.step()
    return memory("VmHWM") - before


def measured(size, *arguments):
    """The peak of a step in a process of its own; also kept in a file until all are known."""
    path = bench.MODELS / f"peak-{'-'.join(map(str, (size, *arguments)))}.json"
    if not path.exists():
        peak = bench.in_own_process("peak_of_step", size, *arguments, module="benchmarks.memory")
        path.write_text(json.dumps(peak))
    return json.loads(path.read_text())


def column(precision, rank, micro_batch_size, of_adapters=None):
    """{size: (peak bytes, whether they were measured)}"""
    peaks = {}
    for size in SIZES:
        computed = of_adapters[size][0] + 3 * 4 * parameters(size) if of_adapters else 0
        small = computed < LIMIT
        peaks[size] = measured(size, precision, rank, micro_batch_size) if small else computed, small
        print(precision, rank, micro_batch_size, size, peaks[size], file=sys.stderr, flush=True)
    return peaks


def main():
    bench.MODELS.mkdir(parents=True, exist_ok=True)
    lora = {precision: column(precision, RANK, 8) for precision in ("float32", "bfloat16")}
    columns = {
        "all weights, float32": column("float32", 0, 8, lora["float32"]),
        "all weights, bfloat16": column("bfloat16", 0, 8, lora["bfloat16"]),
        f"LoRA of rank {RANK}, float32": lora["float32"], f"LoRA of rank {RANK}, bfloat16": lora["bfloat16"],
        f"LoRA of rank {RANK}, float32, two rows at a time": column("float32", RANK, 2)}
    rows, newline = [], "\n"
    for size in SIZES:
        cells = (f"{peak / 1e9:.1f} GB" if measured else f"({peak / 1e9:.1f} GB)"
                 for peak, measured in (peaks[size] for peaks in columns.values()))
        rows.append(f"| {size} | {' | '.join(cells)} |")
    Path(__file__).with_name("memory.md").write_text(f"""# Memory of a training step

{bench.machine()}; random weights, the longest batch of 8 of {bench.data_name()}. The peak of a process above what it
had after its imports; what stands in brackets isn't measured but computed, as `memory.py` says. Where the processor has
no bfloat16, those columns are measured without computing the matrix products, whose memory is all that counts.

| | {' | '.join(columns)} |
|---|{'---|' * len(columns)}
{newline.join(rows)}
""", encoding="utf-8")
    for path in (*bench.MODELS.glob("peak-*.json"), *bench.MODELS.glob("random-*.bin")):
        path.unlink()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
    else:
        main()
