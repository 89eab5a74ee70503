"""A searched hyperparameter as a line from 0 to 1."""

from __future__ import annotations

import math
from typing import Any

from raysearch.config.space import RANGES, Hyperparameter
from raysearch.search.study.plan import Plan


def searched_hparams(plan: Plan) -> list[Hyperparameter]:
    """The hyperparameters that vary, but for the number of folds: its values are never compared."""
    return [
        hyperparameter
        for hyperparameter in plan.space.hparams
        if len(set(hyperparameter.values)) > 1 and hyperparameter.name != "folds"
    ]


def place(hyperparameter: Hyperparameter, value: Any) -> float:
    """Where `value` lies in the range or among the choices of `hyperparameter`, from 0 to 1."""
    if hyperparameter.kind not in RANGES:
        known = value in hyperparameter.values
        return (
            hyperparameter.values.index(value) / (len(hyperparameter.values) - 1) if known else 0.0
        )
    low, high, at = (_level(hyperparameter, one) for one in (*hyperparameter.values, value))
    return min(max((at - low) / (high - low), 0.0), 1.0)


def value_at(hyperparameter: Hyperparameter, fraction: float) -> Any:
    """The value of `hyperparameter` at `fraction` of the way, which is below 1; the one of a fixed hyperparameter."""
    if hyperparameter.kind not in RANGES:
        return hyperparameter.values[int(fraction * len(hyperparameter.values))]
    low, high = (_level(hyperparameter, one) for one in hyperparameter.values)
    at = low + fraction * (high - low)
    value = math.exp(at) if hyperparameter.kind.startswith("log") else at
    return round(value) if hyperparameter.kind in ("int", "logint") else value


def _level(hyperparameter: Hyperparameter, value: Any) -> float:
    return math.log(value) if hyperparameter.kind.startswith("log") else float(value)
