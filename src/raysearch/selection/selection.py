"""Selects the champion: the fastest of the trials that are tied with the best one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysearch.config.hyperparameters import resolve
from raysearch.config.report_interval import trial_epochs
from raysearch.errors import StudyError
from raysearch.metrics.bootstrap import Floats, percentile_interval
from raysearch.metrics.interval import Interval
from raysearch.metrics.model_selection import (
    MARGIN,
    PairedComparison,
    RungReplicates,
    bias_corrected_estimate,
    compare_with_best,
    num_replicates_for,
)
from raysearch.metrics.objective import sort_key
from raysearch.metrics.row_units import singular
from raysearch.models.dihedral import NUM_VIEWS
from raysearch.search.journal.history import History, Trial, finished
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import OutOfFold, out_of_fold, out_of_fold_at
from raysearch.search.study.plan import Plan
from raysearch.selection.paired_bootstrap import PatientReplicates

# Inference times within this factor of the lowest one count as equal.
TIME_TOLERANCE = 1.1
# The corrected estimate is a mean, which needs fewer replicates than the quantiles of Holm's
# method, and each rung has to be evaluated in each replicate.
NUM_CORRECTION_REPLICATES = 2000


@dataclass(frozen=True)
class Candidate:
    """A finished trial.

    Attributes:
        trial: The trial.
        objective: The objective of its pooled out-of-fold scores, with its interval by patient.
        comparison: Its comparison with the best trial.
        inference_ms: Inference time of a row, with test-time augmentation, in milliseconds; None
            if it was not measured.
    """

    trial: Trial
    objective: Interval
    comparison: PairedComparison
    inference_ms: float | None


@dataclass(frozen=True)
class Selection:
    """The ranking of the finished trials, and the one that is selected.

    Attributes:
        candidates: All finished trials, the best first.
        chosen: The selected trial.
        corrected: The bias-corrected estimate of the objective of the best trial (BBC-CV).
        margin: The largest difference that counts as a tie.
        num_replicates: Bootstrap replicates of the comparisons.
        num_patients: Patients with out-of-fold scores.
    """

    candidates: tuple[Candidate, ...]
    chosen: Trial
    corrected: Interval
    margin: float
    num_replicates: int
    num_patients: int

    @property
    def tied(self) -> list[Candidate]:
        """The best trial, and those that are shown not to be worse by the margin."""
        return [candidate for candidate in self.candidates if candidate.comparison.tied]

    def candidate_of(self, trial: Trial) -> Candidate:
        """Return the candidate of a finished trial."""
        return next(candidate for candidate in self.candidates if candidate.trial is trial)

    @property
    def order(self) -> list[Trial]:
        """The selected trial, then the others, the best first."""
        trials = [candidate.trial for candidate in self.candidates]
        return [self.chosen, *(trial for trial in trials if trial is not self.chosen)]


def select(folder: StudyFolder, plan: Plan, history: History, margin: float = MARGIN) -> Selection:
    """Rank the finished trials by the objective of their pooled scores, and select one.

    Of the trials tied with the best, the one with the lowest inference time is selected; of those
    with equal times, the one with the best objective.

    Args:
        folder: The study's folder.
        plan: The study's plan.
        history: The study's trials.
        margin: The largest difference of the objective to the best trial that counts as a tie.

    Raises:
        StudyError: If no trial has finished, or the objective is undefined.
    """
    trials = finished(history, plan.space.mode)
    if not trials:
        raise StudyError(
            f"study {plan.name!r} has no trial that finished all its folds; resume it, increase"
            " `trials` or the budget, or decrease the learning rates"
        )
    plan.require_metrics()
    metric = plan.space.metric
    scores = [out_of_fold(folder, plan, trial) for trial in trials]
    num_replicates = num_replicates_for(len(trials))
    replicates = PatientReplicates.sample(scores[0].patients, num_replicates, plan.space.seed)
    # Shape (trials, 1 + replicates); the first column is the original sample.
    objectives = np.array([replicates.metric(metric, trial_scores) for trial_scores in scores])
    if not np.isfinite(objectives[:, 0]).all():
        raise StudyError(
            f"{metric} is undefined over all folds of {plan.name!r}, because a class has no"
            f" {singular(plan.unit)}"
        )
    candidates = _rank_candidates(plan, trials, objectives, margin)
    search = SearchReplicates(folder, plan, history, replicates.first(NUM_CORRECTION_REPLICATES))
    return Selection(
        tuple(candidates),
        _select_tied(candidates),
        search.corrected_estimate(trials, scores, objectives),
        margin,
        num_replicates,
        len(replicates.patients),
    )


def _rank_candidates(
    plan: Plan, trials: Sequence[Trial], objectives: Floats, margin: float
) -> list[Candidate]:
    """Return the candidates, the best first; `objectives` are (trials, 1 + replicates)."""
    estimates, replicates = objectives[:, 0], objectives[:, 1:]
    comparisons = compare_with_best(estimates, replicates, plan.space.mode, margin)
    times = inference_times(trials, plan.shape)
    candidates = [
        Candidate(
            trial,
            percentile_interval(float(estimates[index]), replicates[index]),
            comparisons[index],
            times[index],
        )
        for index, trial in enumerate(trials)
    ]
    candidates.sort(
        key=lambda candidate: sort_key(candidate.objective.value or 0.0, plan.space.mode)
    )
    return candidates


def _select_tied(candidates: Sequence[Candidate]) -> Trial:
    """Select the best of the fastest tied candidates, or of all if a time is unknown."""
    tied = [candidate for candidate in candidates if candidate.comparison.tied]
    times = [candidate.inference_ms for candidate in tied if candidate.inference_ms is not None]
    if len(times) < len(tied):
        return tied[0].trial
    max_time = TIME_TOLERANCE * min(times)
    return next(
        candidate.trial for candidate in tied if (candidate.inference_ms or 0.0) <= max_time
    )


def inference_times(trials: Sequence[Trial], shape: tuple[int, int, int]) -> list[float | None]:
    """Return the inference time of a row for each trial, in milliseconds.

    Trials of equal networks (architecture, parameters and FLOPs) have the median of their times,
    because differences between them come from the load of the machine. The time is multiplied by
    the views of test-time augmentation.

    Args:
        trials: The trials.
        shape: Height, width and channels of a patch; of bags (patches, features, 1).
    """
    times_by_network: dict[tuple[str, int | None, int | None], list[float]] = {}
    networks, num_views = [], []
    for trial in trials:
        params, costs = resolve(trial.hparams), trial.costs
        network = (params.architecture, costs.parameters, costs.flops)
        networks.append(network)
        num_views.append(NUM_VIEWS[params.tta](*shape[:2]))
        if costs.inference_ms is not None:
            times_by_network.setdefault(network, []).append(costs.inference_ms)
    return [
        statistics.median(times_by_network[network]) * views
        if network in times_by_network
        else None
        for network, views in zip(networks, num_views, strict=True)
    ]


class SearchReplicates:
    """A search that is repeated in each bootstrap replicate, with its rungs.

    Args:
        folder: The study's folder.
        plan: The study's plan.
        history: The study's trials.
        replicates: The bootstrap replicates of patients.
    """

    def __init__(
        self, folder: StudyFolder, plan: Plan, history: History, replicates: PatientReplicates
    ) -> None:
        self._folder, self._plan, self._history = folder, plan, history
        self._replicates = replicates
        self._indices = {trial.id: index for index, trial in enumerate(history.searched())}
        self._fold_metrics: dict[tuple[str, int], Floats] = {}

    def corrected_estimate(
        self, trials: Sequence[Trial], scores: Sequence[OutOfFold], objectives: Floats
    ) -> Interval:
        """Compute the bias-corrected estimate of the best trial's objective (BBC-CV).

        Args:
            trials: The finished trials.
            scores: Their out-of-fold scores.
            objectives: Their objectives, shape (trials, 1 + replicates), of at least as many
                replicates as this search has.
        """
        out_of_bag = self._replicates.out_of_bag()
        metric = self._plan.space.metric
        left_out = np.array([out_of_bag.metric(metric, trial_scores) for trial_scores in scores])
        num_columns = len(self._replicates.weights)
        return bias_corrected_estimate(
            self._of_all_trials(trials, objectives[:, 1:num_columns]),
            self._of_all_trials(trials, left_out[:, 1:]),
            self._plan.space.mode,
            self.rungs(),
        )

    def rungs(self) -> list[RungReplicates]:
        """Compute the objectives at each rung of the search."""
        rungs = []
        for level, rung in sorted(self._history.rungs.items()):
            epoch = level.epoch
            names = [name for name in rung.values if name in self._indices]
            rungs.append(
                RungReplicates(
                    trials=np.array([self._indices[name] for name in names], np.int64),
                    objectives=np.array([self._objective(name, epoch) for name in names]),
                    num_promoted=sum(self._history.trials[name].epoch > epoch for name in names),
                )
            )
        return rungs

    def _objective(self, trial: str, epoch: int) -> Floats:
        """Compute the objective (R,) that a report at `epoch` has.

        It is the mean over the finished folds and the current one. A fold without a patient in a
        replicate is left out of its mean: with one patient per fold, a third of them are.
        """
        fold_epochs = trial_epochs(self._plan.space, self._history.trials[trial].hparams)
        ends = [*range(fold_epochs, epoch, fold_epochs), epoch]
        values = np.array([self._fold_metric(trial, end) for end in ends])
        defined = np.isfinite(values)
        mean = np.full(values.shape[1], np.nan)
        np.divide(
            np.nansum(values, axis=0), defined.sum(axis=0), out=mean, where=defined.any(axis=0)
        )
        return mean

    def _fold_metric(self, trial: str, epoch: int) -> Floats:
        """Compute the metric (R,) of the validation scores of one fold-epoch."""
        if (trial, epoch) not in self._fold_metrics:
            scores = out_of_fold_at(self._folder, self._plan, self._history.trials[trial], [epoch])
            metric = self._replicates.metric(self._plan.space.metric, scores)
            self._fold_metrics[trial, epoch] = metric[1:]
        return self._fold_metrics[trial, epoch]

    def _of_all_trials(self, trials: Sequence[Trial], values: Floats) -> Floats:
        """Return `values` (trials, R) as rows of all searched trials, with NaN for the others."""
        rows = np.full((len(self._indices), values.shape[1]), np.nan)
        rows[[self._indices[trial.id] for trial in trials]] = values
        return rows
