"""A space without the values that the user excluded from a running study."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.space import RANGES, Hyperparameter, Space
from raysearch.search.journal.history import History


def remaining_values(hyperparameter: Hyperparameter, history: History) -> tuple[Value, ...]:
    """The values of a choice that are not excluded; all of them in a forged journal without any."""
    remaining = (
        value
        for value in hyperparameter.values
        if (hyperparameter.name, value) not in history.exclusions
    )
    return tuple(remaining) or hyperparameter.values


def remaining_space(space: Space, history: History) -> Space:
    """`space` without the excluded values; `space` itself if none is excluded.

    A choice of which one value remains is still a choice, so that the unit cube of the space has
    the same sides, in the same order.
    """
    if not history.exclusions:
        return space
    hparams = (
        hyperparameter
        if hyperparameter.kind in RANGES
        else replace(hyperparameter, values=remaining_values(hyperparameter, history))
        for hyperparameter in space.hparams
    )
    return replace(space, hparams=tuple(hparams))


def without_excluded_values(
    space: Space, history: History, points: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Replace the excluded values at points of the unit cube of `space` by random remaining ones.

    Args:
        space: The space with all its values.
        history: The trials and the excluded values.
        points: The points, shape (points, hyperparameters).
        rng: Draws the remaining values.
    """
    points = points.copy()
    for column, hyperparameter in enumerate(space.hparams):
        count = len(hyperparameter.values)
        remaining = remaining_values(hyperparameter, history)
        if hyperparameter.kind in RANGES or len(remaining) == count:
            continue
        kept = [hyperparameter.values.index(value) for value in remaining]
        indices = np.minimum((points[:, column] * count).astype(int), count - 1)
        drawn = (rng.choice(kept, size=len(points)) + 0.5) / count
        points[:, column] = np.where(np.isin(indices, kept), points[:, column], drawn)
    return points
