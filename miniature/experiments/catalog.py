"""All experiments, the most important ones first."""

from collections.abc import Callable
from typing import NamedTuple

from miniature.experiments import influence, trainings
from miniature.experiments.facts import facts
from miniature.experiments.faults import ASKING, TRAINING, faults
from miniature.experiments.heads import heads
from miniature.experiments.parts import parts
from miniature.tasks import TASKS

FIVE, THREE = range(5), range(3)


class Experiment(NamedTuple):
    run: Callable  # (condition, seed) -> numbers
    conditions: dict  # condition: its seeds


EXPERIMENTS = {
    "control": Experiment(trainings.control, {condition: FIVE for condition in trainings.CONTROL}
                          | {"pretrained, not fine-tuned": [0]}),
    "facts": Experiment(facts, {"base": [0], "fine-tuned": FIVE}),
    "faults": Experiment(faults, dict.fromkeys([*TRAINING, *ASKING], FIVE)),
    "examples": Experiment(trainings.examples, dict.fromkeys(
        [f"{size}, {how_long}" for size in trainings.SIZES for how_long in ("two epochs", "all steps")], FIVE)),
    "rates": Experiment(trainings.rates, dict.fromkeys(map(str, trainings.RATES), FIVE)),
    "epochs": Experiment(trainings.epochs, dict.fromkeys(map(str, trainings.EPOCHS), FIVE)),
    "never shown": Experiment(trainings.never_shown, dict.fromkeys(TASKS, THREE)),
    "heads": Experiment(heads, {"base": [0], "fine-tuned": FIVE}),
    "parts": Experiment(parts, {"all": FIVE}),
    "lora": Experiment(trainings.lora, dict.fromkeys(map(str, trainings.RANKS), FIVE)),
    "refusals": Experiment(trainings.refusing, {"without refusals": FIVE, "with refusals": FIVE}),
    "influence": Experiment(influence.influence, {"cosines": [0]} | dict.fromkeys(influence.CONDITIONS, THREE)),
}


def runs(names=EXPERIMENTS):
    """The runs of these experiments: (experiment, condition, seed), ... First all with seed 0, then all with seed 1."""
    for seed in FIVE:
        for name in names:
            yield from ((name, condition, seed) for condition, seeds in EXPERIMENTS[name].conditions.items()
                        if seed in seeds)
