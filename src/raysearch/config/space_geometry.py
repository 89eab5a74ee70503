"""A space as the unit cube: hyperparameters as coordinates, configurations as points and features.

Samplers, the forest's candidates, importances and figures all use these conversions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.space import RANGES, Hyperparameter, Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The feature of a hyperparameter that does not exist.
ABSENT = -1.0


def value_at(hparam: Hyperparameter, position: float, *, cells: bool = True) -> Value:
    """Return the value at `position` of [0, 1): each equally likely, or each magnitude if log.

    With `cells`, each integer of a range has an equal part of the interval; without, the ends of
    the range are at 0 and at 1.
    """
    if hparam.kind not in RANGES:
        return hparam.values[min(int(position * len(hparam.values)), len(hparam.values) - 1)]
    low, high = _bounds(hparam, cells)
    if hparam.kind.startswith("log"):
        value = math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
    else:
        value = low + position * (high - low)
    if hparam.kind in ("int", "logint"):
        return min(max(round(value), int(hparam.values[0])), int(hparam.values[1]))
    return min(max(value, low), high)


def unit_position(hparam: Hyperparameter, value: Value, *, cells: bool = True) -> float:
    """Return the position of `value` in [0, 1].

    With `cells`, a choice is in the middle of its part of the interval, and each integer of a range
    has an equal part. Without, the first value is at 0 and the last at 1, as on the axis of a
    figure, and values outside are at the nearest end.
    """
    if hparam.kind not in RANGES:
        if cells:
            return (hparam.values.index(value) + 0.5) / len(hparam.values)
        return (
            hparam.values.index(value) / (len(hparam.values) - 1) if value in hparam.values else 0.0
        )
    low, high = _bounds(hparam, cells)
    number = float(value)
    if hparam.kind.startswith("log"):
        position = (math.log(number) - math.log(low)) / (math.log(high) - math.log(low))
    else:
        position = (number - low) / (high - low)
    return position if cells else min(max(position, 0.0), 1.0)


def _bounds(hparam: Hyperparameter, cells: bool) -> tuple[float, float]:
    low, high = float(hparam.values[0]), float(hparam.values[1])
    return (low - 0.5, high + 0.5) if cells and hparam.kind in ("int", "logint") else (low, high)


def values_at_point(space: Space, point: Sequence[float] | NDArray[np.float64]) -> dict[str, Value]:
    """Return the hyperparameters that exist at `point`, shape (hyperparameters,), in [0, 1)."""
    positions = dict(zip((hparam.name for hparam in space.hparams), point, strict=True))
    return space.active_values(lambda hparam: value_at(hparam, float(positions[hparam.name])))


def sample_hparams(space: Space, generator: np.random.Generator) -> dict[str, Value]:
    """Return a random configuration of `space`, which may violate its constraints."""
    return values_at_point(space, generator.random(len(space.hparams)))


def unit_point(space: Space, hparams: Mapping[str, Value]) -> NDArray[np.float64]:
    """Return the point of `hparams`, shape (hyperparameters,); 0.5 for those that do not exist."""
    import numpy as np

    return np.array(
        [
            unit_position(hparam, hparams[hparam.name]) if hparam.name in hparams else 0.5
            for hparam in space.hparams
        ]
    )


def feature_row(space: Space, hparams: Mapping[str, Value]) -> list[float]:
    """Return `hparams` as a model's features: one per range, one per value of a choice."""
    row: list[float] = []
    for hparam in space.hparams:
        exists = hparam.name in hparams
        if hparam.kind in RANGES:
            row.append(unit_position(hparam, hparams[hparam.name]) if exists else ABSENT)
        elif len(hparam.values) > 1:
            row += [float(exists and hparams[hparam.name] == value) for value in hparam.values]
    return row


def feature_rows_at(space: Space, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `feature_row` at `points`, shape (points, hyperparameters), as (points, features)."""
    import numpy as np

    columns: list[NDArray[np.float64]] = []
    # The index of the value of each choice at each point; -1 if the choice does not exist there.
    indices: dict[str, NDArray[np.int64]] = {}
    by_name = {hparam.name: hparam for hparam in space.hparams}
    for column, hparam in enumerate(space.hparams):
        exists = np.ones(len(points), bool)
        for other, allowed in hparam.when:
            other_values = by_name[other].all_values()
            exists &= np.isin(indices[other], [other_values.index(value) for value in allowed])
        if hparam.kind in ("uniform", "loguniform"):
            columns.append(np.where(exists, points[:, column], ABSENT))
            continue
        if hparam.kind in RANGES:
            values = np.array([value_at(hparam, position) for position in points[:, column]])
            positions = {value: unit_position(hparam, value) for value in set(values.tolist())}
            columns.append(
                np.where(exists, [positions[value] for value in values.tolist()], ABSENT)
            )
            index = values - int(hparam.values[0])
        else:
            count = len(hparam.values)
            index = np.minimum((points[:, column] * count).astype(int), count - 1)
            if count > 1:
                columns += [np.where(exists, index == choice, 0.0) for choice in range(count)]
        indices[hparam.name] = np.where(exists, index, -1)
    return np.column_stack(columns) if columns else np.zeros((len(points), 0))
