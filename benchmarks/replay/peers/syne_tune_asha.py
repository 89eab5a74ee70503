"""Syne Tune's ASHA: the stopping kind, its random searcher, a grace of 1 and a reduction of 3.

The scheduler is called in the order of Syne Tune's `Tuner`. After five trials its searcher draws
from numpy's global generator, which is therefore seeded, and not with the same seed: it would draw
the first five again.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import numpy as np
from syne_tune import config_space
from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer.baselines import ASHA
from syne_tune.optimizer.scheduler import SchedulerDecision

from replay.clock import Work
from replay.curves import EPOCHS, Ranges

LIBRARIES = ("syne-tune", "numpy")


def domain(kind: str, low: float, high: float, log: bool) -> Any:
    """A range in Syne Tune's words."""
    if kind == "int":
        make = config_space.lograndint if log else config_space.randint
        return make(int(low), int(high))
    return (config_space.loguniform if log else config_space.uniform)(low, high)


class SyneTune:
    """The scheduler's decisions; the tuner that would call it trains for real."""

    def __init__(self, ranges: Ranges, seed: int) -> None:
        # Its ASHA warns of an argument that it gives itself.
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        np.random.seed([seed, 1])
        space = {name: domain(*one) for name, one in ranges.items()}
        self._scheduler = ASHA(
            space,
            metric="accuracy",
            time_attr="epoch",
            max_t=EPOCHS,
            do_minimize=False,
            random_seed=seed,
        )
        self._trials: list[Trial] = []

    def next(self) -> Work:
        config = self._scheduler.suggest().config
        trial = Trial(len(self._trials), config, datetime.now(UTC))
        self._trials.append(trial)
        self._scheduler.on_trial_add(trial)
        return Work(str(trial.trial_id), config, 0)

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:  # noqa: ARG002
        one = self._trials[int(trial)]
        decision = self._scheduler.on_trial_result(one, {"accuracy": value, "epoch": epoch})
        if decision == SchedulerDecision.STOP:
            self._scheduler.on_trial_remove(one)
        return bool(decision == SchedulerDecision.CONTINUE)


def method(ranges: Ranges, seed: int) -> SyneTune:
    return SyneTune(ranges, seed)
