"""What stops a run: the stop button, and losses that aren't finite."""

import copy
import math

import pytest
import torch

import previous_chapters
from tests.small_models import BATCHES, EOT, TOY_TOKENIZER, equal, float32_model, train


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


@pytest.mark.parametrize("during", ["calc_loss_batch", "calc_loss_loader"])
@pytest.mark.parametrize("notes", [0, 2, 5])
def test_an_interrupted_training_keeps_model_and_history(monkeypatch, capsys, during, notes):
    """The stop button of a notebook, pressed in a step or in a validation pass after so many notes."""
    history = train(float32_model(), eval_freq=1)
    function, calls = getattr(previous_chapters, during), []

    def interrupted(*args, **kwargs):
        if torch.is_grad_enabled():  # not the calls from within a validation pass
            calls.append(args)
            if len(calls) > notes:
                raise KeyboardInterrupt
        return function(*args, **kwargs)

    monkeypatch.setattr(previous_chapters, during, interrupted)
    model, after_steps = float32_model(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    after_steps.append(copy.deepcopy(model.state_dict()))
    optimizer.register_step_post_hook(lambda *_: after_steps.append(copy.deepcopy(model.state_dict())))
    assert train(model, eval_freq=1, optimizer=optimizer) == tuple(values[:notes] for values in history)
    assert "Interrupted" in capsys.readouterr().out
    assert len(after_steps) == 1 + notes + (during == "calc_loss_loader") and equal(model.state_dict(), after_steps[-1])
