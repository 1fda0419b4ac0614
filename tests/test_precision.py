"""Matrix products in bfloat16 and float16: where they are chosen, what they change, and steps that are skipped."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from engine.fast import packed_loss
from engine.layers import fast_layers
from engine.precision import fastest_precision, mixed_precision, resolve_precision
from tests.small_models import (
    BATCHES,
    LAYERS,
    cross_entropy_by_torch,
    equal,
    float32_model,
    instruction_batch,
    train,
    transformers_model,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# --- Which dtype ---


@pytest.mark.parametrize("can, expected", [
    ({"avx2": True}, "float32"), ({"avx512_f": True, "avx512_bf16": False}, "float32"),
    ({"avx512_f": True, "avx512_bf16": True}, "bfloat16"), ({"amx_tile": True, "amx_bf16": True}, "bfloat16"),
    ({"neon": True}, "float32")])
def test_bfloat16_on_a_cpu_that_multiplies_in_it(monkeypatch, can, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    assert fastest_precision("cpu") == resolve_precision("auto", torch.device("cpu")) == expected
    assert fastest_precision("mps") == "float32"


@pytest.mark.parametrize("capability, expected", [((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32")])
def test_float16_on_a_gpu_without_bfloat16(monkeypatch, capability, expected):
    """An A100, Colab's T4, and a card without tensor cores. PyTorch would emulate bfloat16 on all of them."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported",
                        lambda including_emulation=True: including_emulation or capability >= (8, 0))
    assert fastest_precision("cuda") == expected


def test_another_name_is_an_error():
    with pytest.raises(ValueError, match="precision is 'half': expected auto, float32, bfloat16, float16"):
        train(float32_model(), precision="half")


# --- What it changes ---


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_loss_and_gradients_equal_those_of_transformers_in_the_same_format(precision):
    """Both round at the same places, and differ by no more than the other order of their sums."""
    ours, theirs = float32_model(), transformers_model().float()
    inputs, targets = instruction_batch(0)
    with mixed_precision("cpu", precision):
        loss = packed_loss(inputs, targets, ours, "cpu")
        expected = cross_entropy_by_torch(theirs, inputs, targets)
    exact = cross_entropy_by_torch(float32_model(), inputs, targets)
    rounding = 2.0 ** {"bfloat16": -8, "float16": -11}[precision]
    assert loss.dtype == torch.float32 and loss != exact
    assert abs(loss - expected) < 4 * rounding and abs(loss - exact) < 4 * rounding
    for one in (loss, expected):
        one.backward()
    for mine, other in ((ours.tok_emb, theirs.transformer.wte), (ours.final_norm, theirs.transformer.ln_f),
                        (ours.trf_blocks[0].norm1, theirs.transformer.h[0].ln_1)):
        assert mine.weight.grad.dtype == torch.float32
        error = (mine.weight.grad - other.weight.grad).norm() / other.weight.grad.norm()
        assert error < 16 * rounding


def test_a_product_is_that_of_rounded_numbers():
    """By hand: operands and result in bfloat16, the sums between in float32."""
    layer, x = float32_model().trf_blocks[0].ff.layers[0], torch.randn(7, 16)
    rounded = F.linear(x.bfloat16().float(), layer.weight.bfloat16().float(), layer.bias.bfloat16().float())
    with mixed_precision("cpu", "bfloat16"):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), rounded, rtol=2.0 ** -7, atol=1e-6)


class CountCasts(TorchDispatchMode):
    """Counts how often each weight is cast while it is on."""

    def __init__(self, model):
        super().__init__()
        self.model, self.casts = model, Counter()

    def start(self):
        self.names = {weight.data_ptr(): name for name, weight in self.model.named_parameters()}
        self.__enter__()

    def stop(self, *_):
        self.__exit__(None, None, None)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default and args[0].data_ptr() in self.names:
            self.casts[self.names[args[0].data_ptr()]] += 1
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("micro_batch_size", [None, 1])
def test_each_weight_is_cast_once_a_pass(micro_batch_size):
    """Also the head's."""
    model = float32_model()
    train(model, BATCHES[:1], epochs=1, optimizer=torch.optim.SGD(model.parameters(), lr=0.0))  # checks the packed loss
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    counter = CountCasts(model)
    optimizer.zero_grad = counter.start
    optimizer.register_step_pre_hook(counter.stop)
    train(model, BATCHES[:1], epochs=1, optimizer=optimizer, precision="bfloat16", micro_batch_size=micro_batch_size)
    assert set(counter.casts.values()) == {len(BATCHES[0][0]) if micro_batch_size else 1}
    linear = [name for name, _ in model.named_parameters() if "norm" not in name and "emb" not in name]
    assert counter.casts.keys() == {"tok_emb.weight", *linear} and len(linear) == 2 * 4 * LAYERS


def test_training_in_bfloat16_follows_float32():
    """Master weights, gradients and moments stay float32; the losses are float32's, up to rounding."""
    runs = {}
    for precision in ("float32", "bfloat16"):
        model = float32_model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        runs[precision] = train(model, epochs=4, optimizer=optimizer, precision=precision)
        moments = [value for state in optimizer.state.values() for value in state.values()]
        assert {tensor.dtype for tensor in [*model.parameters(), *moments]} == {torch.float32}
    for exact, rounded in zip(runs["float32"][:2], runs["bfloat16"][:2]):
        assert rounded != exact and rounded == pytest.approx(exact, rel=0.01)


# --- Float16's scale ---


def overflow(model, steps):
    """Have a gradient be infinite in these of the steps, counted from 0."""
    with fast_layers(model):
        packed_loss(*BATCHES[0], model.train(), "cpu")  # which is checked the first time, on gradients, too
    count = iter(range(1000))
    model.final_norm.bias.register_hook(lambda grad: grad * (math.inf if next(count) in steps else 1))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_a_step_that_overflows_is_skipped_and_counted(capsys, recwarn, fused, max_norm):
    """The run ends as one whose loader never had these batches; the first is among them."""
    weights = []
    for loader, overflows in ((BATCHES, (0, 2)), ([BATCHES[1], BATCHES[3]], ())):
        model = float32_model()
        overflow(model, overflows)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
        train(model, loader, epochs=1, optimizer=optimizer, precision="float16", max_norm=max_norm)
        weights.append(model.state_dict())
        said = "steps skipped so far, because their float16 gradients overflowed: 2" in capsys.readouterr().out
        assert said == bool(overflows)
    assert equal(*weights) and not recwarn.list


def test_training_in_float16_follows_float32():
    exact, rounded = (train(float32_model(), precision=precision)[:2] for precision in ("float32", "float16"))
    for series, close in zip(exact, rounded):
        assert close != series and close == pytest.approx(series, rel=0.01)


def test_gradients_that_no_scale_makes_finite_are_an_error():
    model = float32_model()
    overflow(model, range(1000))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(ValueError, match="gradients aren't finite, however small the loss is scaled.*float32"):
        train(model, epochs=30, precision="float16")
    assert equal(dict(model.state_dict()), before)


def test_a_stopped_run_goes_on_with_its_scale(tmp_path):
    """Bit for bit, and the steps skipped before are counted."""
    def run(folder, overflows=(), stop=None):
        model = float32_model()
        overflow(model, overflows)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        steps = iter(range(100))
        optimizer.register_step_pre_hook(lambda *_: {}["stopped"] if next(steps) == stop else None)
        history = train(model, optimizer=optimizer, precision="float16", checkpoint_dir=folder, checkpoint_minutes=0)
        return model.state_dict(), optimizer.state_dict(), history

    whole = run(tmp_path / "whole", overflows=(1,))
    with pytest.raises(KeyError, match="stopped"):
        run(tmp_path / "run", overflows=(1,), stop=4)
    states = torch.load(tmp_path / "run/step-5.pt", weights_only=True)["states"]
    assert states[3]["scale"] == 2.0 ** 15 and states[3]["skipped"] == 1
    assert equal(run(tmp_path / "run"), whole)
