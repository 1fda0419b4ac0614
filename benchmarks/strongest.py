"""Comparison with the fastest libraries for a CPU: python -m benchmarks.strongest writes strongest.md.

- A step with adapters is compared with PEFT; a step in bfloat16, where the processor has it, with the peers of
  `bench.py`; a whole fine-tuning with TRL's SFTTrainer; generation with CTranslate2, both with the matrix library that
  it chooses and with MKL, which PyTorch uses; and two processes with one.
- Weights and data are the same. Losses and generated ids are compared before anything is timed, and what is compared
  runs in turns, as in `bench.py`. Where a peer has a choice of settings, it gets the fastest of those that were tried.
- With the name of a function under "The rows" as an argument, it prints that part of the table alone, once a whole run
  has written the models.
- INSTRUCTION_DATA is the path of the published data set; without it the miniature's is used.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from benchmarks import bench
from benchmarks.bench import BOOK, FOLDER, HF, IMPLEMENTATIONS, TOKENIZER
from engine.lora import add_lora
from engine.precision import fastest_format
from engine.trainer import train
from tutorial.instructions import format_prompt
from tutorial.recipes import MINIATURE
from weights.saved import save_model

PEFT, TRL, CT2 = "PEFT", "TRL's SFTTrainer", "CTranslate2"
STEPS = 9  # of training; the first is a warm-up
RANK, ALPHA = 8, 16
EXPORTED = FOLDER / "huggingface"
ENTRIES, BATCH = 928, 8  # of a fine-tuning, so that an epoch has only whole batches
command = partial(bench.command, module="benchmarks.strongest")


# --- Training steps ---


def our_adapted_model(size):
    """As in fine-tuning, the frozen weights stay in the mapped file."""
    model = bench.load.our_model(FOLDER, size)
    add_lora(model, RANK, ALPHA)
    return draw_adapters(model)


def peft_model(size):
    from peft import LoraConfig, get_peft_model
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=["c_attn", "c_fc", "c_proj"],
                        fan_in_fan_out=True)
    return draw_adapters(get_peft_model(bench.hf_model(size), config))


def draw_adapters(model):
    """Give both models the same random adapters; their layers have the same order. B isn't zero, so that A has
    gradients, too."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def lora_worker(name):
    IMPLEMENTATIONS.update({"ours": (our_adapted_model, bench.our_loss, True), PEFT: (peft_model, bench.hf_loss, True)})
    bench.training_worker(name, "False", STEPS)


def precision_worker(name, precision):
    bench.PRECISION = precision
    bench.training_worker(name, "False", STEPS)


def steps(workers, tolerance):
    """Median seconds of a step, and peak memory in bytes, of the workers {name: command}: ({name: seconds},
    {name: bytes}). Raises AssertionError if their losses differ by more than the tolerance."""
    answers = bench.answers_in_turns(workers, STEPS)
    for losses in zip(*([loss for _, (loss, _) in turns] for turns in answers.values())):
        assert max(losses) - min(losses) < tolerance, losses
    return ({name: median(seconds for seconds, _ in turns[1:]) for name, turns in answers.items()},
            {name: turns[-1][1][1] for name, turns in answers.items()})


# --- A whole fine-tuning ---


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=MINIATURE["learning_rate"], weight_decay=0.1, fused=True)


def our_run(train_data, val_data, epochs, note_every):
    """The training losses of a fine-tuning of the miniature by the notebook's recipe, but in the order of the data."""
    loader = bench.loader(train_data, BATCH, mask_instruction=True, shuffle=False)
    val_loader = bench.loader(val_data, 4 * BATCH, mask_instruction=True, shuffle=False)
    model = bench.our_model("7M")
    optimizer = adamw(model)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * len(loader))
    losses, _, _ = train(model, loader, val_loader, optimizer, "cpu", epochs, eval_freq=note_every, eval_iter=None,
                         start_context="", tokenizer=TOKENIZER, scheduler=scheduler, max_norm=MINIATURE["max_norm"])
    return losses


def trl_run(train_data, val_data, epochs, note_every, padding_free):
    """The same by SFTTrainer, without two defaults that cost time here: recomputed activations, and bfloat16."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    config = SFTConfig(
        output_dir=FOLDER / "trl", use_cpu=True, bf16=False, gradient_checkpointing=False, padding_free=padding_free,
        max_length=None, train_sampling_strategy="sequential", num_train_epochs=epochs,
        per_device_train_batch_size=BATCH, per_device_eval_batch_size=4 * BATCH, lr_scheduler_type="linear",
        max_grad_norm=MINIATURE["max_norm"], logging_steps=note_every, eval_strategy="epoch", save_strategy="no",
        report_to="none", disable_tqdm=True)
    train_set, val_set = (Dataset.from_list([{"prompt": format_prompt(entry), "completion": entry["output"]}
                                             for entry in part]) for part in (train_data, val_data))
    model, tokenizer = bench.hf_model("7M"), AutoTokenizer.from_pretrained(EXPORTED)
    trainer = SFTTrainer(model, config, train_dataset=train_set, eval_dataset=val_set, processing_class=tokenizer,
                         optimizers=(adamw(model), None))  # its own has no weight decay for gains and biases
    trainer.train()
    return [note["loss"] for note in trainer.state.log_history if "loss" in note]


FINE_TUNINGS = {"ours": our_run, "padded batches": partial(trl_run, padding_free=False),
                "no padding": partial(trl_run, padding_free=True)}


def fine_tuning(name, entries, epochs, note_every):
    """Seconds from the entries to the trained model, with a validation in each epoch, and the training losses:
    (seconds, list)."""
    from transformers import GPT2LMHeadModel  # noqa: F401  all imports first, the same for both
    from trl import SFTTrainer  # noqa: F401
    train_data, _, val_data = bench.entries()
    start = perf_counter()
    losses = FINE_TUNINGS[name](train_data[:int(entries)], val_data, int(epochs), int(note_every))
    return perf_counter() - start, losses


# --- Generation ---


def export():
    """Write the model in Hugging Face's format with our export."""
    path = FOLDER / "gpt2.pt"
    save_model(bench.our_model("124M"), bench.SIZES["124M"].config(), path)
    subprocess.run(bench.command(path, EXPORTED, module="scripts.export"), check=True, cwd=bench.ROOT)
    path.unlink()


def convert():
    """Write the exported model in CTranslate2's format."""
    from ctranslate2.converters import TransformersConverter
    TransformersConverter(str(EXPORTED)).convert(str(FOLDER / "ctranslate2"), force=True)


def ct2_generate(generator, prompts, lengths, shared=0, batch_size=0):
    """The continuations of prompts, lists of tokens, by `lengths` tokens each. The first `shared` tokens, the same in
    all prompts, are read once."""
    missing = list(lengths)

    def ends(result):
        missing[result.batch_id] -= 1
        return missing[result.batch_id] == 0

    results = generator.generate_batch(
        [prompt[shared:] for prompt in prompts], static_prompt=prompts[0][:shared], max_batch_size=batch_size,
        max_length=bench.CONTEXT, sampling_topk=1, include_prompt_in_result=False, callback=ends)
    return [result.sequences_ids[0] for result in results]


def our_generators(prompts, lengths, sizes):
    """Functions that continue the prompts in batches and return the ids: {batch size: function}."""
    model = bench.our_model("124M").eval()
    return {size: partial(bench.in_batches, partial(bench.our_batch, model), prompts, lengths, size) for size in sizes}


def ct2_generators(compute_type, prompts, lengths, sizes):
    """The same by CTranslate2: {(number of shared tokens, batch size): function}."""
    from ctranslate2 import Generator
    from transformers import AutoTokenizer
    tokens = list(map(AutoTokenizer.from_pretrained(EXPORTED).convert_ids_to_tokens, prompts))
    shared = len(os.path.commonprefix(tokens)) if len(tokens) > 1 else 0
    generator = Generator(str(FOLDER / "ctranslate2"), compute_type=compute_type, intra_threads=torch.get_num_threads())
    return {choice: partial(ct2_generate, generator, tokens, lengths, *choice)
            for choice in product(sorted({0, shared}), sizes)}


def generation_worker(name, task):
    """A worker that continues one test prompt by 100 tokens (task "1"), or all, each by as many tokens as its answer
    has, and answers with the ids. The first time it tries all settings, and keeps the fastest."""
    prompts, lengths = bench.test_prompts()
    arguments = (prompts[:1], [100], (1,)) if task == "1" else (prompts, lengths, (16, 32, 64))
    choices = our_generators(*arguments) if name == "ours" else ct2_generators(name, *arguments)
    run = None
    for _ in sys.stdin:
        if run is None:
            seconds = bench.in_turns(choices, rounds=1, warm_up=0)
            run = choices[min(seconds, key=seconds.get)]
        print(json.dumps(run()), flush=True)


# --- Processes ---


def ranks(processes):
    """The losses of a fine-tuning of the miniature in so many processes of one thread each, and the median seconds of a
    step: (list, seconds)."""
    losses, times = [], []
    with tempfile.TemporaryDirectory() as folder:  # for torchrun's logs
        run = subprocess.Popen(
            bench.command("--standalone", "--nproc-per-node", processes, "scripts/finetune.py", "--max-steps", 40,
                          "--output-dir", FOLDER, module="torch.distributed.run"),
            cwd=bench.ROOT, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": folder})
        for line in run.stdout:
            if line.startswith("step "):
                losses.append(float(line.split()[3]))
                times.append(perf_counter())
        assert run.wait() == 0
    return losses, median(after - before for before, after in pairwise(times[1:]))


# --- The rows ---


def row(what, ours, peer, theirs, unit="s", note=""):
    """A line of the table, also printed at once. `unit` "s": how many times longer the peer takes; "GB", for amounts in
    bytes: our fraction of the peer's memory."""
    ratio = theirs / ours if unit == "s" else ours / theirs
    cells = [f"{amount:.2f} s" if unit == "s" else f"{amount / 1e9:.2f} GB" for amount in (ours, theirs)]
    line = f"| {what} | {cells[0]} | {peer} {cells[1]}, **{ratio:.2f}×** | {note} |"
    print(line, file=sys.stderr, flush=True)
    return line


def lora_rows():
    seconds, peak = steps({name: command("lora_worker", name) for name in ("ours", PEFT)}, tolerance=1e-3)
    return [row(f"one training step, LoRA of rank {RANK}", seconds["ours"], PEFT, seconds[PEFT]),
            row("peak memory of it", peak["ours"], PEFT, peak[PEFT], "GB")]


def bfloat16_rows():
    """The peers run in the format in which they are faster."""
    if fastest_format("cpu") != "bfloat16":
        return ["| one training step, bfloat16 | not on this processor | | |"]
    variants = [("ours", "bfloat16"), *product((BOOK, HF), ("bfloat16", "float32"))]
    seconds, _ = steps({variant: command("precision_worker", *variant) for variant in variants}, tolerance=2e-2)
    ours = seconds.pop(variants[0])
    best = [min((variant for variant in seconds if variant[0] == peer), key=seconds.get) for peer in (BOOK, HF)]
    return [row("one training step, bfloat16", ours, peer, seconds[peer, precision], note=f"{peer} in {precision}")
            for peer, precision in best]


def fine_tuning_rows():
    run = partial(bench.in_own_process, "fine_tuning", module="benchmarks.strongest")
    curves = [run(name, 8 * BATCH, 1, 1)[1] for name in FINE_TUNINGS]
    for losses in zip(*curves, strict=True):  # of the first eight steps
        assert max(losses) - min(losses) < 1e-4, losses
    epochs, batches = MINIATURE["num_epochs"], ENTRIES // BATCH
    times = [{name: run(name, ENTRIES, epochs, batches)[0] for name in FINE_TUNINGS} for _ in range(2)]
    seconds = {name: median(time[name] for time in times) for name in FINE_TUNINGS}
    ours = seconds.pop("ours")
    best = min(seconds, key=seconds.get)
    return [row(f"fine-tuning the miniature: {epochs} epochs of {batches} steps, a validation in each", ours, TRL,
                seconds[best], note=f"{TRL} with {best}")]


def generation_rows():
    """In processes of their own: CTranslate2's threads slow down everything else in their process."""
    convert()
    rows = []
    for what, task, turns in (("one prompt, 100 new tokens", 1, 5),
                              ("110 test prompts, as many tokens as their answers have", 110, 3)):
        ours, float32, int8 = (command("generation_worker", name, task) for name in ("ours", "float32", "int8"))
        answers = bench.answers_in_turns(
            {"ours": ours, CT2: float32, "MKL": ["env", "CT2_USE_MKL=1", *float32], "int8": int8}, turns)
        ids = {name: turns_of_one[0][1] for name, turns_of_one in answers.items()}
        assert ids["ours"] == ids[CT2] == ids["MKL"], "ids differ"
        seconds = {name: median(time for time, _ in turns_of_one[1:]) for name, turns_of_one in answers.items()}
        rows.append(row(what, seconds["ours"], CT2, seconds[CT2], note=(
            f"with MKL {seconds['MKL']:.2f} s, **{seconds['MKL'] / seconds['ours']:.2f}×**; "
            f"in int8, with other ids, {seconds['int8']:.2f} s")))
    return rows


def process_rows():
    runs = [[ranks(processes) for processes in (1, 2)] for _ in range(2)]
    for (one, _), (two, _) in runs:
        for losses in zip(one, two, strict=True):
            assert max(losses) - min(losses) < 1e-4, losses
    one, two = (median(seconds) for seconds in zip(*((a, b) for (_, a), (_, b) in runs)))
    return [row("one step of `scripts/finetune.py`, the miniature, in two processes of one thread", two, "in one", one)]


def main():
    bench.write_models()
    export()
    table = "\n".join(line for rows in (lora_rows, bfloat16_rows, fine_tuning_rows, generation_rows, process_rows)
                      for line in rows())
    Path(__file__).with_name("strongest.md").write_text(f"""# Comparison with the fastest libraries for a CPU

{bench.machine()}; {bench.FORMAT}; random weights, GPT-2 124M unless the row says otherwise, batches of {BATCH} from
{bench.data_name()}. Medians. In bold: how many times longer the peer takes, and our fraction of the peer's memory.

| | ours | the peer | |
|---|---|---|---|
{table}
""", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
    else:
        main()
