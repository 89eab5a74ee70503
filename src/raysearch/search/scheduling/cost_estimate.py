"""What a study may cost before anything is known of it: its own course, played on drawn curves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raysearch.config.space import Budget, Sampling, Space
from raysearch.search.journal.journal import Event
from raysearch.search.scheduling.policy import SearchPolicy

# A longer study is reckoned from this many trials.
MAX_TRIALS = 30
SLOTS = 4
NOISE = 0.3


def expected_fold_epochs(space: Space) -> int:
    """About how many fold-epochs the searched trials of `space` take.

    The curves rise to ends that are drawn from a normal distribution, whatever the hyperparameters; each
    epoch has some noise. Of the budget, only the fold-epochs count.
    """
    played = min(space.trials, MAX_TRIALS)
    small = replace(
        space,
        trials=played,
        sampling=Sampling("random"),
        budget=Budget(),
        mode="max",
        points=(),
        ceilings=(),
    )
    found = round(_played(small) * space.trials / played)
    most = space.budget.fold_epochs
    return found if most is None else min(found, most)


def _played(space: Space) -> int:
    policy, draw = SearchPolicy(space), np.random.default_rng(0)
    busy: list[str] = []
    while True:
        while len(busy) < SLOTS and (event := policy.next()) is not None:
            policy.take({"at": 0.0, **event})
            busy.append(event["trial"])
        if not busy:
            return policy.history.spent.fold_epochs
        trial = policy.history.trials[busy.pop(0)]
        policy.take(_report(policy, trial.id, draw))
        decision = policy.decision(trial)
        if decision is None:
            busy.append(trial.id)
        else:
            policy.take({"at": 0.0, **decision})


def _report(policy: SearchPolicy, name: str, draw: np.random.Generator) -> Event:
    trial, epochs = policy.history.trials[name], policy.space.epochs
    epoch = trial.epoch + 1
    fraction = ((epoch - 1) % epochs + 1) / epochs
    end = np.random.default_rng(trial.seed).normal()
    value = float(end * (1 - np.exp(-3 * fraction)) + draw.normal(0, NOISE))
    return {
        "event": "report",
        "at": 0.0,
        "trial": name,
        "epoch": epoch,
        "fold": (epoch - 1) // epochs,
        "objective": value,
        "metrics": {policy.space.metric: value},
        "seconds": 1.0,
        "rung": policy.is_rung(trial, epoch),
    }
