"""Ours against the strongest that others have for a CPU: python -m benchmarks.strongest writes strongest.md.

- A step with adapters against PEFT; a step in bfloat16, where the processor has it, against the peers of `bench.py`; a
  whole fine-tuning against TRL's SFTTrainer; generation against CTranslate2, with its own choice of matrix products
  and with PyTorch's, MKL's; and what a second process saves.
- Weights and data are the same. Losses and generated ids are compared before any time counts, and what is compared
  takes turns, as in `bench.py`. Where a peer has a choice of settings, it has the fastest of those that were tried.
- The name of one of the functions under "The rows" as an argument prints its part of the table alone, once a whole run
  has written the models.
- INSTRUCTION_DATA names the published data set; without it the miniature's is used.
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
from benchmarks.bench import BOOK, HF, IMPLEMENTATIONS, MODELS, NOTEBOOK, TOKENIZER
from engine.lora import add_lora
from engine.precision import fastest_format
from previous_chapters import gpt_config, save_model, train_model_simple

PEFT, TRL, CT2 = "PEFT", "TRL's SFTTrainer", "CTranslate2"
STEPS = 9  # of training, the first of which is the warm-up
RANK, ALPHA = 8, 16
RECIPE = NOTEBOOK["MINIATURE"]
EXPORTED = MODELS / "huggingface"
ENTRIES, BATCH = 928, 8  # of a fine-tuning: an epoch has only whole batches
command = partial(bench.command, module="benchmarks.strongest")


# --- Training steps ---


def our_adapted_model(size):
    """As fine-tuning has it: the frozen weights stay in the mapped file."""
    model = bench.load.our_model(MODELS, size)
    add_lora(model, RANK, ALPHA)
    return draw_adapters(model)


def peft_model(size):
    from peft import LoraConfig, get_peft_model
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=["c_attn", "c_fc", "c_proj"],
                        fan_in_fan_out=True)
    return draw_adapters(get_peft_model(bench.hf_model(size), config))


def draw_adapters(model):
    """The same random numbers for both, whose layers have the same order. None are zero, so that all have gradients."""
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
    """Median seconds of a step and peak bytes of each of the workers, {name: its command}. All their losses agree."""
    answers = bench.answers_in_turns(workers, STEPS)
    for losses in zip(*([loss for _, (loss, _) in turns] for turns in answers.values())):
        assert max(losses) - min(losses) < tolerance, losses
    return ({name: median(seconds for seconds, _ in turns[1:]) for name, turns in answers.items()},
            {name: turns[-1][1][1] for name, turns in answers.items()})


# --- A whole fine-tuning ---


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=RECIPE["learning_rate"], weight_decay=0.1, fused=True)


def our_run(train, val, epochs, note_every):
    """Training losses of a fine-tuning of the miniature by the notebook's recipe, but in the order of the entries."""
    loader = bench.loader(train, BATCH, mask_instruction=True, shuffle=False)
    val_loader = bench.loader(val, 4 * BATCH, mask_instruction=True, shuffle=False)
    model = bench.our_model("7M")
    optimizer = adamw(model)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * len(loader))
    losses, _, _ = train_model_simple(model, loader, val_loader, optimizer, "cpu", epochs, note_every, None, "",
                                      TOKENIZER, scheduler, RECIPE["max_norm"])
    return losses


def trl_run(train, val, epochs, note_every, padding_free):
    """The same by SFTTrainer, without two of its defaults that lose time here: activations computed twice, bfloat16."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    config = SFTConfig(
        output_dir=MODELS / "trl", use_cpu=True, bf16=False, gradient_checkpointing=False, padding_free=padding_free,
        max_length=None, train_sampling_strategy="sequential", num_train_epochs=epochs,
        per_device_train_batch_size=BATCH, per_device_eval_batch_size=4 * BATCH, lr_scheduler_type="linear",
        max_grad_norm=RECIPE["max_norm"], logging_steps=note_every, eval_strategy="epoch", save_strategy="no",
        report_to="none", disable_tqdm=True)
    train, val = (Dataset.from_list([{"prompt": NOTEBOOK["format_prompt"](entry), "completion": entry["output"]}
                                     for entry in part]) for part in (train, val))
    model, tokenizer = bench.hf_model("7M"), AutoTokenizer.from_pretrained(EXPORTED)
    trainer = SFTTrainer(model, config, train_dataset=train, eval_dataset=val, processing_class=tokenizer,
                         optimizers=(adamw(model), None))  # its own would leave gains and biases without decay
    trainer.train()
    return [note["loss"] for note in trainer.state.log_history if "loss" in note]


FINE_TUNINGS = {"ours": our_run, "padded batches": partial(trl_run, padding_free=False),
                "no padding": partial(trl_run, padding_free=True)}


def fine_tuning(name, entries, epochs, note_every):
    """Seconds from the entries to the trained model, with a validation in each epoch, and the training losses noted on
    the way."""
    from transformers import GPT2LMHeadModel  # noqa: F401  all imports first, for both the same
    from trl import SFTTrainer  # noqa: F401
    train, _, val = bench.entries()
    start = perf_counter()
    losses = FINE_TUNINGS[name](train[:int(entries)], val, int(epochs), int(note_every))
    return perf_counter() - start, losses


# --- Generation ---


def export():
    """Write the model as our export does, in Hugging Face's format."""
    path = MODELS / "gpt2.pt"
    save_model(bench.our_model("124M"), gpt_config(bench.SIZES["124M"]), path)
    subprocess.run(bench.command(path, EXPORTED, module="scripts.export"), check=True, cwd=bench.ROOT)
    path.unlink()


def convert():
    """Write the exported model as CTranslate2 reads it."""
    from ctranslate2.converters import TransformersConverter
    TransformersConverter(str(EXPORTED)).convert(str(MODELS / "ctranslate2"), force=True)


def ct2_generate(generator, prompts, lengths, shared=0, batch_size=0):
    """The continuations of prompts, lists of tokens, each by as many tokens as wanted. What all begin with, so many
    tokens, can be read once for all."""
    missing = list(lengths)

    def ends(result):
        missing[result.batch_id] -= 1
        return missing[result.batch_id] == 0

    results = generator.generate_batch(
        [prompt[shared:] for prompt in prompts], static_prompt=prompts[0][:shared], max_batch_size=batch_size,
        max_length=bench.CONTEXT, sampling_topk=1, include_prompt_in_result=False, callback=ends)
    return [result.sequences_ids[0] for result in results]


def our_ways(prompts, lengths, sizes):
    """Functions that continue the prompts in batches, and give the ids: {batch size: function}."""
    model = bench.our_model("124M").eval()
    return {size: partial(bench.in_batches, partial(bench.our_batch, model), prompts, lengths, size) for size in sizes}


def ct2_ways(compute_type, prompts, lengths, sizes):
    """The same by CTranslate2: {(tokens read once for all, batch size): function}."""
    from ctranslate2 import Generator
    from transformers import AutoTokenizer
    tokens = list(map(AutoTokenizer.from_pretrained(EXPORTED).convert_ids_to_tokens, prompts))
    shared = len(os.path.commonprefix(tokens)) if len(tokens) > 1 else 0
    generator = Generator(str(MODELS / "ctranslate2"), compute_type=compute_type, intra_threads=torch.get_num_threads())
    return {choice: partial(ct2_generate, generator, tokens, lengths, *choice)
            for choice in product(sorted({0, shared}), sizes)}


def generation_worker(name, prompts_wanted):
    """For each line it is given, continues so many of the test prompts, one by 100 tokens, or all, each by as many as
    its answer has. Prints the ids. Of the ways to do so it takes the one that was fastest the first time."""
    prompts, lengths = bench.test_prompts()
    one = prompts_wanted == "1"
    task = (prompts[:1], [100], (1,)) if one else (prompts, lengths, (16, 32, 64))
    ways, run = our_ways(*task) if name == "ours" else ct2_ways(name, *task), None
    for _ in sys.stdin:
        if run is None:
            seconds = bench.in_turns(ways, rounds=1, warm_up=0)
            run = ways[min(seconds, key=seconds.get)]
        print(json.dumps(run()), flush=True)


# --- Processes ---


def ranks(processes):
    """Losses, and median seconds of a step, of fine-tuning the miniature in so many processes of one thread each."""
    losses, times = [], []
    with tempfile.TemporaryDirectory() as folder:  # where torchrun leaves its logs
        run = subprocess.Popen(
            bench.command("--standalone", "--nproc-per-node", processes, "scripts/finetune.py", "--max-steps", 40,
                          "--output-dir", MODELS, module="torch.distributed.run"),
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
    """A line of the table, also shown at once. In seconds: how many times longer the peer takes; in bytes, shown as GB:
    our share of the peer's."""
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
    """The peers are taken in the format in which they are faster."""
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
    noted = [run(name, 8 * BATCH, 1, 1)[1] for name in FINE_TUNINGS]
    for losses in zip(*noted, strict=True):  # of the first eight steps
        assert max(losses) - min(losses) < 1e-4, losses
    epochs, batches = RECIPE["num_epochs"], ENTRIES // BATCH
    times = [{name: run(name, ENTRIES, epochs, batches)[0] for name in FINE_TUNINGS} for _ in range(2)]
    seconds = {name: median(time[name] for time in times) for name in FINE_TUNINGS}
    ours = seconds.pop("ours")
    best = min(seconds, key=seconds.get)
    return [row(f"fine-tuning the miniature: {epochs} epochs of {batches} steps, a validation in each", ours, TRL,
                seconds[best], note=f"{TRL} with {best}")]


def generation_rows():
    """In processes of their own: CTranslate2's threads slow down whatever else its process computes."""
    convert()
    rows = []
    for what, wanted, turns in (("one prompt, 100 new tokens", 1, 5),
                                ("110 test prompts, as many tokens as their answers have", 110, 3)):
        ours, float32, int8 = (command("generation_worker", name, wanted) for name in ("ours", "float32", "int8"))
        answers = bench.answers_in_turns(
            {"ours": ours, CT2: float32, "MKL": ["env", "CT2_USE_MKL=1", *float32], "int8": int8}, turns)
        ids = {name: given[0][1] for name, given in answers.items()}
        assert ids["ours"] == ids[CT2] == ids["MKL"], "ids differ"
        seconds = {name: median(time for time, _ in given[1:]) for name, given in answers.items()}
        rows.append(row(what, seconds["ours"], CT2, seconds[CT2], note=(
            f"with MKL's products {seconds['MKL']:.2f} s, **{seconds['MKL'] / seconds['ours']:.2f}×**; "
            f"its int8, with other ids, {seconds['int8']:.2f} s")))
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
    Path(__file__).with_name("strongest.md").write_text(f"""# Ours against the strongest

{bench.machine()}; {bench.FORMAT}; random weights, GPT-2 124M where nothing else is said, batches of {BATCH} from
{bench.data_name()}. Medians; times are how many times longer the peer takes, memory is our share of the peer's.

| | ours | the peer | |
|---|---|---|---|
{table}
""", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
    else:
        main()
