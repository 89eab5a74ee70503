"""Optuna's TPE with its Hyperband: four brackets, whose first rungs lie at 1, 3, 9 and 27."""

from __future__ import annotations

from optuna.pruners import HyperbandPruner
from optuna.samplers import TPESampler

from replay.curves import EPOCHS, Ranges
from replay.peers.optuna_study import OptunaStudy

LIBRARIES = ("optuna",)


def method(ranges: Ranges, seed: int) -> OptunaStudy:
    pruner = HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3)
    return OptunaStudy(ranges, seed, TPESampler(seed=seed), pruner)
