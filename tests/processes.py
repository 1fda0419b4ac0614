"""What tests run in processes of their own.

Each begins as a copy of a process that has imported this module, since importing PyTorch anew takes seconds; also
what an optimizer imports of it when it is made.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
import torch._dynamo  # noqa: F401  what an optimizer imports
import torch.distributed as dist
import torch.distributed.run as torchrun
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from engine import fast, trainer
from engine.distributed import init_process_group, leave_and_exit
from previous_chapters import GPTModel
from scripts import finetune
from tests.small_models import cross_entropy_by_torch, instruction_batch, our_model

COPIES = multiprocessing.get_context("forkserver")
COPIES.set_forkserver_preload([__name__])


def start(output, function, *arguments):
    """Start a function of this module in a process of its own. What it prints goes to the file `output`."""
    process = COPIES.Process(target=call, args=(output, function, *arguments))
    process.start()
    return process


def call(output, function, *arguments):
    """Call the function in this process, with one thread. Processes of a group meet on this machine."""
    with open(output, "wb") as file:
        for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(file.fileno(), descriptor)
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    function(*arguments)


def wait(*processes):
    """Wait until all have ended, or for two minutes: their exit codes, None for one that went on. None goes on."""
    end = time.monotonic() + 120
    for process in processes:
        process.join(max(0, end - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.terminate()  # a launcher ends its own processes
        process.join(10)
        process.kill()
        process.join()
    return codes


# --- A training that is killed ---


def train_until(moment, folder, result):
    """A small training run with everything that has a state: dropout, shuffling, a schedule, AdamW. It kills itself in
    the middle of a step, counted from where this process begins, or while it saves: "half-written", "written" or
    "renamed"; or "never", and saves its result."""
    def kill(*arguments, **options):
        os.kill(os.getpid(), signal.SIGKILL)

    def write_half(state, file):
        whole(state, file)
        file.truncate(file.tell() // 2)
        kill()

    torch.manual_seed(123)
    config = {"vocab_size": 50, "context_length": 16, "emb_dim": 8, "n_heads": 2, "n_layers": 2, "drop_rate": 0.1,
              "qkv_bias": True}
    model = GPTModel(config)
    data = list(zip(torch.randint(49, (22, 8)), torch.randint(49, (22, 8))))
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=20)
    tokenizer = SimpleNamespace(eot_token=49, encode=lambda *args, **kwargs: [1, 2], decode=str)
    if isinstance(moment, int):
        left = iter(range(moment, -1, -1))
        optimizer.register_step_pre_hook(lambda *_: None if next(left) else kill())
    elif moment == "half-written":
        whole, torch.save = torch.save, write_half
    elif moment == "written":
        os.fsync = kill
    elif moment == "renamed":
        Path.unlink = kill
    history = trainer.train(model, loader, loader, optimizer, "cpu", 4, 2, 2, "x", tokenizer, scheduler=scheduler,
                            max_norm=1.0, checkpoint_dir=folder)
    torch.save((model.state_dict(), optimizer.state_dict(), history, torch.get_rng_state()), result)


# --- Ranks of a process group ---


def finetune_as_rank(rank, processes, port, options, change=None):
    """A process of scripts/finetune.py, alone or one of several as torchrun starts them. `change` is called before."""
    if processes > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), MASTER_ADDR="127.0.0.1",
                          MASTER_PORT=str(port))
    if change:
        change()
    sys.argv = ["finetune.py", *map(str, options)]
    finetune.main()


def launch(temporary, options):
    """torchrun, as if its options stood in a command line. The files that it leaves behind lie in `temporary`."""
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    os.environ["OMP_NUM_THREADS"] = "1"
    torchrun.main(list(map(str, options)))


def with_sgd():
    """Its steps are as exact as the gradients; AdamW makes whole steps of the rounding where a gradient is almost
    zero."""
    torch.optim.AdamW = lambda parameters, lr, **other: torch.optim.SGD(parameters, lr)


def with_overflow():
    """In the first step, the part of one gradient that the last of two processes has is infinite."""
    class Overflowing(trainer.LossScaler):
        def unscale_(self, optimizer):
            if os.environ["RANK"] == "1" and not optimizer.state:
                optimizer.param_groups[0]["params"][0].grad.to_local().fill_(torch.inf)
            super().unscale_(optimizer)

    trainer.LossScaler = Overflowing


def leave_late():
    """Leave while one of gloo's threads waits for Python, to free the tensor of its last exchange."""
    init_process_group("cpu")
    kept = dist.group.WORLD  # noqa: F841  # as FSDP2 keeps it
    sys.setswitchinterval(1000)  # seconds until others may have their turn
    dist.all_reduce(torch.ones(1), async_op=True)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
    leave_and_exit()


def compare_gradients(how, rank, address):
    """One of two processes, each with a batch of its own: as many rows, but other numbers of tokens that count."""
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    plain, model = our_model(), our_model()
    batches = [instruction_batch(seed, beginning=3) for seed in (0, 1)]
    batches[1][1][:, :5] = -100
    assert len({int((targets != -100).sum()) for _, targets in batches}) == 2
    if how == "DistributedDataParallel":
        model = DistributedDataParallel(model)
    else:
        for block in model.trf_blocks:
            fully_shard(block)
        fully_shard(model)
        assert model.out_head.weight is model.tok_emb.weight

    loss = fast.packed_loss(*batches[rank], model, "cpu")
    assert fast.packing_works(model, *batches[rank], "cpu")
    loss.backward()
    expected = [cross_entropy_by_torch(plain, *batch) for batch in batches]
    torch.testing.assert_close(loss, expected[rank], rtol=0, atol=1e-12)
    sum(expected).backward()  # each process's gradients are the mean of both
    for (name, parameter), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        grad = parameter.grad.full_tensor() if hasattr(parameter.grad, "full_tensor") else parameter.grad
        torch.testing.assert_close(grad, other.grad / 2, rtol=0, atol=1e-12, msg=name)
    leave_and_exit()
