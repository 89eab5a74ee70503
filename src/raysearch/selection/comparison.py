"""Compares two values of a hyperparameter by pairs of trials that are equal in all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.space import Space
from raysearch.errors import StudyError
from raysearch.metrics.bootstrap import Floats, percentile_interval
from raysearch.metrics.classification import defined_or_none
from raysearch.metrics.interval import Interval
from raysearch.metrics.objective import is_better
from raysearch.search.journal.history import History, Trial, finished
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import out_of_fold
from raysearch.search.study.plan import Plan
from raysearch.selection.paired_bootstrap import PatientReplicates

NUM_REPLICATES = 2000
TrialPair = tuple[Trial, Trial]
ValuePair = tuple[Value, Value]


@dataclass(frozen=True)
class HyperparameterComparison:
    """A paired comparison of two values of a hyperparameter.

    Attributes:
        first: The first value.
        second: The second value.
        num_pairs: Pairs of trials that differ in the hyperparameter alone.
        num_trials: Trials in these pairs.
        num_patients: Patients that are resampled.
        objectives: Mean objective of the trials with each value, of pooled out-of-fold scores; None
            if undefined.
        difference: Mean over pairs of the objective with `second` minus that with `first`, and its
            95 % interval by patient.
        min_difference: The smallest difference of a pair.
        max_difference: The largest difference of a pair.
        better: The significantly better value, or None.
    """

    first: Value
    second: Value
    num_pairs: int
    num_trials: int
    num_patients: int
    objectives: tuple[float | None, float | None]
    difference: Interval
    min_difference: float | None
    max_difference: float | None
    better: Value | None


def compare_values(
    folder: StudyFolder, plan: Plan, history: History, hyperparameter: str
) -> list[HyperparameterComparison]:
    """Compare each two values of `hyperparameter` for which the study has a pair of trials.

    Both trials of a pair are evaluated on the same bootstrap replicates of patients. The difference
    of a replicate is the mean over pairs, so that the difficulty of a patient, which both trials
    share, cancels out.

    Raises:
        StudyError: If the study does not search `hyperparameter`, or if no two finished trials
            differ in it alone.
    """
    reject_unsearched(plan, hyperparameter)
    trials = finished(history, plan.space.mode)
    pairs_by_values = trial_pairs(plan.space, trials, hyperparameter)
    if not pairs_by_values:
        raise StudyError(
            f"--hyperparameter {hyperparameter}: no two of the {len(trials)} finished trials of"
            f" {plan.name!r} differ in it alone; run a study in which every other hyperparameter"
            " has a fixed value or few choices, with `sampler: grid` and `stopping: {rule: none}`,"
            " or list both configurations under `points_to_evaluate`"
        )
    paired_trials = {
        trial.id: trial for pairs in pairs_by_values.values() for pair in pairs for trial in pair
    }
    objectives, num_patients = _objectives(folder, plan, list(paired_trials.values()))
    return [
        _compare_pairs(plan.space.mode, values, pairs, objectives, num_patients)
        for values, pairs in pairs_by_values.items()
    ]


def reject_unsearched(plan: Plan, hyperparameter: str) -> None:
    """Raise StudyError if the study of `plan` does not search `hyperparameter`."""
    searched = [hparam.name for hparam in plan.space.hparams if len(hparam.values) > 1]
    if hyperparameter not in searched:
        raise StudyError(
            f"--hyperparameter {hyperparameter}: study {plan.name!r} does not search it; it"
            f" searches {', '.join(searched) or 'nothing'}"
        )


def trial_pairs(
    space: Space, trials: Sequence[Trial], hyperparameter: str
) -> dict[ValuePair, list[TrialPair]]:
    """Find the pairs of trials that differ in `hyperparameter` alone.

    A conditional hyperparameter that exists for only one of the two values is part of that value.

    Returns:
        The pairs by the two values, which are in the order of the space.
    """
    definition = next(hparam for hparam in space.hparams if hparam.name == hyperparameter)
    order = {value: index for index, value in enumerate(definition.values)}
    dependent = dependent_hparams(space, hyperparameter)

    def are_equal_otherwise(first: Trial, second: Trial) -> bool:
        names = (first.hparams.keys() | second.hparams.keys()) - {hyperparameter}
        return all(
            first.hparams[name] == second.hparams[name]
            if name in first.hparams and name in second.hparams
            else name in dependent
            for name in names
        )

    def position(trial: Trial) -> tuple[float, str]:
        value = trial.hparams[hyperparameter]
        return float(order[value] if definition.kind == "choice" else value), trial.id

    candidates = sorted(
        (trial for trial in trials if hyperparameter in trial.hparams), key=position
    )
    pairs: dict[ValuePair, list[TrialPair]] = {}
    for first, second in combinations(sorted(candidates, key=position), 2):
        values = first.hparams[hyperparameter], second.hparams[hyperparameter]
        if values[0] != values[1] and are_equal_otherwise(first, second):
            pairs.setdefault(values, []).append((first, second))
    return pairs


def dependent_hparams(space: Space, hyperparameter: str) -> set[str]:
    """Return the hyperparameters whose conditions depend on `hyperparameter`, also indirectly."""
    names = {hyperparameter}
    for hparam in space.hparams:  # each follows those that its conditions name
        if any(name in names for name, _values in hparam.when):
            names.add(hparam.name)
    return names - {hyperparameter}


def _objectives(
    folder: StudyFolder, plan: Plan, trials: Sequence[Trial]
) -> tuple[dict[str, Floats], int]:
    """Compute the objective of each trial in each replicate, (1 + R,), and count the patients."""
    plan.require_metrics()
    scores = {trial.id: out_of_fold(folder, plan, trial) for trial in trials}
    replicates = PatientReplicates.sample(
        scores[trials[0].id].patients, NUM_REPLICATES, plan.space.seed
    )
    objectives = {
        name: replicates.metric(plan.space.metric, trial_scores)
        for name, trial_scores in scores.items()
    }
    return objectives, len(replicates.patients)


def _compare_pairs(
    mode: str,
    values: ValuePair,
    pairs: Sequence[TrialPair],
    objectives: Mapping[str, Floats],
    num_patients: int,
) -> HyperparameterComparison:
    """Compare two values; `objectives` (1 + R,) by trial start with the original sample."""
    first = np.array([objectives[trial.id] for trial, _second in pairs])
    second = np.array([objectives[trial.id] for _first, trial in pairs])
    differences = second - first
    mean = differences.mean(axis=0)
    replicates = mean[1:] if num_patients > 1 else np.full(1, np.nan)
    difference = percentile_interval(float(mean[0]), replicates)
    return HyperparameterComparison(
        *values,
        num_pairs=len(pairs),
        num_trials=len({trial.id for pair in pairs for trial in pair}),
        num_patients=num_patients,
        objectives=(
            defined_or_none(float(first[:, 0].mean())),
            defined_or_none(float(second[:, 0].mean())),
        ),
        difference=difference,
        min_difference=defined_or_none(float(differences[:, 0].min())),
        max_difference=defined_or_none(float(differences[:, 0].max())),
        better=_better_value(values, difference, mode),
    )


def _better_value(values: ValuePair, difference: Interval, mode: str) -> Value | None:
    """Return the better value if the interval of the difference does not contain 0."""
    if difference.low is None or difference.high is None:
        return None
    if difference.low > 0 or difference.high < 0:
        return values[1] if is_better(difference.low, 0.0, mode) else values[0]
    return None
