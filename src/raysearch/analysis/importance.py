"""By how much each hyperparameter alone moves the objective, as a forest over all reports sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from raysearch.analysis.hyperparameter_ranges import place, searched_hparams, value_at
from raysearch.config.space import RANGES, Hyperparameter
from raysearch.search.journal.history import Trial
from raysearch.search.study.plan import Plan

FEWEST = 4
TREES, DRAWS, STEPS = 100, 64, 12
# Where reports lie, in shares of them: an early, a middle and a late fold-epoch.
EPOCHS = (1 / 6, 1 / 2, 5 / 6)
ABSENT = -1.0
NO_VARIANCE = 1e-12
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """The share of each hyperparameter in the variance that the forest predicts, the largest first.

    What is left to 1 is what hyperparameters do together. `reports` of `trials` were learned from.
    `missing` says why there are no shares.
    """

    fractions: tuple[tuple[str, float], ...]
    trials: int
    reports: int
    missing: str = ""


def hparam_importance(plan: Plan, trials: Sequence[Trial]) -> Importance:
    """The importance of the hyperparameters in `trials`, which are over one number of folds.

    A forest learns the objective from hyperparameters and fold-epoch; the reports of trials that were
    stopped count, too. A hyperparameter's share is the variance of the mean prediction as that hyperparameter alone
    goes through its range, over the variance as all do (Hutter, Hoos and Leyton-Brown, "An
    Efficient Approach for Assessing Hyperparameter Importance", ICML 2014), by drawing
    configurations; the mean over three fold-epochs. A hyperparameter that exists under conditions counts
    where it does.
    """
    known = [trial for trial in trials if trial.reports]
    rows = [(trial.hparams, report) for trial in known for report in trial.reports]
    values = np.array([report["objective"] for _hparams, report in rows])
    hparams = searched_hparams(plan)

    def without(reason: str) -> Importance:
        return Importance((), len(known), len(rows), reason)

    if not hparams:
        return without("nothing was searched")
    if len(known) < FEWEST:
        return without(f"{FEWEST} trials with reports are needed, there are {len(known)}")
    if np.ptp(values) == 0:
        return without("every report has the same value")
    epochs = np.array([float(report["epoch"]) for _hparams, report in rows])
    inputs = np.array([_encoded(hparams, chosen) for chosen, _report in rows])
    forest = RandomForestRegressor(TREES, min_samples_leaf=2, max_features=0.5, random_state=0)
    forest.fit(np.column_stack([inputs, epochs]), values)
    levels = np.unique(np.quantile(epochs, EPOCHS, method="nearest"))
    fractions = _fractions(plan, trials[0].folds, forest, levels)
    if not fractions:
        return without("the forest finds no difference between them")
    ranked = sorted(fractions.items(), key=lambda one: -one[1])
    return Importance(tuple(ranked), len(known), len(rows))


def _fractions(plan: Plan, folds: int, forest: Any, levels: Array) -> dict[str, float]:
    hparams, draw = searched_hparams(plan), np.random.default_rng(0)
    drawn = [
        {
            hyperparameter.name: value_at(hyperparameter, draw.random())
            for hyperparameter in plan.space.hparams
        }
        | {"folds": folds}
        for _ in range(DRAWS)
    ]

    def predicted(configurations: Sequence[Mapping[str, Any]]) -> Array:
        """The predictions (levels, configurations)."""
        inputs = np.array([_encoded(hparams, _present(plan, one)) for one in configurations])
        every = [np.column_stack([inputs, np.full(len(inputs), level)]) for level in levels]
        return np.asarray(forest.predict(np.concatenate(every))).reshape(len(levels), -1)

    whole = float(predicted(drawn).var(axis=1).mean())
    if whole < NO_VARIANCE:
        return {}
    found = {}
    for hyperparameter in hparams:
        within = [one for one in drawn if hyperparameter.name in _present(plan, one)]
        found[hyperparameter.name] = 0.0
        if within:
            turned = [
                {**one, hyperparameter.name: value}
                for value in _grid(hyperparameter)
                for one in within
            ]
            means = predicted(turned).reshape(len(levels), -1, len(within)).mean(axis=2)
            fraction = float(means.var(axis=1).mean()) * len(within) / len(drawn)
            found[hyperparameter.name] = min(fraction / whole, 1.0)
    return found


def _grid(hyperparameter: Hyperparameter) -> list[Any]:
    if hyperparameter.kind not in RANGES:
        return list(hyperparameter.values)
    return [value_at(hyperparameter, (step + 0.5) / STEPS) for step in range(STEPS)]


def _present(plan: Plan, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values `drawn` for every hyperparameter, those whose hyperparameters exist beside the others."""
    chosen: dict[str, Any] = {}
    for hyperparameter in plan.space.hparams:
        if hyperparameter.active(chosen):
            chosen[hyperparameter.name] = drawn[hyperparameter.name]
    return chosen


def _encoded(hparams: Sequence[Hyperparameter], chosen: Mapping[str, Any]) -> list[float]:
    """The hyperparameters as numbers: a range's place in it, a column a choice; absent ones apart."""
    columns = []
    for hyperparameter in hparams:
        value = chosen.get(hyperparameter.name)
        if hyperparameter.kind in RANGES:
            columns.append(ABSENT if value is None else place(hyperparameter, value))
        else:
            columns += [float(value == one) for one in hyperparameter.values]
    return columns
