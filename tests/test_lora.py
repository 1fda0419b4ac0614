"""Low-rank adapters, against those of PEFT on transformers' GPT-2."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from engine import trainer
from engine.fast import packed_loss
from engine.lora import LoRALinear, add_lora, merge_lora
from previous_chapters import BLOCK_LAYERS, GPTModel, flatten_params, load_weights_into_gpt
from tests.small_models import (
    BATCHES,
    CFG,
    LAYERS,
    cross_entropy_by_torch,
    equal,
    float32_model,
    instruction_batch,
    logits_of,
    our_model,
    random_params,
    train,
    transformers_model,
)
from weights.saved import load_model, save_model

pytestmark = pytest.mark.usefixtures("one_thread")
RANK, ALPHA = 4, 8


def adapted(model, random=False):
    """The model with adapters; `random`: with a B that isn't zero."""
    torch.manual_seed(0)
    add_lora(model, RANK, ALPHA)
    for layer in model.modules():
        if random and isinstance(layer, LoRALinear):
            torch.nn.init.normal_(layer.B, std=0.1)
    return model


def peft_model(ours):
    """PEFT's model with the adapters that ours has."""
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=["c_attn", "c_fc", "c_proj"],
                        fan_in_fan_out=True)
    theirs = get_peft_model(transformers_model(), config)
    with torch.no_grad():
        for i, block in enumerate(ours.trf_blocks):
            for name, own in BLOCK_LAYERS.items():
                if not name.startswith("ln"):
                    layer = theirs.base_model.model.transformer.h[i].get_submodule(name.replace("/", "."))
                    layer.lora_A["default"].weight.copy_(block.get_submodule(own).A)
                    layer.lora_B["default"].weight.copy_(block.get_submodule(own).B)
    return theirs


def trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def test_training_equals_peft(float64):
    """Losses of eight AdamW steps and all logits, before and after merging."""
    ours = adapted(our_model())
    theirs = peft_model(ours)
    assert sum(map(torch.numel, trained(ours))) == theirs.get_nb_trainable_parameters()[0]
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-2) for model in (ours, theirs)]
    losses = []
    for inputs, targets in BATCHES * 2:
        both = packed_loss(inputs, targets, ours, "cpu"), cross_entropy_by_torch(theirs, inputs, targets)
        for loss, optimizer in zip(both, optimizers):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append([loss.item() for loss in both])
        assert losses[-1][0] == pytest.approx(losses[-1][1], abs=1e-5)
    assert losses[-1][0] < losses[0][0] - 0.1, "it learns"
    inputs, _ = instruction_batch(5)
    expected = logits_of(theirs, inputs)
    torch.testing.assert_close(ours(inputs), expected, rtol=0, atol=1e-5)
    merge_lora(ours)
    torch.testing.assert_close(ours(inputs), logits_of(theirs.merge_and_unload(), inputs), rtol=0, atol=1e-5)


def test_adapters_change_nothing_at_first():
    inputs, _ = instruction_batch(0)
    assert adapted(float32_model())(inputs).equal(float32_model()(inputs))


def test_the_loss_and_all_gradients_are_cross_entropys(float64):
    ours, plain = adapted(our_model(), random=True), adapted(our_model(), random=True)
    inputs, targets = instruction_batch(0, beginning=3)
    loss, expected = packed_loss(inputs, targets, ours, "cpu"), cross_entropy_by_torch(plain, inputs, targets)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    for one in (loss, expected):
        one.backward()
    assert len(trained(ours)) == 2 * 4 * LAYERS
    for mine, other in zip(trained(ours), trained(plain)):
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=1e-12)
        assert mine.grad.any()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_frozen_weights_keep_nothing_and_stay_in_the_file(precision):
    """No gradient, no moments, no copy: each still lies in the array that it was loaded from."""
    params = random_params(np.float32)
    with torch.device("meta"):
        model = GPTModel(CFG)
    load_weights_into_gpt(model, params)
    add_lora(model, RANK, ALPHA)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    train(model, optimizer=optimizer, max_norm=1.0, precision=precision)
    arrays = {array.ctypes.data for array in flatten_params(params).values()}
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    assert {parameter.data_ptr() for parameter in frozen} == arrays and len(frozen) == len(arrays)
    assert all(parameter.grad is None and parameter not in optimizer.state for parameter in frozen)
    assert optimizer.state.keys() == set(trained(model))
    expected = flatten_params(random_params(np.float32))
    assert all((array == expected[name]).all() for name, array in flatten_params(params).items())


def test_a_merged_model_is_a_plain_one(tmp_path):
    model, (inputs, _) = adapted(float32_model(), random=True).eval(), instruction_batch(0)
    adapters, names = model(inputs), list(float32_model().state_dict())
    merge_lora(model)
    assert list(model.state_dict()) == names and len(trained(model)) == len(list(model.parameters()))
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert model.out_head.weight is model.tok_emb.weight
    torch.testing.assert_close(model(inputs), adapters, rtol=1e-4, atol=1e-4)
    assert not model(inputs).allclose(float32_model()(inputs))
    save_model(model, CFG, tmp_path / "model.pt")
    again, _ = load_model(tmp_path / "model.pt")
    assert again(inputs).equal(model(inputs))
    train(again)  # all of it, as any other


def test_a_stopped_run_goes_on_from_checkpoints_of_the_adapters(tmp_path):
    """Which hold nothing that is frozen."""
    def run(folder, epochs_until_error=None):
        model = adapted(float32_model())
        with pytest.MonkeyPatch.context() as patch:
            if epochs_until_error:
                texts = iter([""] * epochs_until_error)
                patch.setattr(trainer, "sample_text", lambda *_: next(texts))
            history = train(model, epochs=3, checkpoint_dir=folder, start_context="start")
        return model.state_dict(), history

    whole = run(tmp_path / "whole")
    with pytest.raises(StopIteration):
        run(tmp_path / "run", epochs_until_error=1)
    saved = torch.load(tmp_path / "run/step-8.pt", weights_only=True)["states"][0]
    assert len(saved) == 2 * 4 * LAYERS and all(name.endswith((".A", ".B")) for name in saved)
    assert equal(run(tmp_path / "run"), whole)


def test_adapters_added_twice_are_one_set(tmp_path):
    """As when a notebook's cell is run again, before the training or after one."""
    model, names, (inputs, _) = float32_model(), list(float32_model().state_dict()), instruction_batch(0)
    for _ in range(2):
        adapted(model)
        adapted(model)
        assert len(trained(model)) == 2 * 4 * LAYERS
        train(model)
        expected = model.eval()(inputs)
    merge_lora(model)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(inputs), expected, rtol=1e-4, atol=1e-4)
    save_model(model, CFG, tmp_path / "model.pt")


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_an_error(rank):
    model = float32_model()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=f"rank is {rank}: expected 1 or more"):
        add_lora(model, rank, ALPHA)
    assert equal(model.state_dict(), before) and len(trained(model)) == len(list(model.parameters()))
