"""Random configurations of a space, without asking any sampler."""

from __future__ import annotations

import math

import numpy as np

from raysearch.search.space import Knob, Space, Value


def draw(space: Space, generator: np.random.Generator) -> dict[str, Value]:
    """A value for each knob of `space` that exists, uniform over its range, its log or its choices.

    The constraints are not asked.
    """
    chosen: dict[str, Value] = {}
    for knob in space.knobs:
        if knob.active(chosen):
            chosen[knob.name] = _one(knob, generator)
    return chosen


def _one(knob: Knob, generator: np.random.Generator) -> Value:
    if knob.kind in ("fixed", "choice"):
        return knob.values[int(generator.integers(len(knob.values)))]
    low, high = float(knob.values[0]), float(knob.values[1])
    match knob.kind:
        case "int":
            return int(generator.integers(int(low), int(high) + 1))
        case "logint":
            # Each whole number has the log-width from half below it to half above it.
            drawn = math.exp(generator.uniform(math.log(low - 0.5), math.log(high + 0.5)))
            return int(min(max(round(drawn), low), high))
        case "loguniform":
            drawn = math.exp(generator.uniform(math.log(low), math.log(high)))
            return min(max(drawn, low), high)
    return min(max(float(generator.uniform(low, high)), low), high)
