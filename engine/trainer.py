"""The full training loop, for one process and for many.

It is the textbook's `train_model_simple` with what long runs need: packed batches, 16-bit matrix products,
micro-batches to save memory, a schedule, gradient clipping, a stop at the first loss or gradient that isn't finite, a
progress bar, a stop button, and checkpoints from which a run continues as if it had never stopped.
"""

import inspect
from itertools import islice
from math import isfinite
from operator import index

import torch
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from engine.checkpoints import Checkpoints
from engine.devices import check_device
from engine.distributed import all_reduce_sum, full_tensor, without_repetitions, world_size
from engine.fast import packed_loss
from engine.generation import generate
from engine.layers import fast_layers
from engine.memory import keep_freed_memory, lay_out_in_rows, temporarily_in_rows
from engine.models import context_length, evaluation_mode
from engine.precision import LossScaler, mixed_precision, resolve_precision
from engine.texts import translate
from engine.training_log import TrainingLog
from previous_chapters import IGNORE_INDEX, text_to_token_ids, token_ids_to_text


def train(model, train_loader, val_loader, optimizer, device, num_epochs, eval_freq, eval_iter, start_context,
          tokenizer, scheduler=None, max_norm=None, checkpoint_dir=None, checkpoint_minutes=10.0, precision="float32",
          micro_batch_size=None, max_steps=None, on_step=None):
    """Train a model that is on `device`. The first ten arguments, the printed lines and the three returned lists
    (train_losses, val_losses, tokens_seen) are those of the textbook's `train_model_simple`.

    eval_freq: with None nothing is logged, and no bar is shown.
    scheduler: of torch.optim.lr_scheduler; stepped after each step, also one that float16 skips.
    max_norm: gradients are clipped to this norm.
    precision: the dtype of the matrix products, "float32", "bfloat16", "float16" or "auto", the device's fastest.
    micro_batch_size: the number of rows computed at a time, to save memory; their gradients add up to the batch's.
    max_steps: the run stops after this step.
    on_step: called after each step with its number, its loss, its gradient's norm before clipping, and its number of
    tokens that count. The number is from 1; in the printed lines steps count from 0, as in the textbook. It is for
    watching: what it changes is no part of a checkpoint. An error that it raises ends the run.
    checkpoint_dir: the run is saved there after each epoch and every `checkpoint_minutes`. The same call made again, in
    this process or another one, continues from there and ends as if it had never stopped (on a CPU, bit for bit).

    A KeyboardInterrupt, such as a notebook's stop button, ends training and returns what was logged by then. After a
    step the model is in training mode. If the optimiser has no state yet, the model's trainable weights are first moved
    into rows (`lay_out_in_rows`).

    In several processes (`engine.distributed`) all call this with a sharded model, and loaders whose DistributedSampler
    gives each its rows. Raises ValueError, before the first step, for a loader without batches, a count that isn't a
    whole number of at least 1, a max_norm that isn't above 0, an unknown precision, a schedule that needs a metric,
    what `Checkpoints` refuses, a `checkpoint_dir` with the checkpoints of another run, and a device that doesn't
    compute what the CPU computes. Raises it later for a loss or gradient that isn't finite, before it is applied, and
    for weights that aren't, before they are saved.
    """
    check_batches(training=train_loader, validation=val_loader)
    check_counts(num_epochs=num_epochs, eval_freq=eval_freq, eval_iter=eval_iter, max_steps=max_steps,
                 micro_batch_size=micro_batch_size)
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm is {max_norm}: expected more than 0, or None for gradients as they are")
    check_schedule(scheduler)
    log = TrainingLog(num_epochs, len(train_loader), tokenizer, max_steps)
    precision = resolve_precision(precision, device)
    scaler = LossScaler(device, precision)  # scales in float16 only
    checkpointed = [model, optimizer, log, scaler] + ([scheduler] if scheduler else [])
    # Not micro_batch_size and max_steps: a run may continue with others.
    decides_the_result = {"num_epochs": num_epochs, "max_norm": max_norm, "eval_freq": eval_freq,
                          "eval_iter": eval_iter, "precision": precision}
    checkpoints = Checkpoints(checkpoint_dir, checkpointed, train_loader, val_loader, checkpoint_minutes,
                              **decides_the_result)
    if not optimizer.state:  # existing moments are stored as the weights are, and must stay so (`temporarily_in_rows`)
        lay_out_in_rows(model, copy_all=True)
    checkpoints.resume()

    first_step = log.step
    with fast_layers(model), keep_freed_memory() as start_keeping, log.progress_bar(shown=eval_freq is not None):
        try:
            for epoch in log.remaining_epochs():
                model.train()
                for inputs, targets in checkpoints.data_order.batches(epoch, log.step % len(train_loader)):
                    if log.step == first_step:
                        check_device(model, inputs, device, precision)
                    loss, norm, n_targets = take_step(
                        inputs, targets, model, optimizer, device, step=log.step, scheduler=scheduler, scaler=scaler,
                        precision=precision, micro_batch_size=micro_batch_size, max_norm=max_norm, tokenizer=tokenizer)
                    if log.step == first_step:  # after AdamW has made its moments, which would fragment the kept memory
                        start_keeping()
                    log.count_step(loss, n_targets, inputs)
                    if eval_freq is not None and log.step % eval_freq == 0:
                        log.log_losses(evaluate(val_loader, model, device, eval_iter, precision)[0])
                    log.step += 1
                    within_epoch = log.step % len(train_loader) > 0  # else let the loader end: it may draw numbers then
                    if within_epoch:
                        checkpoints.save_when_due(log.step)
                    if on_step is not None:
                        on_step(log.step, loss, norm, n_targets)
                    if within_epoch and log.step == log.last_step:
                        break
                checkpoints.save(log.step)
                if scaler.skipped:
                    log.print_line(scaler.report())
                if start_context:
                    with checkpoints.randomness.fixed():  # a run resumed from this checkpoint doesn't print it again
                        log.print_line(sample_text(model, tokenizer, start_context))
        except KeyboardInterrupt:  # a notebook's stop button
            log.print_line(translate("Interrupted: the model keeps what it has learned up to here, and the losses "
                                     "noted so far are returned."))
    return log.history()


def take_step(inputs, targets, model, optimizer, device, *, step, scheduler, scaler, precision, micro_batch_size,
              max_norm, tokenizer):
    """Train on one batch, inputs and targets (B, T), and step the schedule: (loss, norm, n_targets), two floats and an
    int. These are the batch's mean loss, its gradient's norm before clipping, and its number of targets that count.

    Other arguments as in `train`; step: the step's index; tokenizer: for the texts in an error. Raises ValueError for a
    loss or gradient that isn't finite, before it is applied.
    """
    optimizer.zero_grad()
    local_loss, n_targets = backpropagate(inputs, targets, model, device, precision, scaler, micro_batch_size)
    scaler.unscale_(optimizer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = gradient_norm(parameters)
    # The one wait for the device; in float16, the scaler waits as well.
    loss_value, norm_value = torch.stack((local_loss, norm.to(local_loss))).cpu().tolist()
    check_finite("loss", loss_value, step, inputs, tokenizer)
    if not scaler.is_enabled():  # the scaler itself skips a step whose gradients aren't finite
        check_finite("gradient's norm", norm_value, step, inputs, tokenizer)
    if max_norm is not None:
        clip_grads_with_norm_(parameters, max_norm, norm)
    scaler.step(optimizer)
    if scheduler is not None:
        scheduler.step()
    (mean_loss,) = all_reduce_sum(loss_value)
    return mean_loss, norm_value, n_targets


def backpropagate(inputs, targets, model, device, precision, scaler, micro_batch_size):
    """Add the gradients of a batch, inputs and targets (B, T), to the parameters' `grad`: (local_loss, n_targets).

    `n_targets` is the number of targets that count, in all processes. `local_loss` is a scalar tensor: the sum of
    `local_loss` over all processes is the batch's mean loss.
    """
    n_targets = int(all_reduce_sum(count_targets(targets))[0])
    local_loss = torch.zeros((), device=device)
    # PyTorch averages the gradients of n processes, but their sum is needed: so each divides by 1/n of all tokens.
    for part_inputs, part_targets, weight in micro_batches(inputs, targets, micro_batch_size,
                                                           n_targets / world_size()):
        with mixed_precision(device, precision):
            part_loss = weight * packed_loss(part_inputs, part_targets, model, device)
        scaler.scale(part_loss).backward()
        local_loss = local_loss + part_loss.detach() / world_size()
    return local_loss, n_targets


def micro_batches(inputs, targets, size=None, n_targets=None):
    """Divide a batch, inputs and targets (B, T), into parts of at most `size` rows (all, if None): a generator of
    (inputs, targets, weight).

    `weight` is the number of a part's targets that count, divided by `n_targets` (by that of the batch, if None). So
    the sum of weight * mean loss over the parts is the batch's mean loss. Raises ValueError for a size below 1.
    """
    check_counts(micro_batch_size=size)
    size = len(inputs) if size is None else size
    n_targets = n_targets or max(count_targets(targets), 1)  # 0 is replaced on purpose: all weights are 0 then
    for part_inputs, part_targets in zip(inputs.split(size), targets.split(size)):
        yield part_inputs, part_targets, count_targets(part_targets) / n_targets


def gradient_norm(parameters):
    """The norm of the parameters' gradients together, a scalar tensor."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return full_tensor(get_total_norm(grads))


@torch.no_grad()
def evaluate(data_loader, model, device, num_batches=None, precision="float32"):
    """The mean loss over the first `num_batches` batches of a loader (all, if None), in nats per token, and the number
    of tokens that count: (float, int). The loss is that of the textbook's `calc_loss_loader`.

    In several processes each entry counts once, though a DistributedSampler repeats some; it must not shuffle. Raises
    ValueError for a loader without batches, and for a num_batches below 1.
    """
    check_batches(data=data_loader)
    check_counts(num_batches=num_batches)
    loss_sum, n_targets = 0.0, 0
    with evaluation_mode(model), torch.random.fork_rng(devices=[]), fast_layers(model), temporarily_in_rows(model):
        for number, (inputs, targets) in enumerate(islice(data_loader, num_batches)):
            targets = without_repetitions(targets, number, data_loader)
            n = count_targets(targets)
            with mixed_precision(device, precision):
                loss_sum += n * packed_loss(inputs, targets, model, device).item()
            n_targets += n
    loss_sum, n_targets = all_reduce_sum(loss_sum, n_targets)
    return loss_sum / max(n_targets, 1), int(n_targets)


def count_targets(targets):
    """The number of targets that count in the loss."""
    return int((targets != IGNORE_INDEX).sum())


def sample_text(model, tokenizer, start_context):
    """How the model continues a text, greedily, by up to 50 tokens: prompt and continuation on one line."""
    ids = text_to_token_ids(start_context, tokenizer)
    ids = generate(model, ids, 50, context_size=context_length(model), eos_id=tokenizer.eot_token)
    return token_ids_to_text(ids, tokenizer).replace("\n", " ")


# --- Checks ---


def check_finite(what, value, step, inputs, tokenizer):
    """Raise ValueError with the texts of the batch (B, T) unless a number is finite."""
    if not isfinite(value):
        texts = "\n".join(repr(tokenizer.decode(row[row != tokenizer.eot_token].tolist())) for row in inputs)
        raise ValueError(f"the {what} at step {step} is {value}; the weights are those from before this step. Try a "
                         f"lower learning rate or max_norm=1.0, and look at this batch's texts:\n{texts}")


def check_batches(**loaders):
    """Raise ValueError for a loader without batches."""
    for name, loader in loaders.items():
        if len(loader) == 0:
            raise ValueError(f"the {name} loader has no batches: fewer entries than one batch, with drop_last=True?")


def check_counts(**counts):
    """Raise ValueError for a count that isn't a whole number, or is below 1; None stands for all."""
    for name, count in counts.items():
        try:
            valid = count is None or index(count) >= 1
        except TypeError:
            valid = False
        if not valid:
            raise ValueError(f"{name} is {count!r}: expected 1 or more, a whole number")


def check_schedule(scheduler):
    """Raise ValueError for a schedule whose `step` needs an argument, such as a metric."""
    try:
        if scheduler is not None:
            inspect.signature(scheduler.step).bind()
    except TypeError as error:
        raise ValueError(f"{type(scheduler).__name__} needs a metric, or something else, in each step ({error}): use a "
                         "schedule of steps, such as LinearLR") from error
