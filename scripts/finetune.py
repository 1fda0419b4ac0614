"""Instruction fine-tuning in one process or many, on one machine or several.

    python scripts/finetune.py
    torchrun --nproc-per-node 4 scripts/finetune.py --model "gpt2-xl (1558M)"
    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint <one of them>:29500 scripts/finetune.py

However many processes there are, the same options give the same batches and, up to rounding, the same losses, gradients
and model, `gpt2-instruct.pt`. Data, prompt and batches are the notebook's, model and loss the textbook's. The process
of rank 0 alone reads data and weights; how they are shared is told in `engine/distributed.py`.

Tried on CPUs, with gloo. CUDA, with NCCL, is written, but untested.
"""

import argparse
import os
import sys
import time
from functools import partial
from math import inf, isfinite
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, DistributedSampler

from engine import distributed
from engine.checkpoints import hash_of
from engine.fast import ready_to_train
from engine.generation import evaluation_mode
from engine.lora import add_lora, merge_lora
from engine.precision import LossScaler, mixed_precision, number_format
from gpt_download import download_and_load_gpt2, load_tokenizer
from previous_chapters import GPTModel, calc_loss_batch, gpt_config, load_weights_into_gpt, save_model
from scripts.tutorial import MINIATURE_DIR, ROOT, notebook_definitions, notebook_split

NOTEBOOK = notebook_definitions()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHECKPOINT_SECONDS = 600  # a checkpoint is due when the last one is older


def parse_options():
    """The command line's options, and what the notebook has found to fit the model where they are silent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NOTEBOOK["MODELS"], default="gpt2-mini (7M)")
    parser.add_argument("--data-file", help="a file of your own; without it, the data set that fits the model")
    parser.add_argument("--epochs", type=int, dest="num_epochs", help="without it, what fits the model")
    parser.add_argument("--learning-rate", type=float, help="without it, what fits the model")
    parser.add_argument("--batch-size", type=int, default=8, help="entries in a step, over all processes")
    parser.add_argument("--micro-batch-size", type=int, help="entries that a process computes at a time")
    parser.add_argument("--lora-rank", type=int, default=0, help="above 0, low-rank adapters alone are trained")
    parser.add_argument("--checkpoint-dir", help="a folder to save the training in and to go on from")
    parser.add_argument("--output-dir", default="build", help="the folder for gpt2-instruct.pt")
    parser.add_argument("--max-steps", type=int, default=sys.maxsize, help="stop after this step")
    parser.add_argument("--seed", type=int, default=123, help="decides on the order of the entries")
    given = parser.parse_args()
    recipe = dict(NOTEBOOK["MINIATURE"] if given.model == "gpt2-mini (7M)" else NOTEBOOK["PUBLISHED"])
    recipe["data_file"] = ROOT / recipe["data_file"]
    if given.data_file:
        recipe |= {"url": None, "sha256": None}
    recipe["learning_rate"] *= 10 if given.lora_rank else 1  # as in the notebook
    precision = os.environ.get("PRECISION", "auto")
    recipe["precision"] = number_format(recipe["precision"] if precision == "auto" else precision, DEVICE)
    parser.set_defaults(**recipe)
    return parser.parse_args()


def build_model(cfg, lora_rank, params=None):
    """A model with these weights, or without memory for any; with low-rank adapters if the rank is above 0."""
    with torch.device("meta"):
        model = GPTModel(cfg)
    if params:
        load_weights_into_gpt(model, params)
    if lora_rank:
        add_lora(model, lora_rank, alpha=2 * lora_rank)
    return model


def read_run(options):
    """What a run begins with: (model, its config, training and validation data, the newest checkpoint or None). Raises
    ValueError for a batch that can't be divided among the processes, too few entries, and checkpoints of another run.
    """
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if options.batch_size < 1 or options.batch_size % world_size:
        raise ValueError(f"--batch-size {options.batch_size} is no multiple of {world_size}, the number of processes")
    settings, params = download_and_load_gpt2(NOTEBOOK["MODELS"][options.model], ROOT / "gpt2")
    tokenizer = load_tokenizer(MINIATURE_DIR)
    entries = NOTEBOOK["download_and_load_file"](
        options.data_file, options.url, options.sha256, max_tokens=options.context_length,
        skip_bad=os.environ.get("SKIP_BAD_ENTRIES") == "1",
        count_tokens=lambda entry: sum(len(tokenizer.encode_ordinary(text))
                                       for text in (NOTEBOOK["format_prompt"](entry), entry["output"])))
    train, _, val = (list(NOTEBOOK["InstructionDataset"](part, tokenizer, options.mask_instruction))
                     for part in notebook_split(entries, options.batch_size))
    newest = options.checkpoint_dir and distributed.newest_checkpoint(
        options.checkpoint_dir, model=options.model, num_epochs=options.num_epochs, learning_rate=options.learning_rate,
        batch_size=options.batch_size, lora_rank=options.lora_rank, seed=options.seed, precision=options.precision,
        data=hash_of(train + val))
    torch.manual_seed(options.seed)
    cfg = gpt_config(settings)
    return build_model(cfg, options.lora_rank, params), cfg, train, val, newest


def finetune(options, model, cfg, train, val, newest):
    """Train rank 0's model, from the newest checkpoint on if there is one, and write the result. Raises ValueError for
    a loss or gradient that isn't finite, before it is applied."""
    load = partial(DataLoader, batch_size=options.batch_size // dist.get_world_size(),
                   collate_fn=NOTEBOOK["custom_collate_fn"])
    loader = load(train, sampler=DistributedSampler(train, seed=options.seed, drop_last=True), drop_last=True)
    val_loader = load(val, sampler=DistributedSampler(val, shuffle=False))
    steps = options.num_epochs * len(loader)
    last = min(steps, options.max_steps)

    build = partial(build_model, cfg, options.lora_rank)
    model = distributed.distribute(model, build, DEVICE)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=0.1, fused=True)
    scaler = LossScaler(DEVICE, options.precision)  # for float16; else it does nothing
    stateful = model, optimizer, scaler
    ready_to_train(model, optimizer)
    first = distributed.load_checkpoint(newest, *stateful) if newest else 0
    saved_at = time.monotonic()

    def loss_of(inputs, targets):
        with mixed_precision(DEVICE, options.precision):  # anew in each pass, as FSDP2 needs it
            return calc_loss_batch(inputs, targets, model, DEVICE)

    for step, batch in zip(range(first + 1, last + 1), distributed.batches_from(first, loader)):
        if options.linear_decay:
            optimizer.param_groups[0]["lr"] = options.learning_rate * (1 - (step - 1) / steps)
        optimizer.zero_grad()
        loss, tokens = distributed.backpropagate(loss_of, batch, options.micro_batch_size, scaler)
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), options.max_norm or inf).item()
        if not isfinite(loss) or not (isfinite(norm) or scaler.is_enabled()):  # else the scaler leaves it out
            raise ValueError(f"the loss is {loss}, the gradient's norm {norm}: try a lower --learning-rate. The "
                             "weights are those from before this step")
        scaler.step(optimizer)
        print(f"step {step:06d} loss {loss:.6f} norm {norm:.6f} tokens {tokens}", flush=True)

        ends = step == last or step % len(loader) == 0
        due = ends or time.monotonic() - saved_at > CHECKPOINT_SECONDS
        if options.checkpoint_dir and any(distributed.total(due)):
            distributed.save_checkpoint(options.checkpoint_dir, step, *stateful)
            saved_at = time.monotonic()
        if ends:
            if scaler.skipped:
                print(scaler.report())
            with evaluation_mode(model):
                loss, tokens = distributed.mean_loss(loss_of, val_loader)
            print(f"validation loss {loss:.6f} tokens {tokens}", flush=True)

    model, path = distributed.gather(model, build), Path(options.output_dir, "gpt2-instruct.pt")
    if model is not None:
        merge_lora(model)
        save_model(model, cfg, path)
    print(f"Fine-tuned model: {path}", flush=True)


def main():
    options = parse_options()
    # Before the processes meet, so that whatever is wrong with the input is one error of one process.
    model, *run = read_run(options) if os.environ.get("RANK", "0") == "0" else [None]
    options, *run = distributed.meet(DEVICE, [options, *run])  # rank 0's: "auto" is one number format for all machines
    finetune(options, model, *run)
    distributed.leave()


if __name__ == "__main__":
    main()
