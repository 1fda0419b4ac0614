"""Instruction fine-tuning in one process or many, on one machine or several.

    python scripts/finetune.py
    torchrun --nproc-per-node 4 scripts/finetune.py --model "gpt2-xl (1558M)"
    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint <one of them>:29500 scripts/finetune.py

With any number of processes, the same options give the same batches and, up to rounding, the same losses, gradients
and model, `gpt2-instruct.pt`. Data and prompt are the notebook's; the entries come in another order. Only the process
of rank 0 reads data and weights; `engine/distributed.py` shares them. Tried on CPUs, with gloo; untested on CUDA,
with NCCL.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils.data import DataLoader, DistributedSampler

from engine import distributed, trainer
from engine.lora import add_lora, merge_lora
from engine.precision import DTYPES, resolve_precision
from gpt_download import load_gpt2, load_tokenizer
from tutorial import MINIATURE_DIR, ROOT, instructions
from tutorial.data_files import check_lengths, download_and_load_file
from tutorial.parts import with_own_parts
from tutorial.recipes import recipe_for
from weights.empty import empty_model
from weights.saved import save_model
from weights.sizes import MODELS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def parse_options():
    """The options of the command line; those that aren't given come from the notebook's recipe."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=MODELS, default="gpt2-mini (7M)")
    parser.add_argument("--data-file", help="a file of your own; without it, the data set that fits the model")
    parser.add_argument("--skip-bad-entries", action="store_true", help="leave out entries that can't be used")
    parser.add_argument("--epochs", type=int, dest="num_epochs", help="without it, what fits the model")
    parser.add_argument("--learning-rate", type=float, help="without it, what fits the model")
    parser.add_argument("--batch-size", type=int, default=8, help="entries in a step, over all processes")
    parser.add_argument("--micro-batch-size", type=int, help="entries that a process computes at a time")
    parser.add_argument("--lora-rank", type=int, default=0, help="above 0, low-rank adapters alone are trained")
    parser.add_argument("--precision", choices=("auto", *DTYPES), help="auto: the device's fastest dtype; "
                        "without it, what fits the model")
    parser.add_argument("--checkpoint-dir", help="a folder to save the run in, and to continue it from")
    parser.add_argument("--output-dir", default="build", help="the folder for gpt2-instruct.pt")
    parser.add_argument("--max-steps", type=int, help="stop after this step; the learning rate follows the schedule of "
                        "the whole run, so it doesn't reach 0")
    parser.add_argument("--seed", type=int, default=123, help="decides the order of the entries, and the "
                        "initial values of adapters")
    options = parser.parse_args()
    recipe = recipe_for(options.model, options.data_file, options.num_epochs, options.learning_rate, options.lora_rank)
    recipe["data_file"] = options.data_file or ROOT / recipe["data_file"]
    given = {name: value for name, value in vars(options).items() if value is not None}
    vars(options).update(recipe | given)  # also what the recipe alone has, such as max_norm
    options.precision = resolve_precision(options.precision, DEVICE)
    return options


def read_run(options):
    """What a run begins with: (model, its config, training data, validation data). The data are lists of
    InstructionDataset's items. Raises ValueError for a batch that can't be divided among the processes, for too few
    entries, and for entries that are too long."""
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if options.batch_size < 1 or options.batch_size % processes:
        raise ValueError(f"--batch-size {options.batch_size}: expected a multiple of {processes}, the number of "
                         "processes, above 0")
    model, config = load_gpt2(options.model, ROOT / "gpt2")
    tokenizer = load_tokenizer(MINIATURE_DIR)
    entries = download_and_load_file(options.data_file, options.urls, options.sha256, options.skip_bad_entries)
    train_data, _, val_data = with_own_parts(instructions.split(entries), options.batch_size)

    def encoded(part):
        items = instructions.InstructionDataset(part, tokenizer, options.mask_instruction)
        lengths = [len(item[0] if options.mask_instruction else item) for item in items]
        return check_lengths(items, lengths, options.context_length, options.skip_bad_entries)
    return model, config, encoded(train_data), encoded(val_data)


def with_adapters(model, options):
    """The model with low-rank adapters, if the options ask for them. None, as on ranks above 0, stays None."""
    torch.manual_seed(options.seed)
    if model is not None and options.lora_rank:
        add_lora(model, options.lora_rank)
    return model


def finetune(options, model, config, train_data, val_data):
    """Train the model, which rank 0 has and the others get from it, and write the result."""
    def build():
        return with_adapters(empty_model(config), options)

    load = partial(DataLoader, batch_size=options.batch_size // distributed.world_size(),
                   collate_fn=instructions.custom_collate_fn)
    train_loader = load(train_data, drop_last=True,
                        sampler=DistributedSampler(train_data, seed=options.seed, drop_last=True))
    val_loader = load(val_data, sampler=DistributedSampler(val_data, shuffle=False))
    steps = options.num_epochs * len(train_loader)
    model = distributed.shard(with_adapters(model, options), build, DEVICE)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad],
                                  lr=options.learning_rate, weight_decay=0.1, fused=True)
    scheduler = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps) if options.linear_decay else None

    def report(step, loss, norm, tokens):
        print(f"step {step:06d} loss {loss:.6f} norm {norm:.6f} tokens {tokens}", flush=True)
        if step % len(train_loader) == 0 or step == options.max_steps:
            loss, tokens = trainer.evaluate(val_loader, model, DEVICE, precision=options.precision)
            print(f"validation loss {loss:.6f} tokens {tokens}", flush=True)

    trainer.train(model, train_loader, val_loader, optimizer, DEVICE, options.num_epochs, eval_freq=None,
                  eval_iter=None, start_context="", tokenizer=load_tokenizer(MINIATURE_DIR), scheduler=scheduler,
                  max_norm=options.max_norm, checkpoint_dir=options.checkpoint_dir, precision=options.precision,
                  micro_batch_size=options.micro_batch_size, max_steps=options.max_steps, on_step=report)

    model, path = distributed.unshard(model, build), Path(options.output_dir, "gpt2-instruct.pt")
    if model is not None:
        merge_lora(model)
        save_model(model, config, path)
    print(f"Fine-tuned model: {path}", flush=True)


def main():
    """Fine-tune in this process, together with the others that torchrun started."""
    options = parse_options()
    # Before the processes join, so that bad data or a bad model gives one error, in one process.
    if os.environ.get("RANK", "0") == "0":
        model, *run = read_run(options)
    else:
        model, run = None, []  # rank 0 shares them
    distributed.init_process_group(DEVICE)
    options, *run = distributed.broadcast([options, *run])  # on all machines the number format that rank 0 chose
    finetune(options, model, *run)
    distributed.leave_and_exit()


if __name__ == "__main__":
    main()
