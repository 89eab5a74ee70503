"""Knobs as points of the unit cube, a coordinate a knob, and as rows that a model reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.config.space import RANGES, Knob, Space, Value

# What a model reads where a knob does not exist.
ABSENT = -1.0


def chosen_at(space: Space, point: Sequence[float] | NDArray[np.float64]) -> dict[str, Value]:
    """The values at `point` (knobs,), each coordinate in [0, 1), of the knobs that exist there."""
    chosen: dict[str, Value] = {}
    for knob, place in zip(space.knobs, point, strict=True):
        if knob.active(chosen):
            chosen[knob.name] = value_at(knob, float(place))
    return chosen


def draw(space: Space, generator: np.random.Generator) -> dict[str, Value]:
    """A value for each knob of `space` that exists, at random; the constraints are not asked."""
    return chosen_at(space, generator.random(len(space.knobs)))


def value_at(knob: Knob, place: float) -> Value:
    """The value of `knob` at `place` of [0, 1): each as likely, or each magnitude by a log."""
    if knob.kind not in RANGES:
        return knob.values[min(int(place * len(knob.values)), len(knob.values) - 1)]
    low, high = float(knob.values[0]), float(knob.values[1])
    if knob.kind in ("int", "logint"):
        low, high = low - 0.5, high + 0.5
    if knob.kind.startswith("log"):
        found = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
    else:
        found = low + place * (high - low)
    if knob.kind in ("int", "logint"):
        return min(max(round(found), int(knob.values[0])), int(knob.values[1]))
    return min(max(found, low), high)


def place_of(knob: Knob, value: Any) -> float:
    """Where `value` of `knob` lies in [0, 1]; the middle of its part where it is one of several."""
    if knob.kind not in RANGES:
        return (knob.values.index(value) + 0.5) / len(knob.values)
    low, high = float(knob.values[0]), float(knob.values[1])
    if knob.kind in ("int", "logint"):
        low, high = low - 0.5, high + 0.5
    if knob.kind.startswith("log"):
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (float(value) - low) / (high - low)


def point_of(space: Space, chosen: Mapping[str, Any]) -> NDArray[np.float64]:
    """Where the values `chosen` lie, a coordinate a knob; one half where a knob does not exist."""
    return np.array(
        [place_of(knob, chosen[knob.name]) if knob.name in chosen else 0.5 for knob in space.knobs]
    )


def row_of(space: Space, chosen: Mapping[str, Any]) -> list[float]:
    """`chosen` as a model reads it: a column a range, a column a choice's value, none if fixed."""
    row: list[float] = []
    for knob in space.knobs:
        here = knob.name in chosen
        if knob.kind in RANGES:
            row.append(place_of(knob, chosen[knob.name]) if here else ABSENT)
        elif len(knob.values) > 1:
            row += [float(here and chosen[knob.name] == value) for value in knob.values]
    return row


def rows_at(space: Space, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `row_of` gives at `points` (N, knobs) of the unit cube: (N, columns)."""
    columns: list[NDArray[np.float64]] = []
    # The number of the value that each choice has at each point; none where it does not exist.
    numbers: dict[str, NDArray[np.int64]] = {}
    for place, knob in enumerate(space.knobs):
        here = np.ones(len(points), bool)
        for other, allowed in knob.when:
            known = _values(next(one for one in space.knobs if one.name == other))
            wanted = [known.index(value) for value in allowed]
            here &= np.isin(numbers[other], wanted)
        if knob.kind in ("uniform", "loguniform"):
            columns.append(np.where(here, points[:, place], ABSENT))
            continue
        values: Sequence[Value] = _values(knob)
        if knob.kind in RANGES:
            found = np.array([value_at(knob, one) for one in points[:, place]])
            places = {value: place_of(knob, value) for value in set(found.tolist())}
            columns.append(np.where(here, [places[one] for one in found.tolist()], ABSENT))
            number = found - int(knob.values[0])
        else:
            number = np.minimum((points[:, place] * len(values)).astype(int), len(values) - 1)
            if len(values) > 1:
                columns += [np.where(here, number == one, 0.0) for one in range(len(values))]
        numbers[knob.name] = np.where(here, number, -1)
    return np.column_stack(columns) if columns else np.zeros((len(points), 0))


def _values(knob: Knob) -> Sequence[Value]:
    if knob.kind in ("int", "logint"):
        return range(int(knob.values[0]), int(knob.values[1]) + 1)
    return knob.values
