"""The order of the training batches, which a run that is resumed in the middle of an epoch repeats."""

from itertools import islice

from engine.distributed import start_epoch


class DataOrder:
    """The batches of a training loader, epoch by epoch. The order of an epoch is drawn at its start: so
    `epoch_start_states`, the random states of that moment, are saved and restored with a run."""

    def __init__(self, train_loader, randomness):
        self.train_loader = train_loader
        self.randomness = randomness
        self.epoch_start_states = randomness.states()

    def batches(self, epoch, taken):
        """The batches of an epoch, skipping the first `taken`, which were used before the run stopped.

        To skip them, the epoch is begun again in the random states of its start, so that its order is the same. Then
        the run draws on from the present states.
        """
        present = self.randomness.states()
        if taken:
            self.randomness.restore(self.epoch_start_states)
        else:
            self.epoch_start_states = present
        start_epoch(self.train_loader, epoch)
        batches = iter(self.train_loader)
        for _ in islice(batches, taken):
            pass
        if taken:
            self.randomness.restore(present)
        yield from batches
