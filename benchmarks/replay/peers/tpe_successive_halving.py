"""Optuna's TPE with its successive halving.

Rungs at 1, 4 and 16 epochs: `min_resource` 1 is what its "auto" comes to for trials of 52 epochs,
and the reduction factor 4 and the early-stopping rate 0 are its defaults.
"""

from __future__ import annotations

from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler

from replay.curves import Ranges
from replay.peers.optuna_study import OptunaStudy

LIBRARIES = ("optuna",)


def method(ranges: Ranges, seed: int) -> OptunaStudy:
    pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=4, min_early_stopping_rate=0)
    return OptunaStudy(ranges, seed, TPESampler(seed=seed), pruner)
