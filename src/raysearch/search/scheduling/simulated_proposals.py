"""Proposes the configurations of a simulated search as its sampler would: better networks more.

A sampler with a model prefers the networks whose trials were better, and the forest cheaper ones.
The share of each network decides how long a search takes; the model itself is too slow to fit in
each of many simulations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

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
# A random configuration of a given network is drawn at most so many times.
MAX_DRAWS = 200


@dataclass(frozen=True)
class NetworkEffect:
    """What the trials of a network say about the next one.

    Attributes:
        mean: The expected final objective, in standard deviations.
        std: The uncertainty of the expectation.
    """

    mean: float = 0.0
    std: float = 1.0


UNKNOWN_EFFECT = NetworkEffect()


class SimulatedProposals:
    """Proposes configurations in place of the sampler of a space.

    Without a model the proposals are random, or the points of a grid. A sampler with a model first
    makes random proposals, too. Then the network is drawn by the probability that it is the best
    one (Thompson sampling), and the rest of the configuration at random.

    Args:
        sampler: The sampler of the space.
        by_frugality: Whether the forest penalizes costs: not if the budget is in fold-epochs.
        effects: What is known of each network; of those missing, nothing.
        epoch_seconds: The seconds of a report of each network.
        seed: The seed of the proposals.
    """

    def __init__(
        self,
        sampler: Sampler,
        by_frugality: bool,
        effects: Mapping[str, NetworkEffect],
        epoch_seconds: Mapping[str, float],
        seed: int = 0,
    ) -> None:
        self._effects, self._epoch_seconds = effects, epoch_seconds
        self._seed = seed
        self._penalty = 0.0
        self._num_random: int | None = None
        match sampler:
            case ForestSampler():
                self._num_random = NUM_STARTUP_TRIALS
                self._penalty = COST_WEIGHT * PREDICTION_STD if by_frugality else 0.0
            case TpeSampler(n_startup_trials=number) | GpSampler(n_startup_trials=number):
                self._num_random = number
            case _:
                pass

    def __call__(
        self, space: Space, history: History, number: int, attempt: int = 0
    ) -> dict[str, Value]:
        """Propose the hyperparameters of trial `number`, as `sampler.propose` does."""
        if self._num_random is None or number < self._num_random:
            return propose(space, history, number, attempt)
        remaining = remaining_space(space, history)
        seed = key(space.seed, "simulated proposal", self._seed, number, attempt)
        rng = np.random.default_rng(seed)
        network = self._network(remaining_networks(space, history), rng)
        hparams: dict[str, Value] = {}
        for _draw in range(MAX_DRAWS):
            hparams = sample_hparams(remaining, rng)
            if network_of(space, hparams) == network and allowed(remaining, hparams):
                break
        return hparams

    def _network(self, networks: tuple[str, ...], rng: np.random.Generator) -> str:
        scores = []
        for network in networks:
            effect = self._effects.get(network, UNKNOWN_EFFECT)
            seconds = max(seconds_of_network(self._epoch_seconds, network), 1e-9)
            penalty = self._penalty * math.log(seconds)
            scores.append(rng.normal(effect.mean, effect.std) - penalty)
        return networks[int(np.argmax(scores))]


def simulated_sampler(sampler: Sampler) -> Sampler:
    """The sampler of a simulated space, whose proposals `SimulatedProposals` makes or draws.

    A grid may end before the planned trials.
    """
    return sampler if isinstance(sampler, GridSampler) else RandomSampler()
