"""Proposes the configurations of a simulated search as its sampler would: better networks more.

A sampler with a model prefers the networks whose trials were better, and the forest cheaper ones.
The share of each network decides how long a search takes; the model itself is too slow to fit in
each of many simulations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from raysearch.config.constraints import allowed
from raysearch.config.hyperparameter_spec import Value
from raysearch.config.samplers import (
    ForestSampler,
    GpSampler,
    GridSampler,
    RandomSampler,
    Sampler,
    TpeSampler,
)
from raysearch.config.space import Space
from raysearch.config.space_geometry import sample_hparams
from raysearch.search.journal.history import History
from raysearch.search.sampling.exclusions import remaining_space
from raysearch.search.sampling.sampler import propose
from raysearch.search.sampling.searched_networks import network_of, remaining_networks
from raysearch.search.scheduling.epoch_seconds import seconds_of_network
from raysearch.search.scheduling.forest import COST_WEIGHT, NUM_STARTUP_TRIALS
from raysearch.training.seeds import key

# The standard deviation of what the forest predicts over its candidates for a new trial.
PREDICTION_STD = 0.5
# The standard deviation of what a model expects of two proposals with the same network.
PROPOSAL_STD = 0.3
# The weight, in proposals, of the expected objectives beside the proposals so far, of which the
# last ones count.
PRIOR_PROPOSALS, NUM_PROPOSED = 3.0, 12
# A random configuration of a given network is drawn at most so many times.
MAX_DRAWS = 200


class SimulatedProposals:
    """Proposes configurations in place of the sampler of a space.

    Without a model the proposals are random, or the points of a grid. A sampler with a model first
    makes random proposals, too. Then it proposes the networks that it proposed before, or prefers
    the one with the best objectives, and the rest of the configuration is random.

    Args:
        planned: The space of the study, whose sampler is simulated. The forest penalizes costs,
            unless its budget is in fold-epochs.
        expected: The mean final objective of each network, in standard deviations; 0 of those
            missing.
        epoch_seconds: The seconds of a report of each network.
        proposed: The networks that the model of the sampler has proposed so far, the last ones.
        seed: The seed of the proposals.
        factor: How many times as many trials the search has as the simulation.
    """

    def __init__(
        self,
        planned: Space,
        expected: Mapping[str, float],
        epoch_seconds: Mapping[str, float],
        proposed: Sequence[str] = (),
        seed: int = 0,
        factor: float = 1.0,
    ) -> None:
        self._expected, self._epoch_seconds = expected, epoch_seconds
        self._proposed, self._seed = proposed, seed
        # Networks of which no allowed configuration was drawn.
        self._not_drawn: set[str] = set()
        num_random = num_random_proposals(planned.sampler)
        self._num_random = None if num_random is None else round(num_random / factor)
        self._penalty = 0.0
        if isinstance(planned.sampler, ForestSampler) and planned.budget.fold_epochs is None:
            self._penalty = COST_WEIGHT * PREDICTION_STD

    def __call__(
        self, space: Space, history: History, number: int, attempt: int = 0
    ) -> dict[str, Value]:
        """Propose the hyperparameters of trial `number`, as `sampler.propose` does."""
        if self._num_random is None or number < self._num_random or attempt:
            return propose(space, history, number, attempt)
        remaining = remaining_space(space, history)
        seed = key(space.seed, "simulated proposal", self._seed, number)
        rng = np.random.default_rng(seed)
        networks = [
            network
            for network in remaining_networks(space, history)
            if network not in self._not_drawn
        ]
        network = self._network(networks, rng) if networks else None
        first: dict[str, Value] | None = None
        for _draw in range(MAX_DRAWS):
            hparams = sample_hparams(remaining, rng)
            if allowed(remaining, hparams):
                first = first or hparams
                if network in (None, network_of(space, hparams)):
                    return hparams
        self._not_drawn |= {network} if network else set()
        return first or propose(space, history, number)

    def _network(self, networks: Sequence[str], rng: np.random.Generator) -> str:
        proposed = [network for network in self._proposed if network in networks]
        if rng.random() < len(proposed) / (len(proposed) + PRIOR_PROPOSALS):
            return proposed[rng.integers(len(proposed))]
        scores = []
        for network in networks:
            seconds = max(seconds_of_network(self._epoch_seconds, network), 1e-9)
            expected = self._expected.get(network, 0.0) - self._penalty * math.log(seconds)
            scores.append(rng.normal(expected, PROPOSAL_STD))
        return networks[int(np.argmax(scores))]


def num_random_proposals(sampler: Sampler) -> int | None:
    """The number of random proposals before those of a model; None if a sampler has no model."""
    match sampler:
        case ForestSampler():
            return NUM_STARTUP_TRIALS
        case TpeSampler(n_startup_trials=number) | GpSampler(n_startup_trials=number):
            return number
        case _:
            return None


def proposed_networks(space: Space, history: History) -> list[str]:
    """The networks that the model of the sampler has proposed last."""
    num_random = num_random_proposals(space.sampler)
    if num_random is None:
        return []
    trials = history.searched()[max(num_random, len(space.points_to_evaluate)) :]
    return [network_of(space, trial.hparams) for trial in trials[-NUM_PROPOSED:]]


def simulated_sampler(sampler: Sampler) -> Sampler:
    """The sampler of a simulated space, whose proposals `SimulatedProposals` makes or draws.

    A grid may end before the planned trials.
    """
    return sampler if isinstance(sampler, GridSampler) else RandomSampler()
