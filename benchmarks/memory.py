"""The memory of a training step: python -m benchmarks.memory writes memory.md.

For each of OpenAI's sizes, with random weights in a mapped file, a separate process trains for two steps on the longest
batch of 8 in the first epoch: all weights or adapters (LoRA), in float32 and in bfloat16. The figure is its peak minus
what it had after its imports, mapped pages included. Where training all weights would take more than LIMIT, it isn't
run: the figure is then that of the adapters plus 12 bytes per parameter, for the gradient and AdamW's two moments.
"""

import sys
import tempfile
from functools import cache
from pathlib import Path

import torch

from benchmarks.common import CONFIGS, DATA_NAME, FOLDER, RANK, TOKENIZER, batches, machine
from benchmarks.load import memory, our_model
from benchmarks.models import write_huggingface
from benchmarks.processes import new_process
from engine.lora import add_lora
from engine.precision import fastest_precision
from engine.trainer import train
from weights.empty import empty_model
from weights.sizes import OPENAI_SIZES

LIMIT = 12e9  # bytes
COLUMNS = {  # title: (precision, rank of the adapters or 0, rows at a time)
    "all weights, float32": ("float32", 0, 8),
    "all weights, bfloat16": ("bfloat16", 0, 8),
    f"LoRA of rank {RANK}, float32": ("float32", RANK, 8),
    f"LoRA of rank {RANK}, bfloat16": ("bfloat16", RANK, 8),
    f"LoRA of rank {RANK}, float32, two rows at a time": ("float32", RANK, 2)}


def leave_out_products(library):
    """Make matrix products return zeros, as long as the library exists, since only their memory is measured."""
    library.impl("mm", lambda a, b: a.new_zeros(a.shape[0], b.shape[1]), "CPU")
    library.impl("addmm", lambda bias, a, b, **_: a.new_zeros(a.shape[0], b.shape[1]), "CPU")
    # oneDNN's would still be computed: the fast path would then differ from the reference path, and not be used.
    torch.backends.mkldnn.is_available = lambda: False


def peak_of_step(folder, precision, rank, micro_batch_size):
    """The peak memory of two training steps in bytes, minus what the process had after its imports."""
    library = torch.library.Library("aten", "IMPL")
    if precision not in ("float32", fastest_precision("cpu")):
        leave_out_products(library)  # emulated products would take minutes
    longest = max(batches(False), key=lambda batch: batch[0].shape[1])
    model, before = our_model(folder)
    if rank:
        add_lora(model, rank)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1, fused=True)
    train(model, [longest], [longest], optimizer, "cpu", num_epochs=2, eval_freq=None, eval_iter=None, start_context="",
          tokenizer=TOKENIZER, precision=precision, micro_batch_size=micro_batch_size)
    return memory("VmHWM") - before


def row(size):
    """A line of the table, also printed at once."""
    n_parameters = sum(parameter.numel() for parameter in empty_model(CONFIGS[size]).parameters())

    @cache
    def measured(*options):
        with new_process() as process:
            return process.submit(peak_of_step, Path(folder), *options).result()

    cells = []
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        write_huggingface(folder, size)
        for precision, rank, micro_batch_size in COLUMNS.values():
            # Adapters are always measured. Their figure says how much all weights would take.
            computed = 0 if rank else measured(precision, RANK, micro_batch_size) + 3 * 4 * n_parameters
            if computed < LIMIT:
                cells.append(f"{measured(precision, rank, micro_batch_size) / 1e9:.1f} GB")
            else:
                cells.append(f"({computed / 1e9:.1f} GB)")
    line = f"| {size} | {' | '.join(cells)} |"
    print(line, file=sys.stderr, flush=True)
    return line


def main():
    """Measure, and write memory.md."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = [row(size) for size in OPENAI_SIZES]
    table = "\n".join([f"| | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}", *rows])
    Path(__file__).with_name("memory.md").write_text(f"""# Memory of a training step

{machine()}; random weights, the longest batch of 8 of {DATA_NAME}. The figures are the peak memory of a
process minus what it had after its imports. Those in parentheses are computed, not measured, as `memory.py` explains.
Where the processor has no bfloat16, the bfloat16 columns are measured with matrix products that return zeros.

{table}
""", encoding="utf-8")


if __name__ == "__main__":
    main()
