"""The full training loop: against the loop written out, in parts of batches, and what stops it."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from engine import trainer
from engine.fast import packed_loss
from engine.trainer import evaluate, micro_batches, sample_text
from previous_chapters import (
    GPTModel,
    calc_loss_batch,
    calc_loss_loader,
    flatten_params,
    load_weights_into_gpt,
    train_model_simple,
)
from tests.small_models import (
    BATCHES,
    CFG,
    CONTEXT,
    EOT,
    TOY_TOKENIZER,
    VALIDATION,
    continue_naively,
    cross_entropy_by_torch,
    equal,
    float32_model,
    instruction_batch,
    mean_losses,
    mean_per_token,
    our_model,
    random_params,
    train,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("max_norm", [None, 0.1])
def test_training_equals_a_plain_loop(float64, capsys, max_norm):
    """Losses, notes, tokens, schedule and clipping against the loop written out; notes fall on steps 0, 3 and 6."""
    model, plain = our_model(), our_model()
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=0.1) for m in (model, plain)]
    schedulers = [torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=8) for optimizer in optimizers]
    train_losses, val_losses, tokens_seen = train(model, optimizer=optimizers[0], scheduler=schedulers[0],
                                                  max_norm=max_norm, start_context="start")
    printed = capsys.readouterr().out
    steps, expected_val = [], []
    for step, (inputs, targets) in enumerate(BATCHES * 2):
        optimizers[1].zero_grad()
        loss = cross_entropy_by_torch(plain, inputs, targets)
        loss.backward()
        if max_norm is not None:
            norm = torch.cat([parameter.grad.flatten() for parameter in plain.parameters()]).norm()
            assert norm > max_norm
            for parameter in plain.parameters():
                parameter.grad *= max_norm / (norm + 1e-6)
        optimizers[1].step()
        schedulers[1].step()
        steps.append((loss.item(), (targets != -100).sum().item(), (inputs != EOT).sum().item()))
        if step % 3 == 0:
            expected_val.append(mean_per_token(plain, VALIDATION[:1]))
    assert train_losses == pytest.approx(mean_losses(steps, 1, 4, 7), rel=0, abs=1e-9)
    assert val_losses == pytest.approx(expected_val, rel=0, abs=1e-9)
    assert tokens_seen == [sum(tokens for *_, tokens in steps[:n]) for n in (1, 4, 7)]
    assert optimizers[0].param_groups[0]["lr"] == 0  # eight steps of a schedule of eight
    for note, place in enumerate(["Ep 1 (Step 000000)", "Ep 1 (Step 000003)", "Ep 2 (Step 000006)"]):
        assert f"{place}: Train loss {train_losses[note]:.3f}, Val loss {val_losses[note]:.3f}" in printed
    assert sample_text(model, TOY_TOKENIZER, "start") in printed


def test_training_equals_the_textbooks_loop(float64, capsys):
    """What comes back, what is printed, and the weights."""
    runs = []
    for loop in (trainer.train, train_model_simple):
        model = our_model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        history = loop(model, BATCHES, VALIDATION, optimizer, "cpu", 2, 3, 1, "start", TOY_TOKENIZER)
        lines = [line.split("\r")[-1].strip() for line in capsys.readouterr().out.splitlines()]
        runs.append((history, model.state_dict(), [line for line in lines if "Fine-tuning" not in line and line]))
    (history, weights, lines), (plain_history, plain_weights, plain_lines) = runs
    for ours, expected in zip(history, plain_history, strict=True):
        assert ours == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(weights, plain_weights, rtol=0, atol=1e-8)
    assert lines == plain_lines and len(lines) == 3 + 2


def test_evaluating_gives_what_the_textbook_gives(float64):
    batches = [*VALIDATION, (VALIDATION[0][0], torch.full_like(VALIDATION[0][1], -100))]
    for number in (None, 1, 3, 99):
        loss, tokens = evaluate(batches, our_model(), "cpu", number)
        assert loss == pytest.approx(calc_loss_loader(batches, our_model(), "cpu", number), rel=1e-12)
        assert tokens == sum(int((targets != -100).sum()) for _, targets in batches[:number])
    assert evaluate(batches[2:], our_model(), "cpu") == (0.0, 0)


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_keeps_mode_and_random_state(training):
    inputs, targets = instruction_batch(0, rows=6)
    loader = DataLoader(list(zip(inputs, targets)), batch_size=2, shuffle=True)
    model = GPTModel(CFG | {"drop_rate": 0.5}).train(training)
    state = torch.get_rng_state()
    loss, _ = evaluate(loader, model, "cpu")
    assert model.training == training and torch.get_rng_state().equal(state)
    assert loss == pytest.approx(mean_per_token(model.eval(), [(inputs, targets)]), rel=1e-5)


def test_gradients_are_clipped_that_the_optimizer_has(float64):
    """Others, which are never zeroed, don't count, as if they were frozen."""
    def trained(freeze):
        model, norms = our_model(), []
        block = model.requires_grad_(not freeze).trf_blocks[-1].requires_grad_()
        train(model, optimizer=torch.optim.SGD(block.parameters(), 0.1), max_norm=0.1,
              on_step=lambda step, loss, norm, n_targets: norms.append(norm))
        return model.state_dict(), norms

    (weights, norms), (expected, expected_norms) = trained(freeze=False), trained(freeze=True)
    torch.testing.assert_close(weights, expected)
    assert norms == pytest.approx(expected_norms)


def test_evaluating_leaves_the_layout_that_the_optimizers_moments_share():
    """The fused AdamW pairs a weight's elements with its moments' in the order in which they are stored."""
    def trained(fused, evaluated):
        with torch.device("meta"):
            model = GPTModel(CFG)
        load_weights_into_gpt(model, random_params(np.float32))  # whose matrices are stored transposed
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, eps=1e-3, fused=fused)
        for batch in BATCHES[:3]:
            optimizer.zero_grad()
            calc_loss_batch(*batch, model, "cpu").backward()
            optimizer.step()
            if evaluated:
                evaluate(VALIDATION, model, "cpu", 1)
        return model.state_dict()

    assert any(not weight.is_contiguous() for weight in trained(True, True).values())
    torch.testing.assert_close(trained(True, True), trained(False, False))


def test_a_loader_without_batches_can_not_be_evaluated():
    with pytest.raises(ValueError, match="the data loader has no batches"):
        evaluate(empty_loader(), GPTModel(CFG), "cpu")
    with pytest.raises(ValueError, match="num_batches is 0: expected 1 or more"):
        evaluate(BATCHES, GPTModel(CFG), "cpu", num_batches=0)


def test_training_leaves_the_arrays_of_the_checkpoint_alone():
    params = random_params(np.float32)
    with torch.device("meta"):
        model = GPTModel(CFG)
    load_weights_into_gpt(model, params)
    train(model)
    expected = flatten_params(random_params(np.float32))
    assert all((array == expected[name]).all() for name, array in flatten_params(params).items())
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert model.out_head.weight is model.tok_emb.weight


def test_validation_changes_neither_order_nor_result():
    weights = []
    for eval_freq in (1, 1000):
        torch.manual_seed(123)
        model = GPTModel(CFG | {"drop_rate": 0.2})
        inputs, targets = instruction_batch(0, rows=8)
        loader = DataLoader(list(zip(inputs, targets)), batch_size=2, shuffle=True)
        train(model, loader, eval_freq=eval_freq, val_loader=DataLoader(list(zip(inputs, targets)), shuffle=True))
        weights.append(model.state_dict())
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())


def test_dropout_works_in_training_and_rests_in_validation():
    torch.manual_seed(0)
    model = GPTModel(CFG | {"drop_rate": 0.5}).eval()
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    train_losses, val_losses, _ = train(model, BATCHES[:1] * 2, epochs=3, eval_freq=1, optimizer=still)
    assert len(set(train_losses)) == 6 and len(set(val_losses)) == 1


def test_sample_text_is_one_line_that_ends_before_end_of_text():
    model = float32_model()
    expected = continue_naively(model, TOY_TOKENIZER.encode("Hi", None), 50, CONTEXT, EOT)
    assert sample_text(model, TOY_TOKENIZER, "Hi").split(" ") == [str(token) for token in expected]


def test_each_step_is_reported(capsys):
    """Number, loss, norm before clipping, tokens; without the bar, and also when the run ends within an epoch."""
    model, plain, steps = float32_model(), float32_model(), []
    train(model, max_steps=6, eval_freq=None, max_norm=1e-3, optimizer=torch.optim.SGD(model.parameters(), 0.0),
          on_step=lambda *step: steps.append(step))
    for number, (inputs, targets) in enumerate((BATCHES * 2)[:6]):
        loss = cross_entropy_by_torch(plain, inputs, targets)
        norm = torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, plain.parameters())]).norm()
        expected = number + 1, loss.item(), norm.item(), int((targets != -100).sum())
        assert steps[number] == pytest.approx(expected, rel=1e-4)
    assert len(steps) == 6 and "Fine-tuning" not in capsys.readouterr().out


# --- Micro-batches ---

@pytest.mark.parametrize("size", [None, 1, 2, 3, 8, 99])
def test_parts_of_a_batch_give_its_loss_and_gradients(float64, size):
    """Rows with unequal numbers of tokens that count, one with none."""
    inputs, targets = instruction_batch(0, rows=8, beginning=3)
    targets[:3, :5], targets[5] = -100, -100
    ours, plain = our_model(), our_model()
    total = 0.0
    parts = list(micro_batches(inputs, targets, size))
    assert [len(part) for part, _, _ in parts] == [len(part) for part in inputs.split(size or 8)]
    for part_inputs, part_targets, weight in parts:
        loss = weight * packed_loss(part_inputs, part_targets, ours, "cpu")
        loss.backward()
        total += loss.detach()
    expected = cross_entropy_by_torch(plain, inputs, targets)
    expected.backward()
    torch.testing.assert_close(total, expected.detach(), rtol=0, atol=1e-12)
    for (name, parameter), other in zip(ours.named_parameters(), plain.parameters()):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=0, atol=1e-12, msg=name)


def test_parts_in_two_processes_give_the_mean_of_all(float64):
    """Each process's gradients are the average of both, so the mean is over half of all tokens that count."""
    batches = [instruction_batch(0, rows=5), instruction_batch(1, rows=2)]
    tokens = sum(int((targets != -100).sum()) for _, targets in batches)
    model = our_model()
    loss = sum(weight * packed_loss(inputs, targets, model, "cpu") for batch in batches
               for inputs, targets, weight in micro_batches(*batch, 2, tokens / 2)) / 2
    assert loss.item() == pytest.approx(mean_per_token(our_model(), batches), rel=1e-12)


def test_a_part_in_which_nothing_counts_is_no_error():
    inputs, targets = instruction_batch(0)
    weights = [weight for _, _, weight in micro_batches(inputs, torch.full_like(targets, -100), 1)]
    assert weights == [0, 0, 0]


@pytest.mark.parametrize("size", [0, -1])
def test_parts_of_no_rows_are_an_error(size):
    with pytest.raises(ValueError, match=f"micro_batch_size is {size}: expected 1 or more"):
        train(float32_model(), micro_batch_size=size)


@pytest.mark.parametrize("max_norm", [None, 0.1])
def test_training_in_parts_is_training(float64, max_norm):
    runs = [train(our_model(), micro_batch_size=size, max_norm=max_norm) for size in (None, 1, 2)]
    for run in runs[1:]:
        for mine, other in zip(run, runs[0]):
            assert mine == pytest.approx(other, rel=1e-9)


# --- What stops a run ---


def empty_loader():
    return DataLoader([0], batch_size=2, drop_last=True)


@pytest.mark.parametrize("changes, message", [
    ({"loader": empty_loader()}, "the training loader has no batches"),
    ({"val_loader": empty_loader()}, "the validation loader has no batches"),
    ({"eval_freq": 0}, "eval_freq is 0: expected 1 or more"), ({"eval_iter": 0}, "eval_iter is 0: expected 1 or more"),
    ({"epochs": 0}, "num_epochs is 0: expected 1 or more"), ({"epochs": -1}, "num_epochs is -1: expected 1 or more"),
    ({"max_steps": 0}, "max_steps is 0: expected 1 or more"),
    ({"max_steps": -3}, "max_steps is -3: expected 1 or more"),
    ({"micro_batch_size": 0}, "micro_batch_size is 0: expected 1 or more"),
    ({"epochs": 1.5}, "num_epochs is 1.5: expected 1 or more, a whole number"),
    ({"epochs": 3.0}, "num_epochs is 3.0: "), ({"epochs": "3"}, "num_epochs is '3': expected 1 or more"),
    ({"epochs": torch.tensor(2.5)}, "num_epochs is tensor.2.5"),
    ({"max_steps": float("inf")}, "max_steps is inf: expected"),
    ({"eval_iter": np.float64(0.5)}, "eval_iter is .*: expected"),
    ({"max_norm": 0}, "max_norm is 0: expected more than 0, or None"),
    ({"max_norm": -1.0}, "max_norm is -1.0: expected more"),
    ({"max_norm": float("nan")}, "max_norm is nan: expected more than 0")])
def test_a_training_that_can_note_nothing_does_not_begin(changes, message):
    model = float32_model()
    with pytest.raises(ValueError, match=message):
        train(model, **changes)
    assert equal(dict(model.state_dict()), dict(float32_model().state_dict()))


def test_counts_may_be_numbers_of_other_libraries():
    plain = train(float32_model(), epochs=1, eval_freq=2)
    assert train(float32_model(), epochs=np.int64(1), eval_freq=torch.tensor(2)) == plain


class ByEpoch:
    """A schedule of somebody else's, as timm's are."""

    def __init__(self, optimizer):
        pass

    def step(self, epoch, metric=None):
        pass


@pytest.mark.parametrize("kind", [torch.optim.lr_scheduler.ReduceLROnPlateau, ByEpoch])
def test_a_schedule_that_needs_a_metric_is_an_error(kind):
    model = float32_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with pytest.raises(ValueError, match=f"{kind.__name__} needs a metric.*LinearLR"):
        train(model, optimizer=optimizer, scheduler=kind(optimizer))
    assert equal(dict(model.state_dict()), dict(float32_model().state_dict()))


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    model = float32_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    after_step = []
    optimizer.register_step_post_hook(lambda *_: after_step.append(copy.deepcopy(model.state_dict())))
    with pytest.raises(ValueError, match="the loss at step 1 is (nan|inf)") as error:
        train(model, optimizer=optimizer)
    for row in BATCHES[1][0]:  # the texts of the batch, without padding
        assert repr(TOY_TOKENIZER.decode(row[row != EOT].tolist())) in str(error.value)
    assert len(after_step) == 1
    assert all(torch.equal(value, after_step[0][name]) for name, value in model.state_dict().items())


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change():
    model = float32_model()
    model.final_norm.bias.register_hook(lambda gradient: gradient * math.inf)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="the gradient's norm at step 0 is (nan|inf)"):
        train(model, max_norm=1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("during", ["packed_loss", "evaluate"])
@pytest.mark.parametrize("notes", [0, 2, 5])
def test_an_interrupted_training_keeps_model_and_history(monkeypatch, capsys, during, notes):
    """The stop button of a notebook, pressed in a step or in a validation pass after so many notes."""
    history = train(float32_model(), eval_freq=1)
    function, calls = getattr(trainer, during), []

    def interrupted(*args, **kwargs):
        if torch.is_grad_enabled():  # not the calls from within a validation pass
            calls.append(args)
            if len(calls) > notes:
                raise KeyboardInterrupt
        return function(*args, **kwargs)

    monkeypatch.setattr(trainer, during, interrupted)
    model, after_steps = float32_model(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    after_steps.append(copy.deepcopy(model.state_dict()))
    optimizer.register_step_post_hook(lambda *_: after_steps.append(copy.deepcopy(model.state_dict())))
    assert train(model, eval_freq=1, optimizer=optimizer) == tuple(values[:notes] for values in history)
    assert "Interrupted" in capsys.readouterr().out
    assert len(after_steps) == 1 + notes + (during == "evaluate") and equal(model.state_dict(), after_steps[-1])
