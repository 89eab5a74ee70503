"""Proposals that look at no result: a grid, and points that fill the space evenly."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from scipy.stats import qmc

from raysearch.config.space import RANGES, Hyperparameter, Space, Value
from raysearch.search.sampling.unit_cube import chosen_at, value_at

MAX_OF_A_GRID = 1_000_000


def evenly(space: Space, seed: int, number: int, kind: str, scramble: bool) -> dict[str, Value]:
    """The hyperparameters of the point `number` of a Sobol or Halton sequence over all hyperparameters of `space`."""
    engine = {"sobol": qmc.Sobol, "halton": qmc.Halton}[kind]
    sequence = engine(len(space.hparams), scramble=scramble, rng=seed)
    if number:
        sequence.fast_forward(number)
    return chosen_at(space, sequence.random(1)[0])


def grid(space: Space, steps: int) -> Iterator[dict[str, Value]]:
    """Every combination of the hyperparameters' values that can exist, a range cut into `steps` values."""
    return _grid(space.hparams, {}, steps)


def grid_size(space: Space, steps: int) -> int:
    """How many combinations `grid` has, counted up to `MAX_OF_A_GRID`."""
    return sum(1 for _one in islice(grid(space, steps), MAX_OF_A_GRID))


def _grid(
    hparams: tuple[Hyperparameter, ...], chosen: dict[str, Value], steps: int
) -> Iterator[dict[str, Value]]:
    if not hparams:
        yield chosen
        return
    hyperparameter, *rest = hparams
    if not hyperparameter.active(chosen):
        yield from _grid(tuple(rest), chosen, steps)
        return
    for value in _values(hyperparameter, steps):
        yield from _grid(tuple(rest), {**chosen, hyperparameter.name: value}, steps)


def _values(hyperparameter: Hyperparameter, steps: int) -> list[Value]:
    """The choices of `hyperparameter`, or `steps` values of its range, both ends among them."""
    if hyperparameter.kind not in RANGES:
        return list(hyperparameter.values)
    places = [one / max(1, steps - 1) for one in range(steps)]
    return list(dict.fromkeys(value_at(hyperparameter, place) for place in places))
