"""Proposes the hyperparameters of the next trial, from the space, the seed and the history."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import numpy as np

from raysearch.config.constraints import allowed
from raysearch.config.hyperparameter_spec import Value
from raysearch.config.samplers import GpSampler, GridSampler, QmcSampler, TpeSampler
from raysearch.config.space import Space
from raysearch.config.space_geometry import sample_hparams
from raysearch.config.space_prior import SpacePrior, follows_prior
from raysearch.search.journal.events import Origin
from raysearch.search.journal.history import History
from raysearch.search.sampling.designs import grid, qmc_point
from raysearch.search.sampling.exclusions import remaining_space
from raysearch.search.sampling.optuna_sampler import propose_by_optuna
from raysearch.training.seeds import key

# The points of a quasi-Monte Carlo sequence between two attempts.
ATTEMPT_STEP = 10**6


class Proposals(Protocol):
    """Proposes the hyperparameters of the next trial, as `propose` does."""

    def __call__(
        self, space: Space, history: History, number: int, attempt: int = 0
    ) -> dict[str, Value]:
        """Propose the hyperparameters of trial `number`."""


def propose(space: Space, history: History, number: int, attempt: int = 0) -> dict[str, Value]:
    """Propose the hyperparameters of trial `number`; the same arguments give the same proposal.

    The first proposals of the sampler `forest` are random, or follow the prior;
    `raysearch.search.scheduling.forest` makes its later ones.

    Args:
        space: The search space.
        history: The trials of the study so far.
        number: Number of searched trials that have started.
        attempt: A number after 0 gives another proposal.

    Returns:
        The hyperparameters; empty if a grid has no further point.
    """
    remaining = remaining_space(space, history)
    seed = key(space.seed, "sampler", number, *([attempt] if attempt else [])) % 2**32
    match space.sampler:
        case GridSampler(steps=steps):
            return next(_points_left(remaining, steps, history), {})
        case QmcSampler() as sampler:
            return qmc_point(remaining, sampler, number + attempt * ATTEMPT_STEP)
        case TpeSampler() | GpSampler() as sampler:
            return propose_by_optuna(remaining, sampler, history, seed)
        case _:
            generator = np.random.default_rng(seed)
            if _follows_prior(space, number):
                return SpacePrior(remaining).sample(generator)
            return sample_hparams(remaining, generator)


def _follows_prior(space: Space, number: int) -> bool:
    """Whether the random proposal of trial `number` follows the user's prior."""
    generator = np.random.default_rng(key(space.seed, "prior", number))
    return bool(space.prior) and follows_prior(number, generator)


def sampled_origin(space: Space, number: int) -> Origin:
    """Return what `propose` is: the prior, chance, or a sampler that depends on more."""
    if space.sampler.name not in ("forest", "random"):
        return "sampler"
    return "prior" if _follows_prior(space, number) else "random"


def num_trials_left(space: Space, history: History, limit: int) -> int:
    """The number of further trials, which a grid limits to its points.

    Args:
        space: The search space.
        history: The trials of the study so far.
        limit: The largest number of further trials.
    """
    if not isinstance(space.sampler, GridSampler):
        return limit
    points = list(
        islice(_points_left(remaining_space(space, history), space.sampler.steps, history), limit)
    )
    # Those outside the grid; the grid completes a point that has a part of the hyperparameters.
    num_others = sum(
        not any(point.items() <= hparams.items() for hparams in points)
        for point in map(dict, space.points_to_evaluate[len(history.searched()) :])
    )
    return min(limit, len(points) + num_others)


def _points_left(remaining: Space, steps: int, history: History) -> Iterator[dict[str, Value]]:
    """The points of a grid that no trial has, `points_to_evaluate` among them."""
    tried = {frozenset(trial.hparams.items()) for trial in history.searched()}
    return (
        hparams
        for hparams in grid(remaining, steps)
        if allowed(remaining, hparams) and frozenset(hparams.items()) not in tried
    )
