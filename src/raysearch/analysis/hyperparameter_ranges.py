"""A searched knob as a line from 0 to 1."""

from __future__ import annotations

import math
from typing import Any

from raysearch.config.space import RANGES, Knob
from raysearch.search.study.plan import Plan


def searched_knobs(plan: Plan) -> list[Knob]:
    """The knobs that vary, but for the number of folds: its values are never compared."""
    return [knob for knob in plan.space.knobs if len(set(knob.values)) > 1 and knob.name != "folds"]


def place(knob: Knob, value: Any) -> float:
    """Where `value` lies in the range or among the choices of `knob`, from 0 to 1."""
    if knob.kind not in RANGES:
        known = value in knob.values
        return knob.values.index(value) / (len(knob.values) - 1) if known else 0.0
    low, high, at = (_level(knob, one) for one in (*knob.values, value))
    return min(max((at - low) / (high - low), 0.0), 1.0)


def value_at(knob: Knob, share: float) -> Any:
    """The value of `knob` at `share` of the way, which is below 1; the one of a fixed knob."""
    if knob.kind not in RANGES:
        return knob.values[int(share * len(knob.values))]
    low, high = (_level(knob, one) for one in knob.values)
    at = low + share * (high - low)
    value = math.exp(at) if knob.kind.startswith("log") else at
    return round(value) if knob.kind in ("int", "logint") else value


def _level(knob: Knob, value: Any) -> float:
    return math.log(value) if knob.kind.startswith("log") else float(value)
