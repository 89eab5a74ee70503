"""Ray Tune as it comes: ASHA with a grace of one epoch, and OptunaSearch's TPE.

The scheduler and the searcher are called in the order of Tune's controller (`tune_controller.py`):
a result goes to the scheduler, and to the searcher unless it stops the trial; at the end both are
told the last result. OptunaSearch then tells Optuna COMPLETE, a stopped trial like a finished one.
"""

from __future__ import annotations

from types import SimpleNamespace

import optuna
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from replay.clock import Work
from replay.curves import EPOCHS, Ranges
from replay.peers.optuna_study import distributions

LIBRARIES = ("ray", "optuna")


class RayTune:
    """Tune's decisions without Tune's processes; four trials run at once, none waits."""

    def __init__(self, ranges: Ranges, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._scheduler = AsyncHyperBandScheduler("epoch", "accuracy", "max", max_t=EPOCHS)
        space = distributions(ranges)
        self._searcher = OptunaSearch(space, metric="accuracy", mode="max", seed=seed)
        self._count = 0

    def next(self) -> Work:
        trial = str(self._count)
        self._count += 1
        config = self._searcher.suggest(trial)
        self._scheduler.on_trial_add(None, SimpleNamespace(trial_id=trial))
        return Work(trial, config, 0)

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:  # noqa: ARG002
        one = SimpleNamespace(trial_id=trial)
        result = {"epoch": epoch, "training_iteration": epoch, "accuracy": value}
        if self._scheduler.on_trial_result(None, one, result) != TrialScheduler.STOP:
            self._searcher.on_trial_result(trial, result)
            return True
        self._scheduler.on_trial_complete(None, one, result)
        self._searcher.on_trial_complete(trial, result)
        return False


def method(ranges: Ranges, seed: int) -> RayTune:
    return RayTune(ranges, seed)
