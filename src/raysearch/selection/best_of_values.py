"""Compares the best trials of a study by the value of a hyperparameter: by patient, with costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysearch.config.hyperparameter_readers import is_read
from raysearch.config.hyperparameters import resolve
from raysearch.config.names import NO_WEIGHTS
from raysearch.errors import StudyError
from raysearch.metrics.bootstrap import Floats, percentile_interval
from raysearch.metrics.interval import Interval
from raysearch.metrics.objective import is_better
from raysearch.search.journal.history import History, Trial, finished
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import out_of_fold
from raysearch.search.study.plan import Plan
from raysearch.selection.paired_bootstrap import PatientReplicates

NUM_REPLICATES = 2000
# Beside the values of `adaptation`: networks without pretrained weights.
FROM_SCRATCH = "from scratch"


@dataclass(frozen=True)
class BestOfValue:
    """The best finished trial with a value of a hyperparameter.

    Attributes:
        value: The value as text; of `adaptation`, networks without pretrained weights are
            `from scratch`.
        trial: The name of the trial.
        num_finished: The finished trials with that value.
        objective: The pooled objective out of fold, and its 95 % interval by patient.
        difference: The objective minus that of the best trial of all values, on the same patients;
            None of that trial itself.
        trial_seconds: The time of the training of the trial.
        total_seconds: That of all trials with the value, also of those that did not finish.
    """

    value: str
    trial: str
    num_finished: int
    objective: Interval
    difference: Interval | None
    trial_seconds: float
    total_seconds: float


def best_of_values(
    folder: StudyFolder, plan: Plan, history: History, hyperparameter: str
) -> list[BestOfValue]:
    """Return the best trial of each value of `hyperparameter`, the best one first.

    The best of many trials is chosen by the scores that it is compared by; the intervals do not
    contain that choice.

    Raises:
        StudyError: If fewer than two values have a finished trial that read them, or scores are
            missing.
    """
    trials = [
        trial for trial in finished(history, plan.space.mode) if has_read(trial, hyperparameter)
    ]
    by_value: dict[str, list[Trial]] = {}
    for trial in trials:
        by_value.setdefault(value_of(trial, hyperparameter), []).append(trial)
    if len(by_value) < 2:
        raise StudyError(
            f"--hyperparameter {hyperparameter}: the {len(trials)} finished trials of"
            f" {plan.name!r} have one value of it; compare another one"
        )
    best = {value: of_value[0] for value, of_value in by_value.items()}  # the best come first
    objectives = _objectives(folder, plan, list(best.values()))
    first = next(iter(best.values()))
    for trial in best.values():
        if is_better(objectives[trial.id][0], objectives[first.id][0], plan.space.mode):
            first = trial
    rows = []
    for value, trial in best.items():
        replicates = objectives[trial.id]
        difference = None if trial is first else _interval(replicates - objectives[first.id])
        all_trials = [
            each
            for each in history.searched()
            if has_read(each, hyperparameter) and value_of(each, hyperparameter) == value
        ]
        rows.append(
            BestOfValue(
                value,
                trial.id,
                len(by_value[value]),
                _interval(replicates),
                difference,
                _seconds([trial]),
                _seconds(all_trials),
            )
        )
    sign = 1.0 if plan.space.mode == "max" else -1.0
    return sorted(rows, key=lambda row: -sign * float(objectives[row.trial][0]))


def has_read(trial: Trial, hyperparameter: str) -> bool:
    """Return whether a trial has read a hyperparameter, as only a frozen one reads `classifier`."""
    return is_read(hyperparameter, resolve(trial.hparams))


def value_of(trial: Trial, hyperparameter: str) -> str:
    """Return the value of a hyperparameter that a trial has, or has by default, as text."""
    params = resolve(trial.hparams)
    if hyperparameter == "adaptation" and params.weights == NO_WEIGHTS:
        return FROM_SCRATCH
    value = params.value(hyperparameter)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _objectives(folder: StudyFolder, plan: Plan, trials: Sequence[Trial]) -> dict[str, Floats]:
    """Compute the objective of each trial in each replicate, (1 + R,)."""
    plan.require_metrics()
    scores = {trial.id: out_of_fold(folder, plan, trial) for trial in trials}
    patients = np.unique(np.concatenate([each.patients for each in scores.values()]))
    replicates = PatientReplicates.sample(patients, NUM_REPLICATES, plan.space.seed)
    return {name: replicates.metric(plan.space.metric, each) for name, each in scores.items()}


def _interval(values: Floats) -> Interval:
    return percentile_interval(float(values[0]), values[1:])


def _seconds(trials: Sequence[Trial]) -> float:
    return sum(report.seconds for trial in trials for report in trial.reports)
