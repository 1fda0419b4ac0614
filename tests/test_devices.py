"""Another device than the CPU: what waits for it, and what happens when it computes wrongly."""

from contextlib import nullcontext

import pytest
import torch

from engine import fast, generation, packing
from engine.devices import check_device
from engine.generation import generate
from engine.trainer import evaluate, train
from tests.other_device import NAME, OtherDevice, aten, move
from tests.small_models import CONTEXT, PROMPTS, float32_model, instruction_batch


class Tokenizer:
    eot_token = 0


@pytest.fixture(autouse=True)
def like_a_cuda_gpu(monkeypatch):
    """The stand-in queues copies, and has no autocast, which PyTorch refuses to switch off on such a device."""
    for module in (fast, generation, packing):
        monkeypatch.setattr(module, "on_device", lambda tensor, device: tensor.to(device, non_blocking=True))
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())


def trained(model, device, on_step=None):
    batches = [instruction_batch(seed) for seed in range(6)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)  # AdamW would enlarge what is rounding only
    train(model, batches, batches[:1], optimizer, device, num_epochs=1, eval_freq=None, eval_iter=None,
          start_context="", tokenizer=Tokenizer, max_norm=1.0, on_step=on_step)
    return model


def test_a_training_step_waits_once():
    here, waits = trained(float32_model(), "cpu"), []
    with OtherDevice() as device:
        there = trained(move(float32_model()), NAME, on_step=lambda *numbers: waits.append(len(device.waits)))
    assert [after - before for before, after in zip(waits, waits[1:])] == [1] * 5
    for ours, theirs in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(theirs.values, ours.detach(), rtol=1e-3, atol=1e-4)


def test_an_evaluation_waits_once_a_batch():
    batches = [instruction_batch(seed) for seed in range(4)]
    expected = evaluate(batches, float32_model(), "cpu")
    with OtherDevice() as device:
        model = move(float32_model())
        evaluate(batches, model, NAME)  # compares the packed loss with the reference path
        device.waits.clear()
        assert evaluate(batches, model, NAME) == pytest.approx(expected)
    assert len(device.waits) == len(batches)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "top_k": 5, "top_p": 0.9}, {"eos_id": 7}])
def test_a_generated_token_waits_once(options):
    def continued(model):
        torch.manual_seed(1)
        return generate(model, PROMPTS, 12, CONTEXT, **options, on_step=lambda: steps.append(1))

    steps = []
    expected = continued(float32_model())
    with OtherDevice() as device:
        model = move(float32_model())
        continued(model)  # compares the cache with the reference path
        device.waits.clear()
        steps.clear()
        assert continued(model) == expected
    # At the end of the last row a step finds that no row continues.
    assert len(steps) <= len(device.waits) <= len(steps) + 1


def test_the_stand_in_notices_waits_and_mixed_devices():
    with OtherDevice() as device:
        x = torch.arange(3.0, device=NAME)
        assert x.sum().item() == 3 and len(device.waits) == 1
        x[x > 1]
        x.cpu()
        torch.ones(2).to(NAME)
        assert len(device.waits) == 4
        torch.ones(2).to(NAME, non_blocking=True)
        x[torch.tensor([0, 2]).to(NAME, non_blocking=True)] = 1.0
        assert len(device.waits) == 4
        with pytest.raises(AssertionError, match="mixes devices"):
            x + torch.ones(3)


def test_a_buffer_that_is_not_saved_is_compared_too():
    class Scale(torch.nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.register_buffer("scale", scale, persistent=False)

        def forward(self, x):
            return x * self.scale

    with OtherDevice():
        model = move(float32_model())
        model.trf_blocks[0].ff.layers.append(Scale(torch.full((1,), 2.0).to(NAME)))
        check_device(model, instruction_batch(0)[0], NAME, "float32")


@pytest.mark.parametrize("wrong", [aten.native_layer_norm.default, aten.gelu.default, aten.addmm.default])
def test_a_wrong_device_is_noticed_before_the_first_step(wrong):
    before = float32_model().state_dict()
    with OtherDevice(wrong=[wrong]):
        model = move(float32_model())
        with pytest.raises(ValueError, match=f"on {NAME} the loss of two rows is .* on the CPU .* device = \"cpu\""):
            trained(model, NAME)
        for name, weight in model.state_dict().items():
            assert weight.values.equal(before[name])
