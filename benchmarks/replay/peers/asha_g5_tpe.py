"""Ray's ASHA with a grace of five epochs and Optuna's TPE, told which trials were stopped.

A stopped trial is told PRUNED, with the values of all its epochs, so that TPE weighs it by how far
it came.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from optuna.pruners import BasePruner
from optuna.samplers import TPESampler
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from replay.curves import EPOCHS, Ranges
from replay.peers.optuna_study import OptunaStudy

LIBRARIES = ("ray", "optuna")


class RayAsha(BasePruner):
    """Ray's scheduler where Optuna asks a pruner."""

    def __init__(self) -> None:
        self._scheduler = AsyncHyperBandScheduler(
            "epoch", "accuracy", "max", max_t=EPOCHS, grace_period=5
        )

    def prune(self, study: Any, trial: Any) -> bool:  # noqa: ARG002
        one, epoch = SimpleNamespace(trial_id=trial.number), trial.last_step
        if epoch == 1:
            self._scheduler.on_trial_add(None, one)
        result = {"epoch": epoch, "accuracy": trial.intermediate_values[epoch]}
        decision = self._scheduler.on_trial_result(None, one, result)
        if decision == TrialScheduler.STOP:
            self._scheduler.on_trial_complete(None, one, result)
        # It stops a trial at its last epoch as well, which is then finished and not pruned.
        return bool(decision == TrialScheduler.STOP) and epoch < EPOCHS


def method(ranges: Ranges, seed: int) -> OptunaStudy:
    return OptunaStudy(ranges, seed, TPESampler(seed=seed), RayAsha())
