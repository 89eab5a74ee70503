"""What the user expects of the best values of hyperparameters, as densities over the unit cube.

A prior never excludes a value. A search follows it the less, the more trials it has (Hvarfner et
al., PiBO, ICLR 2022, arXiv:2204.11051).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.space import RANGES, Hyperparameter, Prior, Space
from raysearch.config.space_geometry import unit_position, values_at_point

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The weight of the uniform distribution in a prior of numbers.
UNIFORM_WEIGHT = 0.05
MAX_DRAWS = 100
# The limits of a standard deviation in the unit cube, and of a number of standard deviations.
MIN_STD, MAX_STD, MAX_DEVIATIONS = 1e-4, 1e3, 100.0
# After so many trials, half of the random proposals still follow the prior.
HALF_LIFE = 8


class SpacePrior:
    """The priors of a space, as densities over its unit cube.

    Args:
        space: The search space.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        columns = {hparam.name: column for column, hparam in enumerate(space.hparams)}
        self._densities = [
            (columns[prior.name], _Density(space.hparams[columns[prior.name]], prior))
            for prior in space.prior
            if prior.name in columns
        ]

    def sample(self, generator: np.random.Generator) -> dict[str, Value]:
        """Return a random configuration by the priors, which may violate the constraints."""
        return values_at_point(self._space, self.points(1, generator)[0])

    def points(self, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Return random points by the priors, shape (count, hyperparameters)."""
        points = generator.random((count, len(self._space.hparams)))
        for column, density in self._densities:
            points[:, column] = [density.sample(generator) for _number in range(count)]
        return points

    def log_density(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log density at points, shape (points,); 0 for the uniform distribution.

        A hyperparameter that does not exist at a point has the density 1.
        """
        import numpy as np

        densities = np.zeros(len(points))
        if not self._densities:
            return densities
        for row, point in enumerate(points):
            active = values_at_point(self._space, point)
            for column, density in self._densities:
                if self._space.hparams[column].name in active:
                    densities[row] += math.log(density.at(float(point[column])))
        return densities


class _Density:
    """The density of one hyperparameter over [0, 1)."""

    def __init__(self, hparam: Hyperparameter, prior: Prior) -> None:
        self._weights: list[float] = []
        if hparam.kind in RANGES:
            self._mean, self._std = _normal(hparam, prior)
            self._mass = _normal_cdf(1, self._mean, self._std) - _normal_cdf(
                0, self._mean, self._std
            )
            return
        weights = [_weight(prior, value) for value in hparam.values]
        self._weights = [weight / sum(weights) for weight in weights]

    def at(self, position: float) -> float:
        """The density at a position."""
        if self._weights:
            count = len(self._weights)
            return self._weights[min(int(position * count), count - 1)] * count
        deviations = (position - self._mean) / self._std
        normal = math.exp(-(deviations**2) / 2) / (self._std * math.sqrt(2 * math.pi) * self._mass)
        return UNIFORM_WEIGHT + (1 - UNIFORM_WEIGHT) * normal

    def sample(self, generator: np.random.Generator) -> float:
        """A random position."""
        if self._weights:
            count = len(self._weights)
            return (int(generator.choice(count, p=self._weights)) + generator.random()) / count
        if generator.random() < UNIFORM_WEIGHT:
            return float(generator.random())
        for _draw in range(MAX_DRAWS):
            position = float(generator.normal(self._mean, self._std))
            if 0 <= position < 1:
                return position
        return float(generator.random())


def _normal(hparam: Hyperparameter, prior: Prior) -> tuple[float, float]:
    """The mean and the standard deviation of the positions of a range."""
    around = float(prior.around or 0)
    if prior.factor is not None:
        low, high = around / prior.factor, around * prior.factor
    else:
        low, high = around - float(prior.deviation or 0), around + float(prior.deviation or 0)
    ends = [unit_position(hparam, value) for value in (low, high)]
    std = min(max((ends[1] - ends[0]) / 2, MIN_STD), MAX_STD)
    return unit_position(hparam, around), std


def _normal_cdf(value: float, mean: float, std: float) -> float:
    return (1 + math.erf((value - mean) / (std * math.sqrt(2)))) / 2


def _weight(prior: Prior, value: Value) -> float:
    """The weight of a value of a choice."""
    if prior.around is None:
        return next((weight for other, weight in prior.weights if other == value), 1.0)
    number = float(value)
    if prior.factor is not None:
        deviations = math.log(number / prior.around) / math.log(prior.factor)
    else:
        deviations = (number - prior.around) / float(prior.deviation or 1)
    deviations = min(abs(deviations), MAX_DEVIATIONS)
    return UNIFORM_WEIGHT + (1 - UNIFORM_WEIGHT) * math.exp(-(deviations**2) / 2)


def follows_prior(number: int, generator: np.random.Generator) -> bool:
    """Return whether the random proposal of trial `number` follows the prior.

    Half of them never do. With a memory, only those with odd numbers are random at first.
    """
    may_follow = number % 4 in (0, 1)
    return may_follow and bool(generator.random() < HALF_LIFE / (HALF_LIFE + number))
