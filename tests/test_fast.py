"""Each fast form against the plain one, and for whatever a model has become: wrapped, hooked, sharded, compiled."""

import platform
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import engine.fast
from engine.fast import Linear, keep_freed_memory, micro_batches, pack
from previous_chapters import calc_loss_batch, causal_attention, load_model, save_model
from scripts.tutorial import ROOT
from tests.small_models import (
    CFG,
    LAYERS,
    D,
    V,
    cross_entropy_by_torch,
    float32_model,
    instruction_batch,
    mean_per_token,
    our_model,
    positions_computed,
    train,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("beginning", [0, 3])
def test_batch_loss_and_gradients_equal_cross_entropy(float64, beginning):
    inputs, targets = instruction_batch(0, beginning=beginning)
    ours, plain = our_model(), our_model()
    loss, expected = calc_loss_batch(inputs, targets, ours, "cpu"), cross_entropy_by_torch(plain, inputs, targets)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    (3 * loss).backward()
    (3 * expected).backward()
    for (name, parameter), other in zip(ours.named_parameters(), plain.parameters()):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("beginning", [0, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_positions_that_cannot_matter_are_not_computed(float64, masked, beginning):
    model, (inputs, targets) = our_model(), instruction_batch(0, beginning=beginning)
    if masked:
        targets[:, :3], targets[1, 5:] = -100, -100
    needed = torch.zeros_like(targets, dtype=torch.bool)
    for row, at in (targets != -100).nonzero().tolist():
        needed[row, :at + 1] = True
    shapes = positions_computed(model)
    loss = calc_loss_batch(inputs, targets, model, "cpu")
    assert shapes == [(1, int(needed.sum()) - (len(inputs) - 1) * beginning,)] and needed.sum() < inputs.numel()
    torch.testing.assert_close(loss, cross_entropy_by_torch(model, inputs, targets), rtol=0, atol=1e-12)
    packing = pack(inputs, needed)
    logits = packing.run(model, inputs, causal_attention, packing.source[needed])
    torch.testing.assert_close(logits, model(inputs)[needed], rtol=0, atol=1e-12)


def test_with_dropout_rows_share_nothing_in_training():
    model, (inputs, targets) = our_model(drop_rate=0.1), instruction_batch(0, beginning=3)
    shapes = positions_computed(model)
    for mode in (model.train, model.eval):
        mode()
        calc_loss_batch(inputs, targets, model, "cpu")
    assert shapes[1][1] == shapes[0][1] - 2 * 3


# --- One way through the model, whatever it has become ---


def gradients(model, loss):
    loss.backward()
    return {name.replace("module.", "").replace("_orig_mod.", ""): parameter.grad
            for name, parameter in model.named_parameters()}


def assert_equals_cross_entropy(model, plain):
    """Loss and every gradient, against `F.cross_entropy` of another copy of the model."""
    for masked in (False, True):
        inputs, targets = instruction_batch(0, rows=4, beginning=3)
        if masked:
            targets[:, :3] = -100
        loss, expected = calc_loss_batch(inputs, targets, model, "cpu"), cross_entropy_by_torch(plain, inputs, targets)
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
        ours, theirs = gradients(model, loss), gradients(plain, expected)
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-12, msg=name)
        model.zero_grad()
        plain.zero_grad()


class Adapter(torch.nn.Module):
    """A layer around a linear one, with `forward` alone, as in the book's appendix E: W x + B A x."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        generator = torch.Generator().manual_seed(7)
        self.A = torch.nn.Parameter(torch.randn(linear.in_features, 2, generator=generator))
        self.B = torch.nn.Parameter(torch.randn(2, linear.out_features, generator=generator))

    def forward(self, x):
        return self.linear(x) + x @ self.A @ self.B


def wrap_linear_layers(model):
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert len(linear) == 4 * LAYERS + 1
    for name, module in linear:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, Adapter(module))


def another_head(model):
    torch.manual_seed(0)
    model.out_head = torch.nn.Linear(D, V, bias=True)


def capped_logits(model):
    """A head whose backward pass needs its result, the logits: nothing may write over them."""
    model.out_head = torch.nn.Sequential(model.out_head, torch.nn.Tanh())


def hook(change):
    return lambda model: model.trf_blocks[1].register_forward_hook(lambda module, args, output: change(output))


CHANGES = {"wrapped layers": wrap_linear_layers, "another head": another_head, "capped logits": capped_logits,
           "a hook that scales": hook(lambda x: 1.5 * x),
           "a hook that looks along the rows": hook(lambda x: x.cumsum(1))}


def test_gradients_that_a_hook_changes_are_seen_in_their_rows(float64):
    ours, plain = our_model(), our_model()
    for model in (ours, plain):
        model.trf_blocks[1].register_full_backward_hook(lambda module, grad_in, _: (grad_in[0].cumsum(1), *grad_in[1:]))
    assert_equals_cross_entropy(ours, plain)


def test_a_second_backward_pass_gives_the_same(float64):
    model = our_model()
    loss = calc_loss_batch(*instruction_batch(0), model, "cpu")
    loss.backward(retain_graph=True)
    once = [parameter.grad.clone() for parameter in model.parameters()]
    loss.backward()
    for parameter, grad in zip(model.parameters(), once):
        torch.testing.assert_close(parameter.grad, 2 * grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", [-1, -99])
def test_another_negative_target_is_an_error(target):
    inputs, targets = instruction_batch(0)
    targets[1, 2] = target
    with pytest.raises(ValueError, match=f"target {target}: want token ids, or -100"):
        calc_loss_batch(inputs, targets, float32_model(), "cpu")


def test_a_row_too_long_is_an_error():
    ids = torch.zeros(1, CFG["context_length"] + 1, dtype=torch.long)
    with pytest.raises(ValueError, match="25 tokens in a row, but the context length is 24"):
        calc_loss_batch(ids, ids, float32_model(), "cpu")


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_gives_cross_entropy_of_its_own_logits(float64, change):
    ours, plain, unchanged = our_model().train(), our_model().train(), our_model()
    for model in (ours, plain):
        CHANGES[change](model)
    inputs, _ = instruction_batch(0)
    assert not ours(inputs).allclose(unchanged(inputs))
    assert_equals_cross_entropy(ours, plain)


def test_a_compiled_model_gives_the_same_and_can_be_saved(float64, tmp_path):
    model = our_model()
    compiled = torch.compile(model, backend="eager")
    assert_equals_cross_entropy(compiled, our_model())
    save_model(compiled, CFG, tmp_path / "model.pt")
    again, _ = load_model(tmp_path / "model.pt")
    inputs, _ = instruction_batch(0)
    assert again(inputs).equal(model(inputs)) and again.out_head.weight is again.tok_emb.weight


# Two processes, each with a batch of its own: as many rows, but other numbers of scored tokens.
RANK = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from engine.distributed import leave
from engine.fast import has_hooks
from previous_chapters import calc_loss_batch
from tests.small_models import cross_entropy_by_torch, instruction_batch, our_model

how, rank, address = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
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
    assert model.out_head.weight is model.tok_emb.weight and not has_hooks(model), "PyTorch's own hooks are no obstacle"

loss = calc_loss_batch(*batches[rank], model, "cpu")
loss.backward()
expected = [cross_entropy_by_torch(plain, *batch) for batch in batches]
torch.testing.assert_close(loss, expected[rank], rtol=0, atol=1e-12)
sum(expected).backward()  # each process's gradients are the mean of both
for (name, parameter), other in zip(model.named_parameters(), plain.parameters(), strict=True):
    grad = parameter.grad.full_tensor() if hasattr(parameter.grad, "full_tensor") else parameter.grad
    torch.testing.assert_close(grad, other.grad / 2, rtol=0, atol=1e-12, msg=name)
leave()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["DistributedDataParallel", "fully_shard"])
def test_in_two_processes_gradients_are_the_mean_of_both(how, tmp_path):
    address = f"file://{tmp_path}/rendezvous"
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, how, str(rank), address], cwd=ROOT, text=True,
                              stderr=subprocess.PIPE) for rank in range(2)]
    try:
        errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    finally:  # one that waits for another, which is gone
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], errors


# --- Few rows ---


def random_layer(d_in, d_out, bias=True, input_first=False):
    """A layer with random weights; with `input_first` they lie in the memory as in OpenAI's files."""
    layer = Linear(d_in, d_out, bias=bias)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    if input_first:
        layer.weight = torch.nn.Parameter(layer.weight.data.T.contiguous().T)
    return layer


@pytest.mark.parametrize("d_out", [7, 10, 32, 58])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(), (0,), (1,), (2, 1), (3,), (5,), (4, 4), (8, 8), (65,)])
@pytest.mark.parametrize(("d_in", "input_first"), [(6, False), (6, True), (11, True), (32, True)])
def test_few_rows_give_what_many_give(rows, bias, d_in, d_out, input_first):
    layer, x = random_layer(d_in, d_out, bias, input_first), torch.randn(*rows, d_in, requires_grad=True)
    ours, plain = layer(x), F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(ours, plain)
    leaves = [x, *layer.parameters()]
    grads = [torch.autograd.grad(y.square().sum(), leaves) for y in (ours, plain)]
    for mine, other in zip(*grads):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("input_first", [False, True])
def test_only_few_rows_are_read_in_slices(input_first, monkeypatch):
    layer = random_layer(6, 32, input_first=input_first)
    monkeypatch.setattr(torch, "bmm", None)
    layer(torch.randn(65, 6))
    with pytest.raises(TypeError):
        layer(torch.randn(64, 6))


class Wrapped(torch.Tensor):
    """A tensor type of somebody else's, whose memory has no view in slices."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.view:
            raise RuntimeError("no view")
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize("change", [
    lambda layer: layer.bfloat16(), lambda layer: layer.double(),
    lambda layer: layer.__setattr__("weight", torch.nn.Parameter(torch.randn(64, 6)[::2])),
    lambda layer: layer.__setattr__("weight", torch.nn.Parameter(layer.weight.data.as_subclass(Wrapped)))])
def test_other_weights_are_left_to_pytorch(change, monkeypatch):
    layer = random_layer(6, 32)
    change(layer)
    monkeypatch.setattr(torch, "bmm", None)
    x = torch.randn(3, 6, dtype=layer.weight.dtype)
    assert layer(x).equal(F.linear(x, layer.weight, layer.bias))


# --- A batch in parts ---


@pytest.mark.parametrize("size", [None, 1, 2, 3, 8, 99])
def test_parts_of_a_batch_give_its_loss_and_gradients(float64, size):
    """Rows with unequal numbers of scored tokens, one with none."""
    inputs, targets = instruction_batch(0, rows=8, beginning=3)
    targets[:3, :5], targets[5] = -100, -100
    ours, plain = our_model(), our_model()
    total = 0.0
    parts = list(micro_batches(inputs, targets, size))
    assert [len(part) for part, _, _ in parts] == [len(part) for part in inputs.split(size or 8)]
    for part_inputs, part_targets, share in parts:
        loss = share * calc_loss_batch(part_inputs, part_targets, ours, "cpu")
        loss.backward()
        total += loss.detach()
    expected = cross_entropy_by_torch(plain, inputs, targets)
    expected.backward()
    torch.testing.assert_close(total, expected.detach(), rtol=0, atol=1e-12)
    for (name, parameter), other in zip(ours.named_parameters(), plain.parameters()):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=0, atol=1e-12, msg=name)


def test_parts_in_two_processes_give_the_mean_of_all(float64):
    """Each process's gradients are the average of both, so the mean is over half of all scored tokens."""
    batches = [instruction_batch(0, rows=5), instruction_batch(1, rows=2)]
    scored = sum(int((targets != -100).sum()) for _, targets in batches)
    model = our_model()
    loss = sum(share * calc_loss_batch(inputs, targets, model, "cpu") for batch in batches
               for inputs, targets, share in micro_batches(*batch, 2, scored / 2)) / 2
    assert loss.item() == pytest.approx(mean_per_token(our_model(), batches), rel=1e-12)


def test_nothing_scored_is_no_error():
    inputs, targets = instruction_batch(0)
    shares = [share for _, _, share in micro_batches(inputs, torch.full_like(targets, -100), 1)]
    assert shares == [0, 0, 0]


@pytest.mark.parametrize("size", [0, -1])
def test_parts_of_no_rows_are_an_error(size):
    with pytest.raises(ValueError, match=f"{size} rows at a time: want 1 or more"):
        train(float32_model(), micro_batch_size=size)


@pytest.mark.parametrize("max_norm", [None, 0.1])
def test_training_in_parts_is_training(float64, max_norm):
    runs = [train(our_model(), micro_batch_size=size, max_norm=max_norm) for size in (None, 1, 2)]
    for run in runs[1:]:
        for mine, other in zip(run, runs[0]):
            assert mine == pytest.approx(other, rel=1e-9)


# --- Memory ---


RESIDENT = """
import sys, torch
from engine.fast import keep_freed_memory

def resident():
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return int(lines["VmRSS"].split()[0])

if sys.argv[1] == "kept":
    keep_freed_memory()
before = resident()
torch.ones(25_000_000)
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the switches are glibc's")
@pytest.mark.parametrize("kept", [True, False])
def test_freed_memory_is_kept(kept):
    """By how many kB a process has grown that has filled 100 MB and freed them."""
    run = subprocess.run([sys.executable, "-c", RESIDENT, "kept" if kept else "freed"], capture_output=True, text=True,
                         cwd=ROOT, check=True)
    assert int(run.stdout) > 90_000 if kept else int(run.stdout) < 10_000


def test_without_glibc_nothing_is_switched(monkeypatch):
    """macOS has no mallopt, and Windows not even a C library under that name."""
    monkeypatch.setattr(engine.fast.sys, "platform", "win32")
    monkeypatch.setattr(engine.fast.ctypes, "CDLL", None)
    keep_freed_memory()
