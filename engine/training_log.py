"""The log of a training run: how far it has come, its losses, and the lines and the bar that show them."""

import sys
from contextlib import contextmanager

from tqdm import tqdm

from engine.distributed import all_reduce_sum
from engine.texts import translate


class TrainingLog:
    """How far a run has come, its log entries, and the bar and the lines that show them. It is saved and resumed like
    model and optimiser, by its `state_dict`.

    step: the number of steps taken so far, so also the index of the current step; last_step: the number after which the
    run ends; notes: the log entries, [(training loss, validation loss, tokens seen), ...].
    """

    def __init__(self, num_epochs, steps_per_epoch, tokenizer, max_steps=None):
        self.steps_per_epoch = steps_per_epoch
        self.tokenizer = tokenizer
        steps = num_epochs * steps_per_epoch
        self.last_step = min(steps, max_steps or steps)
        self.step, self.tokens_seen = 0, 0
        self.notes = []
        self.loss_sum, self.n_targets = 0.0, 0  # since the last log entry

    def state_dict(self):
        return {name: getattr(self, name) for name in ("step", "tokens_seen", "notes", "loss_sum", "n_targets")}

    def load_state_dict(self, state):
        vars(self).update(state)

    def remaining_epochs(self):
        """The numbers, from 0, of the epochs that aren't finished."""
        if self.step >= self.last_step:
            return range(0)
        return range(self.step // self.steps_per_epoch, -(-self.last_step // self.steps_per_epoch))

    @contextmanager
    def progress_bar(self, shown):
        """Show a progress bar, if `shown`, inside the `with` block."""
        # On standard output, like the printed losses: the bar and the lines then stay in order, in a notebook too.
        with tqdm(initial=self.step, total=self.last_step, desc=translate("Fine-tuning"), unit=translate("step"),
                  file=sys.stdout, disable=not shown) as self.bar:
            yield

    def print_line(self, line):
        """Print a line above the bar; only inside `progress_bar`."""
        self.bar.write(line, file=sys.stdout)

    def count_step(self, loss, n_targets, inputs):
        """Count a step that was taken: its mean loss, its number of tokens that count, and this process's inputs
        (B, T)."""
        self.loss_sum += loss * n_targets
        self.n_targets += n_targets
        self.tokens_seen += int(all_reduce_sum((inputs != self.tokenizer.eot_token).sum())[0])
        self.bar.update()

    def log_losses(self, val_loss):
        """Log and print the mean training loss since the last log entry, and a validation loss."""
        train_loss = self.loss_sum / max(self.n_targets, 1)
        self.notes.append((train_loss, val_loss, self.tokens_seen))
        self.loss_sum, self.n_targets = 0.0, 0
        self.print_line(translate("Ep {epoch} (Step {step:06d}): Train loss {train:.3f}, Val loss {val:.3f}").format(
            epoch=self.step // self.steps_per_epoch + 1, step=self.step, train=train_loss, val=val_loss))

    def history(self):
        """The log entries as three lists: training losses, validation losses, tokens seen."""
        return tuple([note[i] for note in self.notes] for i in range(3))
