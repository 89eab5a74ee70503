"""The samplers of a space file, with their options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from raysearch.config.bounded_types import Count, Flag, GridSteps


@dataclass(frozen=True)
class ForestSampler:
    """Random proposals first, then those of a random forest over the learning curves."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: Literal["forest"] = "forest"


@dataclass(frozen=True)
class TpeSampler:
    """Optuna's tree-structured Parzen estimator.

    `group` defaults to `multivariate`. `by_rung` compares trials at the furthest rung that enough
    of them reached.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: Literal["tpe"] = "tpe"
    multivariate: Flag = True
    constant_liar: Flag = True
    group: Flag | None = None
    n_startup_trials: Count = 10
    by_rung: Flag = True


@dataclass(frozen=True)
class GpSampler:
    """Optuna's Gaussian process."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: Literal["gp"] = "gp"
    n_startup_trials: Count = 10


@dataclass(frozen=True)
class QmcSampler:
    """A quasi-Monte Carlo sequence."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: Literal["qmc"] = "qmc"
    qmc_type: Literal["sobol", "halton"] = "sobol"
    scramble: Flag = True


@dataclass(frozen=True)
class RandomSampler:
    """Independent random proposals."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: Literal["random"] = "random"


@dataclass(frozen=True)
class GridSampler:
    """Every combination of values, with `steps` values of each range."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: Literal["grid"] = "grid"
    steps: GridSteps = 5


Sampler = Annotated[
    ForestSampler | TpeSampler | GpSampler | QmcSampler | RandomSampler | GridSampler,
    Field(discriminator="name"),
]
SAMPLERS = {
    "forest": ForestSampler,
    "tpe": TpeSampler,
    "gp": GpSampler,
    "qmc": QmcSampler,
    "random": RandomSampler,
    "grid": GridSampler,
}
DEFAULT_SAMPLER = ForestSampler()
