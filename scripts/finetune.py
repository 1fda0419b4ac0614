"""Instruction fine-tuning in one process or many, on one machine or several.

    python scripts/finetune.py
    torchrun --nproc-per-node 4 scripts/finetune.py --model "gpt2-xl (1558M)"
    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint <one of them>:29500 scripts/finetune.py

However many processes there are, the same options give the same batches and, up to rounding, the same losses, gradients
and model, `gpt2-instruct.pt`. Data, prompt and batches are the notebook's, model and loss the textbook's.

- The process of rank 0 alone reads data and weights. Each process keeps a part of every weight, of its gradient and of
  AdamW's moments (FSDP2, `fully_shard`), and borrows the other parts of a block while it computes that block.
- A batch is dealt out to the processes. Its loss is the mean over the scored tokens of all of them.
- Each process writes its parts of a checkpoint, which another number of processes can read. All machines must see the
  same folder, and one that you trust: PyTorch reads it by pickle.

Tried on CPUs, with gloo. CUDA, with NCCL, is written, but untested.
"""

import argparse
import json
import os
import shutil
import sys
import time
import warnings
from datetime import timedelta
from itertools import islice
from math import inf, isfinite
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import state_dict as parts
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, DistributedSampler

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from engine.checkpoints import changing_state, hash_of, number_of, whole_file
from engine.fast import IGNORE_INDEX, micro_batches, ready_to_train
from engine.generation import evaluation_mode
from engine.lora import add_lora, merge_lora
from engine.precision import LossScaler, mixed_precision, number_format
from gpt_download import download_and_load_gpt2, load_tokenizer
from previous_chapters import GPTModel, calc_loss_batch, gpt_config, load_weights_into_gpt, save_model
from scripts.tutorial import notebook_definitions

NOTEBOOK = notebook_definitions()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TIMEOUT = timedelta(minutes=30)  # how long processes wait for one that is silent, such as rank 0 while it downloads
CHECKPOINT_SECONDS = 600         # the longest time between checkpoints
# Nothing writes over the logits, which is what this warns of.
warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


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
    options = parser.parse_args()
    recipe = dict(NOTEBOOK["MINIATURE"] if options.model == "gpt2-mini (7M)" else NOTEBOOK["PUBLISHED"])
    recipe["data_file"] = ROOT / recipe["data_file"]
    if options.data_file:
        recipe |= {"url": None, "sha256": None}
    recipe["learning_rate"] *= 10 if options.lora_rank else 1  # as in the notebook
    for name, value in recipe.items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)
    precision = os.environ.get("PRECISION", "auto")
    options.precision = number_format(recipe["precision"] if precision == "auto" else precision, DEVICE)
    return options


# --- What rank 0 reads ---


def read_data(options, tokenizer):
    """Training and validation entries as token ids, split as in the notebook. Raises ValueError for too few."""
    entries = NOTEBOOK["download_and_load_file"](
        options.data_file, options.url, options.sha256, max_tokens=options.context_length,
        skip_bad=os.environ.get("SKIP_BAD_ENTRIES") == "1",
        count_tokens=lambda entry: sum(len(tokenizer.encode_ordinary(text))
                                       for text in (NOTEBOOK["format_prompt"](entry), entry["output"])))
    items = list(NOTEBOOK["InstructionDataset"](entries, tokenizer, options.mask_instruction))
    train_portion, test_portion = int(len(items) * 0.85), int(len(items) * 0.1)
    train, val = items[:train_portion], items[train_portion + test_portion:]
    if len(train) < options.batch_size or not val:
        raise ValueError(f"{len(items)} entries are too few: want {options.batch_size} to train, and some to validate")
    return train, val


def read_run(options):
    """What a run begins with: (model, its config, training and validation data, the newest checkpoint or None). Raises
    ValueError for a batch that can't be divided among the processes."""
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if options.batch_size < 1 or options.batch_size % world_size:
        raise ValueError(f"--batch-size {options.batch_size} is no multiple of {world_size}, the number of processes")
    settings, params = download_and_load_gpt2(NOTEBOOK["MODELS"][options.model], ROOT / "gpt2")
    train, val = read_data(options, load_tokenizer(ROOT / "gpt2/7M"))
    newest = newest_checkpoint(options, hash_of(train + val)) if options.checkpoint_dir else None
    model = empty_model(gpt_config(settings))
    load_weights_into_gpt(model, params)
    torch.manual_seed(options.seed)
    return with_adapters(model, options.lora_rank), gpt_config(settings), train, val, newest


# --- The model in parts ---


def with_adapters(model, lora_rank):
    """The model, its blocks with low-rank adapters if the rank is above 0."""
    if lora_rank:
        add_lora(model, lora_rank, alpha=2 * lora_rank)
    return model


def empty_model(cfg):
    """A model without memory for its weights."""
    with torch.device("meta"):
        return GPTModel(cfg)


def distribute(model, cfg, lora_rank):
    """Deal out rank 0's model to all processes, in parts. (One process keeps it whole.)"""
    if dist.get_world_size() == 1:
        return model.to(DEVICE)
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()} if model else {}
    model, mesh = with_adapters(empty_model(cfg), lora_rank), dist.init_device_mesh(DEVICE, (dist.get_world_size(),))
    for block in model.trf_blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)  # all else together, since embedding and output head are one parameter
    model.to_empty(device=DEVICE)
    model.out_head.weight = model.tok_emb.weight  # they have become two: tie them again
    options = parts.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    parts.set_model_state_dict(model, weights, options=options)
    return model


def gather(model, cfg, lora_rank):
    """The whole model on rank 0, its adapters merged; None elsewhere."""
    options = parts.StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = parts.get_model_state_dict(model, options=options)
    if dist.get_rank() > 0:
        return None
    model = with_adapters(empty_model(cfg), lora_rank)
    model.load_state_dict(weights, assign=True)
    model.out_head.weight = model.tok_emb.weight  # they have become two: tie them again
    merge_lora(model)
    return model


# --- Training ---


def total(*numbers):
    """The sum of each number over all processes, as floats."""
    sums = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(sums)
    return sums.tolist()


def batches_from(step, loader):
    """The batches after so many steps, epoch after epoch, without end."""
    while True:
        epoch, taken = divmod(step, len(loader))
        loader.sampler.set_epoch(epoch)
        yield from islice(loader, taken, None)
        step += len(loader) - taken


def train_step(model, optimizer, scaler, batch, options):
    """A step with this process's part of a batch, inputs and targets (B, T): loss, gradient norm and scored tokens of
    the whole batch. Raises ValueError if they aren't finite."""
    optimizer.zero_grad()
    (tokens,) = total((batch[1] != IGNORE_INDEX).sum())
    scored = tokens / dist.get_world_size()  # FSDP2 takes the mean of the gradients; wanted is their sum
    loss = 0.0
    for inputs, targets, share in micro_batches(*batch, options.micro_batch_size, scored):
        with mixed_precision(DEVICE, options.precision):  # for each part anew: FSDP2 misses gradients of reused casts
            part = share * calc_loss_batch(inputs, targets, model, DEVICE)
        scaler.scale(part).backward()
        loss += part.item() / dist.get_world_size()
    (loss,) = total(loss)
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), options.max_norm or inf)
    norm = (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()
    if not isfinite(loss) or not (isfinite(norm) or scaler.is_enabled()):  # the scaler leaves out such a step
        raise ValueError(f"the loss is {loss}, the gradient's norm {norm}: try a lower --learning-rate. The weights "
                         "are those from before this step")
    scaler.step(optimizer)
    return loss, norm, int(tokens)


@torch.no_grad()
def evaluate(model, loader, precision):
    """The mean loss per scored token over all entries, each counted once, and the number of these tokens."""
    world_size, loss, scored = dist.get_world_size(), 0.0, 0
    with evaluation_mode(model):
        for number, (inputs, targets) in enumerate(loader):
            places = (number * loader.batch_size + torch.arange(len(inputs))) * world_size + dist.get_rank()
            targets[places >= len(loader.dataset)] = IGNORE_INDEX  # repeated, so that all processes have as many
            n = int((targets != IGNORE_INDEX).sum())
            with mixed_precision(DEVICE, precision):
                loss += calc_loss_batch(inputs, targets, model, DEVICE).item() * n
            scored += n
    loss, scored = total(loss, scored)
    return loss / scored, int(scored)


# --- Checkpoints ---


def checkpoints(folder):
    """The whole checkpoints in a folder, the oldest first: those with the file that PyTorch writes last."""
    return sorted((path.parent for path in Path(folder).glob("step-*/.metadata")), key=number_of)


def newest_checkpoint(options, data):
    """The checkpoint to go on from, or None. Notes the run's settings beside it; raises ValueError if it has others."""
    path, found = Path(options.checkpoint_dir, "run.json"), checkpoints(options.checkpoint_dir)
    names = ("model", "num_epochs", "learning_rate", "batch_size", "lora_rank", "seed")
    run = {name: getattr(options, name) for name in names} | {"data": data}
    saved = json.loads(path.read_text()) if found else run
    differences = [f"{name} {run[name]!r}, was {saved[name]!r}" for name in run if run[name] != saved[name]]
    if differences:
        raise ValueError(f"{path.parent} is of another run ({'; '.join(differences)}): name another --checkpoint-dir")
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(run))
    return found[-1] if found else None


def state_of(model, optimizer, scaler):
    """What a checkpoint holds: trained weights, moments, the loss's scale."""
    return {"weights": changing_state(model), "moments": parts.get_optimizer_state_dict(model, optimizer),
            "scaler": scaler.state_dict()}


def save_checkpoint(folder, step, *stateful):
    """Write a checkpoint, each process its parts, and keep only the one before it besides."""
    dcp.save(state_of(*stateful), checkpoint_id=Path(folder, f"step-{step:06d}"))
    if dist.get_rank() == 0:
        for other in set(Path(folder).glob("step-*")) - set(checkpoints(folder)[-2:]):
            shutil.rmtree(other)


def load_checkpoint(path, model, optimizer, scaler):
    """Bring all to where a checkpoint has them: the number of steps taken."""
    state = state_of(model, optimizer, scaler)
    dcp.load(state, checkpoint_id=path)
    model.load_state_dict(state["weights"], strict=False)  # frozen ones are not among them
    parts.set_optimizer_state_dict(model, optimizer, state["moments"])
    scaler.load_state_dict(state["scaler"])
    return number_of(path)


# --- The run ---


def finetune(options, model, cfg, train, val, newest):
    """Train rank 0's model, from the newest checkpoint on if there is one, and write the result."""
    share, collate = options.batch_size // dist.get_world_size(), NOTEBOOK["custom_collate_fn"]
    loader = DataLoader(train, share, sampler=DistributedSampler(train, seed=options.seed, drop_last=True),
                        drop_last=True, collate_fn=collate)
    val_loader = DataLoader(val, share, sampler=DistributedSampler(val, shuffle=False), collate_fn=collate)
    steps = options.num_epochs * len(loader)
    last = min(steps, options.max_steps)

    model = distribute(model, cfg, options.lora_rank)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=0.1, fused=True)
    scaler = LossScaler(DEVICE, options.precision)  # for float16; else it does nothing
    ready_to_train(model, optimizer)
    first = load_checkpoint(newest, model, optimizer, scaler) if newest else 0
    saved_at = time.monotonic()
    for step, batch in zip(range(first + 1, last + 1), batches_from(first, loader)):
        if options.linear_decay:
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * (1 - (step - 1) / steps)
        loss, norm, tokens = train_step(model, optimizer, scaler, batch, options)
        print(f"step {step:06d} loss {loss:.6f} norm {norm:.6f} tokens {tokens}", flush=True)
        ends = step == last or step % len(loader) == 0
        if options.checkpoint_dir and any(total(ends or time.monotonic() - saved_at > CHECKPOINT_SECONDS)):
            save_checkpoint(options.checkpoint_dir, step, model, optimizer, scaler)
            saved_at = time.monotonic()
        if ends:
            loss, tokens = evaluate(model, val_loader, options.precision)
            print(f"validation loss {loss:.6f} tokens {tokens}", flush=True)

    model, path = gather(model, cfg, options.lora_rank), Path(options.output_dir, "gpt2-instruct.pt")
    if model is not None:
        save_model(model, cfg, path)
    print(f"Fine-tuned model: {path}", flush=True)


def main():
    options, rank = parse_options(), int(os.environ.get("RANK", 0))  # which torchrun sets
    if rank == 0:  # before the processes meet, so that whatever is wrong with the input is one error of one process
        model, *run = read_run(options)
    else:
        model = run = None
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  rank 0 speaks for all
    if DEVICE == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    alone = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group("cpu:gloo,cuda:nccl" if DEVICE == "cuda" else "gloo", timeout=TIMEOUT, **alone)
    box = [run]
    dist.broadcast_object_list(box)
    finetune(options, model, *box[0])
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
