"""Proposals that depend on no result: a grid, and quasi-Monte Carlo points."""

from __future__ import annotations

from collections.abc import Iterator

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.samplers import QmcSampler
from raysearch.config.space import RANGES, Hyperparameter, Space
from raysearch.config.space_geometry import value_at, values_at_point


def qmc_point(space: Space, sampler: QmcSampler, number: int) -> dict[str, Value]:
    """The hyperparameters at point `number` of a Sobol or Halton sequence over the unit cube."""
    from scipy.stats import qmc

    engine = {"sobol": qmc.Sobol, "halton": qmc.Halton}[sampler.qmc_type]
    sequence = engine(len(space.hparams), scramble=sampler.scramble, rng=space.seed)
    if number:
        sequence.fast_forward(number)
    return values_at_point(space, sequence.random(1)[0])


def grid(space: Space, steps: int) -> Iterator[dict[str, Value]]:
    """Every combination of values that can exist, with `steps` values of each range."""
    return _combinations(space.hparams, {}, steps)


def _combinations(
    hparams: tuple[Hyperparameter, ...], chosen: dict[str, Value], steps: int
) -> Iterator[dict[str, Value]]:
    if not hparams:
        yield chosen
        return
    first, *others = hparams
    if not first.is_active(chosen):
        yield from _combinations(tuple(others), chosen, steps)
        return
    for value in _grid_values(first, steps):
        yield from _combinations(tuple(others), {**chosen, first.name: value}, steps)


def _grid_values(hyperparameter: Hyperparameter, steps: int) -> list[Value]:
    """The choices of `hyperparameter`, or `steps` values of its range with both ends."""
    if hyperparameter.kind not in RANGES:
        return list(hyperparameter.values)
    positions = [step / max(1, steps - 1) for step in range(steps)]
    return list(dict.fromkeys(value_at(hyperparameter, position) for position in positions))
