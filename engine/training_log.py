"""What a training run has noted so far, what it prints while it runs, and when it must stop."""

import sys
from contextlib import contextmanager

from tqdm import tqdm

from .fast import count_scored


class TrainingLog:
    """The losses of a run and how far it has come, what it prints, and when it must stop. With its `state_dict` it is
    saved and resumed like model and optimiser.

    step: the number of the step that is being taken, from 0; notes: [(training loss, validation loss, tokens seen),
    ...].
    """

    def __init__(self, num_epochs, steps_per_epoch, tokenizer):
        self.num_epochs, self.steps_per_epoch, self.tokenizer = num_epochs, steps_per_epoch, tokenizer
        self.step, self.tokens_seen, self.notes = 0, 0, []
        self.loss_sum, self.scored = 0.0, 0  # since the last note

    def state_dict(self):
        return {name: getattr(self, name) for name in ("step", "tokens_seen", "notes", "loss_sum", "scored")}

    def load_state_dict(self, state):
        vars(self).update(state)

    def remaining_epochs(self):
        """The numbers of the epochs that have not been finished, from 0."""
        return range(self.step // self.steps_per_epoch, self.num_epochs)

    @contextmanager
    def shown(self):
        """Show a bar inside the `with` block. A KeyboardInterrupt (a notebook's stop button) ends it without an
        error."""
        # On standard output, like the printed losses: the bar and the lines then stay in order, in a notebook too.
        with tqdm(initial=self.step, total=self.num_epochs * self.steps_per_epoch, desc="Fine-tuning", unit="step",
                  file=sys.stdout) as self.bar:
            try:
                yield
            except KeyboardInterrupt:
                self.say("Interrupted: the model keeps what it has learned up to here, and the losses noted so far are "
                         "returned.")

    def say(self, line):
        """Print a line above the bar; only inside `shown`."""
        self.bar.write(line, file=sys.stdout)

    def check_finite(self, what, value, input_batch):
        """Raise ValueError with the texts of the batch (B, T) unless `value`, a tensor, is finite."""
        if not value.isfinite():
            texts = "\n".join(repr(self.tokenizer.decode(row[row != self.tokenizer.eot_token].tolist()))
                              for row in input_batch)
            raise ValueError(f"the {what} at step {self.step} is {value.item()}; the weights are those from before "
                             "this step. Try a lower learning rate or max_norm=1.0, and look at the texts of this "
                             f"batch:\n{texts}")

    def count(self, loss, input_batch, target_batch):
        """The step has been taken: its mean loss over the scored tokens, and its inputs and targets, both (B, T)."""
        scored = count_scored(target_batch)
        self.loss_sum, self.scored = self.loss_sum + loss.item() * scored, self.scored + scored
        self.tokens_seen += int((input_batch != self.tokenizer.eot_token).sum())
        self.bar.update()

    def note(self, val_loss):
        """Note and print the mean training loss since the last note, and a validation loss."""
        train_loss = self.loss_sum / max(self.scored, 1)
        self.notes.append((train_loss, val_loss, self.tokens_seen))
        self.loss_sum, self.scored = 0.0, 0
        self.say(f"Ep {self.step // self.steps_per_epoch + 1} (Step {self.step:06d}): Train loss {train_loss:.3f}, "
                 f"Val loss {val_loss:.3f}")

    def history(self):
        """The notes as three lists: training losses, validation losses, tokens seen."""
        return tuple([note[i] for note in self.notes] for i in range(3))


def check_batches(**loaders):
    """Raise ValueError for a loader without batches."""
    for name, loader in loaders.items():
        if len(loader) == 0:
            raise ValueError(f"the {name} loader has no batches: fewer entries than one batch, with drop_last=True?")


def check_counts(**counts):
    """Raise ValueError for a count below 1; None stands for all."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count}: want 1 or more")
