"""By how much each knob alone moves the objective, as a forest over all reports sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from raysearch.analysis.hyperparameter_ranges import place, searched_knobs, value_at
from raysearch.config.space import RANGES, Knob
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
    """The share of each knob in the variance that the forest predicts, the largest first.

    What is left to 1 is what knobs do together. `reports` of `trials` were learned from.
    `missing` says why there are no shares.
    """

    shares: tuple[tuple[str, float], ...]
    trials: int
    reports: int
    missing: str = ""


def knob_importance(plan: Plan, trials: Sequence[Trial]) -> Importance:
    """The importance of the knobs in `trials`, which are over one number of folds.

    A forest learns the objective from knobs and fold-epoch; the reports of trials that were
    stopped count, too. A knob's share is the variance of the mean prediction as that knob alone
    goes through its range, over the variance as all do (Hutter, Hoos and Leyton-Brown, "An
    Efficient Approach for Assessing Hyperparameter Importance", ICML 2014), by drawing
    configurations; the mean over three fold-epochs. A knob that exists under conditions counts
    where it does.
    """
    known = [trial for trial in trials if trial.reports]
    rows = [(trial.knobs, report) for trial in known for report in trial.reports]
    values = np.array([report["objective"] for _knobs, report in rows])
    knobs = searched_knobs(plan)

    def without(reason: str) -> Importance:
        return Importance((), len(known), len(rows), reason)

    if not knobs:
        return without("nothing was searched")
    if len(known) < FEWEST:
        return without(f"{FEWEST} trials with reports are needed, there are {len(known)}")
    if np.ptp(values) == 0:
        return without("every report has the same value")
    epochs = np.array([float(report["epoch"]) for _knobs, report in rows])
    inputs = np.array([_encoded(knobs, chosen) for chosen, _report in rows])
    forest = RandomForestRegressor(TREES, min_samples_leaf=2, max_features=0.5, random_state=0)
    forest.fit(np.column_stack([inputs, epochs]), values)
    levels = np.unique(np.quantile(epochs, EPOCHS, method="nearest"))
    shares = _shares(plan, trials[0].folds, forest, levels)
    if not shares:
        return without("the forest finds no difference between them")
    ranked = sorted(shares.items(), key=lambda one: -one[1])
    return Importance(tuple(ranked), len(known), len(rows))


def _shares(plan: Plan, folds: int, forest: Any, levels: Array) -> dict[str, float]:
    knobs, draw = searched_knobs(plan), np.random.default_rng(0)
    drawn = [
        {knob.name: value_at(knob, draw.random()) for knob in plan.space.knobs} | {"folds": folds}
        for _ in range(DRAWS)
    ]

    def predicted(configurations: Sequence[Mapping[str, Any]]) -> Array:
        """The predictions (levels, configurations)."""
        inputs = np.array([_encoded(knobs, _present(plan, one)) for one in configurations])
        every = [np.column_stack([inputs, np.full(len(inputs), level)]) for level in levels]
        return np.asarray(forest.predict(np.concatenate(every))).reshape(len(levels), -1)

    whole = float(predicted(drawn).var(axis=1).mean())
    if whole < NO_VARIANCE:
        return {}
    found = {}
    for knob in knobs:
        within = [one for one in drawn if knob.name in _present(plan, one)]
        found[knob.name] = 0.0
        if within:
            turned = [{**one, knob.name: value} for value in _grid(knob) for one in within]
            means = predicted(turned).reshape(len(levels), -1, len(within)).mean(axis=2)
            share = float(means.var(axis=1).mean()) * len(within) / len(drawn)
            found[knob.name] = min(share / whole, 1.0)
    return found


def _grid(knob: Knob) -> list[Any]:
    if knob.kind not in RANGES:
        return list(knob.values)
    return [value_at(knob, (step + 0.5) / STEPS) for step in range(STEPS)]


def _present(plan: Plan, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values `drawn` for every knob, those whose knobs exist beside the others."""
    chosen: dict[str, Any] = {}
    for knob in plan.space.knobs:
        if knob.active(chosen):
            chosen[knob.name] = drawn[knob.name]
    return chosen


def _encoded(knobs: Sequence[Knob], chosen: Mapping[str, Any]) -> list[float]:
    """The knobs as numbers: a range's place in it, a column a choice; absent ones apart."""
    columns = []
    for knob in knobs:
        value = chosen.get(knob.name)
        if knob.kind in RANGES:
            columns.append(ABSENT if value is None else place(knob, value))
        else:
            columns += [float(value == one) for one in knob.values]
    return columns
