"""Builds the champion from a selection: refits a trial, or repeats its cross-validation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raysearch.champion.repeat_result import RepeatResult
from raysearch.champion.stored_champion import load_refit_weights, repeat_scores
from raysearch.data.step_progress import StepCallback, ignore_progress
from raysearch.errors import StudyError
from raysearch.metrics.bootstrap import percentile_interval
from raysearch.metrics.interval import Interval
from raysearch.search.engine.champion_training import refit, train_repeats
from raysearch.search.journal.history import Trial
from raysearch.search.study.repeats import repeat_seeds
from raysearch.search.study.study import Study
from raysearch.selection.decision_rule import SelectionOptions
from raysearch.selection.paired_bootstrap import PatientReplicates
from raysearch.selection.selection import Selection
from raysearch.training.failures import TrainingFailedError

log = logging.getLogger(__name__)
StatusCallback = Callable[[str], None]


@dataclass(frozen=True)
class BuiltChampion:
    """A trial whose final networks are trained.

    Attributes:
        trial: The trial.
        repeats: The repeats of its cross-validation; of a refit, none yet.
        repeat_seed: The repeat whose networks form the ensemble; None for a refit.
    """

    trial: Trial
    repeats: tuple[RepeatResult, ...] = ()
    repeat_seed: int | None = None


def build_champion(
    study: Study,
    selection: Selection,
    options: SelectionOptions,
    on_status: StatusCallback,
    on_progress: StepCallback = ignore_progress,
) -> BuiltChampion:
    """Train the final networks of the first trial in the selection's order that can be trained.

    A training may fail, for example because its loss is not finite. Networks that an earlier call
    trained are not trained again.

    Args:
        study: The ended study.
        selection: The order in which the trials are tried.
        options: Whether the champion is a refit on all patients, or the ensemble of the networks of
            a repeated cross-validation.
        on_status: Called with what is being trained.
        on_progress: Called with the number of epochs of what is being trained.

    Raises:
        StudyError: If no trial can be trained.
    """
    if options.kind == "ensemble":
        return _build_ensemble(study, selection, options, on_status, on_progress)
    if _has_refit_weights(study, selection.chosen):
        study.record_selected(selection.chosen)
        return BuiltChampion(selection.chosen)
    return _build_refit(study, selection.order, on_status, on_progress)


def _build_refit(
    study: Study, trials: Sequence[Trial], on_status: StatusCallback, on_progress: StepCallback
) -> BuiltChampion:
    for trial in trials:
        study.record_selected(trial)
        on_status(f"refitting {trial.id} on all patients")
        try:
            refit(study, trial, on_progress)
        except TrainingFailedError as error:
            log.warning("the refit of %s failed: %s", trial.id, error)
            continue
        return BuiltChampion(trial)
    raise StudyError(
        f"study {study.plan.name!r} has no champion: the refit of each of its {len(trials)}"
        " finished trials failed; increase `trials`, or decrease the learning rates"
    )


def _has_refit_weights(study: Study, trial: Trial) -> bool:
    try:
        load_refit_weights(study.folder, trial)
    except (OSError, ValueError):
        return False
    return True


def _build_ensemble(
    study: Study,
    selection: Selection,
    options: SelectionOptions,
    on_status: StatusCallback,
    on_progress: StepCallback,
) -> BuiltChampion:
    """Repeat the cross-validation; the first repeat that did not fail gives the ensemble."""
    for trial in selection.order:
        study.record_selected(trial)
        results = run_repeats(
            study, trial, options, selection.num_replicates, on_status, on_progress
        )
        seeds = [result.seed for result in results if result.objective is not None]
        if seeds:
            return BuiltChampion(trial, results, seeds[0])
        log.warning("all repeats of %s failed", trial.id)
    raise StudyError(
        f"study {study.plan.name!r} has no champion: all repeats of each of its"
        f" {len(selection.order)} finished trials failed; increase `trials`, or decrease the"
        " learning rates"
    )


def run_repeats(
    study: Study,
    trial: Trial,
    options: SelectionOptions,
    num_replicates: int,
    on_status: StatusCallback,
    on_progress: StepCallback = ignore_progress,
) -> tuple[RepeatResult, ...]:
    """Repeat the cross-validation of `trial` with new seeds.

    The seed of the search is part of what was selected; an estimate with new seeds is free of that
    selection bias.

    Args:
        study: The ended study.
        trial: The selected trial.
        options: The number of repeats, and whether the networks are stored for an ensemble.
        num_replicates: Number of bootstrap replicates of the intervals; the patients are those of
            the selection's replicates.
        on_status: Called with what is being trained.
        on_progress: Called with the number of epochs of all folds.
    """
    seeds = repeat_seeds(study.plan.space.seed, trial, options.repeats)
    on_status(f"repeating {trial.id} with new seeds")
    train_repeats(study, trial, seeds, on_progress, networks=options.kind == "ensemble")
    failures = {seed: study.history.repeat_failures.get((trial.id, seed), "") for seed in seeds}
    return tuple(
        RepeatResult(seed, None, failure)
        if failure
        else RepeatResult(seed, _repeat_objective(study, trial, seed, num_replicates))
        for seed, failure in failures.items()
    )


def _repeat_objective(study: Study, trial: Trial, seed: int, num_replicates: int) -> Interval:
    space = study.plan.space
    scores = repeat_scores(study.folder, study.plan, trial, seed)
    replicates = PatientReplicates.sample(scores.patients, num_replicates, space.seed)
    values = replicates.metric(space.metric, scores)
    return percentile_interval(float(values[0]), values[1:])
