"""Whether a hyperparameter matters: finished trials that are equal in all else, compared by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from raysearch.config.space import Space, Value
from raysearch.errors import StudyError
from raysearch.metrics.bootstrap import Interval, percentiles
from raysearch.search.journal.history import History, Trial, finished
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import out_of_fold
from raysearch.search.study.plan import Plan
from raysearch.selection.paired_bootstrap import Draws

DRAWS = 2000
Pairs = dict[tuple[Value, Value], list[tuple[Trial, Trial]]]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Two values of a hyperparameter, over all pairs of trials that differ in it alone.

    `values` are the objective's metric of each, pooled out of fold, the mean over the pairs;
    `difference` is that of `other` less `one`, with its 95 % interval by patient, and `lowest` and
    `highest` that of one pair. None is undefined. `better` is one of the values, or None where no
    difference is shown.
    """

    one: Value
    other: Value
    pairs: int
    trials: int
    patients: int
    values: tuple[float | None, float | None]
    difference: Interval
    lowest: float | None
    highest: float | None
    better: Value | None


def compare(
    folder: StudyFolder, plan: Plan, history: History, hyperparameter: str
) -> list[Comparison]:
    """The comparison of each two values of `hyperparameter` that have a pair of trials in the study.

    The same patients are drawn for both trials of a pair, and a draw's difference is the mean over
    the pairs: what makes a patient hard for both is in neither. StudyError where the study does not
    search `hyperparameter`, and where no two trials differ in it alone.
    """
    searched = [one.name for one in plan.space.hparams if len(one.values) > 1]
    if hyperparameter not in searched:
        raise StudyError(
            f"--hyperparameter {hyperparameter}: study {plan.name!r} does not search it; it searches"
            f" {', '.join(searched) or 'nothing'}"
        )
    trials = finished(history, plan.space.mode)
    found = pairs_of(plan.space, trials, hyperparameter)
    if not found:
        raise StudyError(
            f"--hyperparameter {hyperparameter}: no two of the {len(trials)} finished trials of {plan.name!r} differ in"
            " it alone; run a study in which every other hyperparameter has a fixed value or few choices,"
            " with `sampler: grid` and `stopping: {rule: none}`, or list both under `points`"
        )
    used = {trial.id: trial for pairs in found.values() for pair in pairs for trial in pair}
    drawn, patients = _metrics(folder, plan, list(used.values()))
    return [
        _compared(plan.space.mode, values, pairs, drawn, patients)
        for values, pairs in found.items()
    ]


def pairs_of(space: Space, trials: Sequence[Trial], hyperparameter: str) -> Pairs:
    """Each two values of `hyperparameter`, in their order, and the pairs of `trials` that differ in it alone.

    A hyperparameter that exists beside one of two values only, and because of it, is part of that value.
    """
    definition = next(one for one in space.hparams if one.name == hyperparameter)
    order = {value: place for place, value in enumerate(definition.values)}
    hanging = dependents(space, hyperparameter)

    def alike(one: Trial, other: Trial) -> bool:
        names = (one.hparams.keys() | other.hparams.keys()) - {hyperparameter}
        return all(
            one.hparams[name] == other.hparams[name]
            if name in one.hparams and name in other.hparams
            else name in hanging
            for name in names
        )

    def place(trial: Trial) -> tuple[float, str]:
        value = trial.hparams[hyperparameter]
        return order[value] if definition.kind == "choice" else value, trial.id

    having = sorted((one for one in trials if hyperparameter in one.hparams), key=place)
    found: Pairs = {}
    for one, other in combinations(having, 2):
        values = one.hparams[hyperparameter], other.hparams[hyperparameter]
        if values[0] != values[1] and alike(one, other):
            found.setdefault(values, []).append((one, other))
    return found


def dependents(space: Space, hyperparameter: str) -> set[str]:
    """The hyperparameters that exist under conditions on `hyperparameter`, or on another one of these."""
    found = {hyperparameter}
    for one in space.hparams:  # each stands after those that its conditions name
        if any(name in found for name, _values in one.when):
            found.add(one.name)
    return found - {hyperparameter}


def _metrics(
    folder: StudyFolder, plan: Plan, trials: Sequence[Trial]
) -> tuple[dict[str, Array], int]:
    """The metric of each trial and of its replicates, (1 + draws,), and the number of patients."""
    rows = {one.id: out_of_fold(folder, plan, one.id, one.folds) for one in trials}
    draws = Draws.of_patients(rows[trials[0].id].patients, DRAWS, plan.space.seed)
    found = {name: draws.metric(plan.space.metric, one) for name, one in rows.items()}
    return found, len(draws.patients)


def _compared(
    mode: str,
    values: tuple[Value, Value],
    pairs: Sequence[tuple[Trial, Trial]],
    drawn: dict[str, Array],
    patients: int,
) -> Comparison:
    ones, others = (np.array([drawn[pair[at].id] for pair in pairs]) for at in (0, 1))
    apart = others - ones
    mean = apart.mean(axis=0)
    replicates = mean[1:] if patients > 1 else np.full(1, np.nan)
    difference = percentiles(float(mean[0]), replicates)
    better = None
    if difference.low is not None and difference.high is not None:
        above, below = difference.low > 0, difference.high < 0
        if above or below:
            better = values[int(above == (mode == "max"))]
    return Comparison(
        *values,
        len(pairs),
        len({trial.id for pair in pairs for trial in pair}),
        patients,
        (_known(ones[:, 0].mean()), _known(others[:, 0].mean())),
        difference,
        _known(apart[:, 0].min()),
        _known(apart[:, 0].max()),
        better,
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
