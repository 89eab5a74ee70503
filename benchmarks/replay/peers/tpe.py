"""Optuna's TPE as it comes, without pruning."""

from __future__ import annotations

from optuna.samplers import TPESampler

from replay.curves import Ranges
from replay.peers.optuna_study import OptunaStudy

LIBRARIES = ("optuna",)


def method(ranges: Ranges, seed: int) -> OptunaStudy:
    return OptunaStudy(ranges, seed, TPESampler(seed=seed))
