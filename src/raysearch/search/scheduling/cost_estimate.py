"""Estimates a study's cost before it starts, by simulating its scheduler on synthetic curves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raysearch.config.samplers import RandomSampler
from raysearch.config.space import Budget, NetworkLimits, Space
from raysearch.search.journal.events import FoldReport
from raysearch.search.scheduling.policy import SearchPolicy

# The cost of a longer study is extrapolated from so many trials.
MAX_SIMULATED_TRIALS = 30
NUM_SLOTS = 4
# Standard deviation of the noise of an epoch; that of the final objectives is 1.
NOISE = 0.3


def expected_fold_epochs(space: Space) -> int:
    """Estimate the fold-epochs that the searched trials of `space` take.

    The synthetic learning curves rise to final objectives from a standard normal distribution,
    independent of the hyperparameters, with noise in each epoch. Only the budget's fold-epochs
    limit the estimate.
    """
    num_simulated_trials = min(space.trials, MAX_SIMULATED_TRIALS)
    simulated = replace(
        space,
        trials=num_simulated_trials,
        sampler=RandomSampler(),
        budget=Budget(),
        mode="max",
        points_to_evaluate=(),
        limits=NetworkLimits(),
    )
    estimate = round(_simulated_fold_epochs(simulated) * space.trials / num_simulated_trials)
    max_fold_epochs = space.budget.fold_epochs
    return estimate if max_fold_epochs is None else min(estimate, max_fold_epochs)


def _simulated_fold_epochs(space: Space) -> int:
    policy, rng = SearchPolicy(space), np.random.default_rng(0)
    running: list[str] = []
    while True:
        while len(running) < NUM_SLOTS and (event := policy.next()) is not None:
            policy.apply(event)
            running.append(event.trial)
        if not running:
            return policy.history.spent.fold_epochs
        trial = policy.history.trials[running.pop(0)]
        policy.apply(_synthetic_report(policy, trial.id, rng))
        decision = policy.decide(trial)
        if decision is None:
            running.append(trial.id)
        else:
            policy.apply(decision)


def _synthetic_report(policy: SearchPolicy, name: str, rng: np.random.Generator) -> FoldReport:
    trial, epochs = policy.history.trials[name], policy.space.epochs
    epoch = trial.epoch + 1
    fraction = ((epoch - 1) % epochs + 1) / epochs
    final_objective = np.random.default_rng(trial.seed).normal()
    value = float(final_objective * (1 - np.exp(-3 * fraction)) + rng.normal(0, NOISE))
    return FoldReport(
        trial=name,
        fold=(epoch - 1) // epochs,
        epoch=epoch,
        objective=value,
        metrics={policy.space.metric: value},
        loss=None,
        seconds=1.0,
        rung=policy.is_rung(trial, epoch),
    )
