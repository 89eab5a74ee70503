"""Proposes the hyperparameters of the next trial, from the space, the seed and the history."""

from __future__ import annotations

from itertools import islice

import numpy as np

from raysearch.config.constraints import allowed
from raysearch.config.hyperparameter_spec import Value
from raysearch.config.samplers import GpSampler, GridSampler, QmcSampler, TpeSampler
from raysearch.config.space import Space
from raysearch.config.space_geometry import sample_hparams
from raysearch.search.journal.history import History
from raysearch.search.sampling.designs import grid, qmc_point
from raysearch.search.sampling.optuna_sampler import propose_by_optuna
from raysearch.training.seeds import key

# The points of a quasi-Monte Carlo sequence between two attempts.
ATTEMPT_STEP = 10**6


def propose(space: Space, history: History, number: int, attempt: int = 0) -> dict[str, Value]:
    """Propose the hyperparameters of trial `number`; the same arguments give the same proposal.

    The first proposals of the sampler `forest` are random; `raysearch.search.scheduling.forest`
    makes its later ones.

    Args:
        space: The search space.
        history: The trials of the study so far.
        number: Number of searched trials that have started.
        attempt: A number after 0 gives another proposal.

    Returns:
        The hyperparameters; empty if a grid has no further point.
    """
    seed = key(space.seed, "sampler", number, *([attempt] if attempt else [])) % 2**32
    match space.sampler:
        case GridSampler(steps=steps):
            points = (hparams for hparams in grid(space, steps) if allowed(space, hparams))
            return next(islice(points, number, None), None) or {}
        case QmcSampler() as sampler:
            return qmc_point(space, sampler, number + attempt * ATTEMPT_STEP)
        case TpeSampler() | GpSampler() as sampler:
            return propose_by_optuna(space, sampler, history, seed)
        case _:
            return sample_hparams(space, np.random.default_rng(seed))
