"""Random search, by Optuna's sampler: no early stopping."""

from __future__ import annotations

from optuna.samplers import RandomSampler

from replay.curves import Ranges
from replay.peers.optuna_study import OptunaStudy

LIBRARIES = ("optuna",)


def method(ranges: Ranges, seed: int) -> OptunaStudy:
    return OptunaStudy(ranges, seed, RandomSampler(seed=seed))
