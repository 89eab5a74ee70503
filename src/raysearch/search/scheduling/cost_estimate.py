"""Estimates a search before it starts, by simulating its scheduler on synthetic curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from raysearch.config.space import Budget, NetworkLimits, Space
from raysearch.search.journal.history import History
from raysearch.search.sampling.sampler import Proposals, num_trials_left
from raysearch.search.sampling.searched_networks import network_of, networks_of
from raysearch.search.scheduling.epoch_seconds import seconds_of_network
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.scheduling.search_simulation import (
    SearchSimulation,
    simulated_rule,
)
from raysearch.search.scheduling.simulated_proposals import SimulatedProposals, simulated_sampler

# The cost of a longer study is extrapolated from so many trials.
MAX_SIMULATED_TRIALS = 30
NUM_SLOTS = 4


@dataclass(frozen=True)
class SimulatedTrial:
    """A trial of a simulated search.

    Attributes:
        network: Its network.
        fold_epochs: Its reports: one a fold-epoch; of a frozen network, one a fold.
        num_spent: The fold-epochs of all trials when it started.
        has_finished: Whether it finished all its folds.
    """

    network: str
    fold_epochs: int
    num_spent: int
    has_finished: bool


@dataclass(frozen=True)
class SimulatedSearch:
    """A search of a space, simulated before it starts.

    Attributes:
        trials: At least one trial, in the order of their starts; at most `MAX_SIMULATED_TRIALS`.
        factor: How many times as many trials the search has.
        max_fold_epochs: The budget's limit for the fold-epochs of all trials.
    """

    trials: tuple[SimulatedTrial, ...]
    factor: float = 1.0
    max_fold_epochs: int | None = None

    @property
    def fold_epochs(self) -> int:
        """The fold-epochs of all trials of the search."""
        estimate = round(sum(trial.fold_epochs for trial in self.trials) * self.factor)
        return estimate if self.max_fold_epochs is None else min(estimate, self.max_fold_epochs)

    def spent_at_start(self, num_started: int) -> float:
        """The fold-epochs of all trials when trial `num_started`, counted from 1, started."""
        position = (num_started - 1) / self.factor
        indices = range(len(self.trials))
        spent = [trial.num_spent for trial in self.trials]
        return float(np.interp(position, indices, spent)) * self.factor

    def residual_length(self, epoch: int) -> float:
        """The mean fold-epochs that a trial trains beyond `epoch`, of those that reach it.

        1 if no simulated trial trains longer.
        """
        beyond = [trial.fold_epochs - epoch for trial in self.trials if trial.fold_epochs > epoch]
        return sum(beyond) / len(beyond) if beyond else 1.0


def expected_fold_epochs(space: Space) -> int:
    """Estimate the fold-epochs that the searched trials of `space` take.

    Only the budget's fold-epochs limit the estimate.
    """
    return simulate_search(space).fold_epochs


def simulate_search(
    space: Space,
    epoch_seconds: Mapping[str, float] = MappingProxyType({}),
    num_slots: int = NUM_SLOTS,
    num_trials: int | None = None,
) -> SimulatedSearch:
    """Simulate the search of `space`.

    The synthetic learning curves rise to final objectives from a standard normal distribution,
    independent of the hyperparameters, with noise in each epoch.

    Args:
        space: The search space.
        epoch_seconds: The seconds of a fold-epoch of each network; by default all are equal.
        num_slots: The number of trials that train at a time.
        num_trials: The number of trials; by default that of the space. A grid may have fewer.
    """
    num_trials = max(1, num_trials_left(space, History(), num_trials or space.trials))
    num_simulated_trials = min(num_trials, MAX_SIMULATED_TRIALS)
    simulated = replace(
        space,
        trials=num_simulated_trials,
        sampler=simulated_sampler(space.sampler),
        # With a limit of fold-epochs, the forest takes all fold-epochs as equally expensive.
        budget=Budget(fold_epochs=10**9 if space.budget.fold_epochs is not None else None),
        mode="max",
        points_to_evaluate=(),
        limits=NetworkLimits(),
    )
    seconds = {name: seconds_of_network(epoch_seconds, name) for name in networks_of(space)}
    factor = num_trials / num_simulated_trials
    # Before a study, all networks count as equally good.
    proposals = SimulatedProposals(space, {}, seconds, factor=factor)
    trials = _simulated_trials(simulated, proposals, seconds, num_slots)
    return SimulatedSearch(tuple(trials), factor, space.budget.fold_epochs)


def _simulated_trials(
    space: Space, proposals: Proposals, epoch_seconds: Mapping[str, float], num_slots: int
) -> Iterator[SimulatedTrial]:
    rule = simulated_rule(space, epoch_seconds, proposals=proposals)
    policy = SearchPolicy(space, rule=rule, proposals=proposals)
    simulation = SearchSimulation(
        policy,
        num_slots,
        lambda trial: seconds_of_network(epoch_seconds, network_of(space, trial.hparams)),
        lambda trial: float(np.random.default_rng(trial.seed).normal()),
        np.random.default_rng(0),
    )
    simulation.run()
    for trial, num_spent in zip(policy.history.searched(), simulation.num_spent, strict=True):
        has_finished = trial.epoch >= policy.total_fold_epochs(trial)
        network = network_of(space, trial.hparams)
        yield SimulatedTrial(network, len(trial.reports), num_spent, has_finished)
