"""Hyperparameters as points of the unit cube, a coordinate a hyperparameter, and as rows that a model reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.config.space import RANGES, Hyperparameter, Space, Value

# What a model reads where a hyperparameter does not exist.
ABSENT = -1.0


def chosen_at(space: Space, point: Sequence[float] | NDArray[np.float64]) -> dict[str, Value]:
    """The values at `point` (hyperparameters,), each coordinate in [0, 1), of the hyperparameters that exist there."""
    chosen: dict[str, Value] = {}
    for hyperparameter, place in zip(space.hparams, point, strict=True):
        if hyperparameter.active(chosen):
            chosen[hyperparameter.name] = value_at(hyperparameter, float(place))
    return chosen


def draw(space: Space, generator: np.random.Generator) -> dict[str, Value]:
    """A value for each hyperparameter of `space` that exists, at random; the constraints are not asked."""
    return chosen_at(space, generator.random(len(space.hparams)))


def value_at(hyperparameter: Hyperparameter, place: float) -> Value:
    """The value of `hyperparameter` at `place` of [0, 1): each as likely, or each magnitude by a log."""
    if hyperparameter.kind not in RANGES:
        return hyperparameter.values[
            min(int(place * len(hyperparameter.values)), len(hyperparameter.values) - 1)
        ]
    low, high = float(hyperparameter.values[0]), float(hyperparameter.values[1])
    if hyperparameter.kind in ("int", "logint"):
        low, high = low - 0.5, high + 0.5
    if hyperparameter.kind.startswith("log"):
        found = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
    else:
        found = low + place * (high - low)
    if hyperparameter.kind in ("int", "logint"):
        return min(max(round(found), int(hyperparameter.values[0])), int(hyperparameter.values[1]))
    return min(max(found, low), high)


def place_of(hyperparameter: Hyperparameter, value: Any) -> float:
    """Where `value` of `hyperparameter` lies in [0, 1]; the middle of its part where it is one of several."""
    if hyperparameter.kind not in RANGES:
        return (hyperparameter.values.index(value) + 0.5) / len(hyperparameter.values)
    low, high = float(hyperparameter.values[0]), float(hyperparameter.values[1])
    if hyperparameter.kind in ("int", "logint"):
        low, high = low - 0.5, high + 0.5
    if hyperparameter.kind.startswith("log"):
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (float(value) - low) / (high - low)


def point_of(space: Space, chosen: Mapping[str, Any]) -> NDArray[np.float64]:
    """Where the values `chosen` lie, a coordinate a hyperparameter; one half where a hyperparameter does not exist."""
    return np.array(
        [
            place_of(hyperparameter, chosen[hyperparameter.name])
            if hyperparameter.name in chosen
            else 0.5
            for hyperparameter in space.hparams
        ]
    )


def row_of(space: Space, chosen: Mapping[str, Any]) -> list[float]:
    """`chosen` as a model reads it: a column a range, a column a choice's value, none if fixed."""
    row: list[float] = []
    for hyperparameter in space.hparams:
        here = hyperparameter.name in chosen
        if hyperparameter.kind in RANGES:
            row.append(place_of(hyperparameter, chosen[hyperparameter.name]) if here else ABSENT)
        elif len(hyperparameter.values) > 1:
            row += [
                float(here and chosen[hyperparameter.name] == value)
                for value in hyperparameter.values
            ]
    return row


def rows_at(space: Space, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `row_of` gives at `points` (N, hyperparameters) of the unit cube: (N, columns)."""
    columns: list[NDArray[np.float64]] = []
    # The number of the value that each choice has at each point; none where it does not exist.
    numbers: dict[str, NDArray[np.int64]] = {}
    for place, hyperparameter in enumerate(space.hparams):
        here = np.ones(len(points), bool)
        for other, allowed in hyperparameter.when:
            known = _values(next(one for one in space.hparams if one.name == other))
            wanted = [known.index(value) for value in allowed]
            here &= np.isin(numbers[other], wanted)
        if hyperparameter.kind in ("uniform", "loguniform"):
            columns.append(np.where(here, points[:, place], ABSENT))
            continue
        values: Sequence[Value] = _values(hyperparameter)
        if hyperparameter.kind in RANGES:
            found = np.array([value_at(hyperparameter, one) for one in points[:, place]])
            places = {value: place_of(hyperparameter, value) for value in set(found.tolist())}
            columns.append(np.where(here, [places[one] for one in found.tolist()], ABSENT))
            number = found - int(hyperparameter.values[0])
        else:
            number = np.minimum((points[:, place] * len(values)).astype(int), len(values) - 1)
            if len(values) > 1:
                columns += [np.where(here, number == one, 0.0) for one in range(len(values))]
        numbers[hyperparameter.name] = np.where(here, number, -1)
    return np.column_stack(columns) if columns else np.zeros((len(points), 0))


def _values(hyperparameter: Hyperparameter) -> Sequence[Value]:
    if hyperparameter.kind in ("int", "logint"):
        return range(int(hyperparameter.values[0]), int(hyperparameter.values[1]) + 1)
    return hyperparameter.values
