"""Which trial becomes the champion: the cheapest of those that are as good as the best."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysearch.errors import StudyError
from raysearch.metrics.bootstrap import Interval, percentiles
from raysearch.metrics.model_selection import (
    MARGIN,
    PairedComparison,
    Rung,
    bias_corrected_estimate,
    compare_with_best,
    draws_for,
)
from raysearch.models.dihedral import VIEWS
from raysearch.search.journal.history import History, Trial, finished
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import out_of_fold, scores_after
from raysearch.search.study.plan import Plan
from raysearch.selection.paired_bootstrap import Draws, Floats

# Times of an inference that are closer than this are the same.
AS_FAST = 1.1
FEW = 2000


@dataclass(frozen=True)
class Candidate:
    """A finished trial: its objective pooled out of fold, and it against the best.

    `inference_ms` is the time a patch takes, with all its views; None where it is not known.
    """

    trial: Trial
    objective: Interval
    against: PairedComparison
    inference_ms: float | None


@dataclass(frozen=True)
class Selection:
    """All finished trials, the best first, and the one that is `chosen`.

    `corrected` is what the best is worth on patients that did not choose it.
    """

    candidates: tuple[Candidate, ...]
    chosen: Trial
    corrected: Interval
    margin: float
    draws: int
    patients: int

    @property
    def tied(self) -> list[Candidate]:
        """The best, and those that are shown not to be worse by the margin."""
        return [one for one in self.candidates if one.against.tied]

    def of(self, trial: Trial) -> Candidate:
        """What was found of `trial`, which is one of them."""
        return next(one for one in self.candidates if one.trial is trial)

    @property
    def order(self) -> list[Trial]:
        """The chosen trial, then the others, the best first."""
        others = [one.trial for one in self.candidates if one.trial is not self.chosen]
        return [self.chosen, *others]


def select(folder: StudyFolder, plan: Plan, history: History, margin: float = MARGIN) -> Selection:
    """Rank the finished trials by the objective of all folds' scores at once, and choose.

    Of those that are not worse than the best by `margin`, the one with the shortest inference is
    chosen, and the best of those that are as fast. StudyError where no trial has finished, or the
    objective is undefined.
    """
    trials = finished(history, plan.space.mode)
    if not trials:
        raise StudyError(
            f"study {plan.name!r} has no trial that finished all its folds; let it go on, raise"
            " `trials` or the budget, or lower the learning rates"
        )
    sign = 1.0 if plan.space.mode == "max" else -1.0
    rows = [out_of_fold(folder, plan, one.id, one.folds) for one in trials]
    count = draws_for(len(trials))
    draws = Draws.of_patients(rows[0].patients, count, plan.space.seed)
    drawn = np.array([draws.metric(plan.space.metric, one) for one in rows])
    whole = drawn[:, 0]
    if not np.isfinite(whole).all():
        raise StudyError(
            f"{plan.space.metric} is undefined over all folds of {plan.name!r}; a class has no row"
        )
    against = compare_with_best(whole, drawn[:, 1:], sign, margin)
    times = inference_times(trials, plan.shape)
    found = [
        Candidate(trial, percentiles(float(value), replicates), other, time)
        for trial, value, replicates, other, time in zip(
            trials, whole, drawn[:, 1:], against, times, strict=True
        )
    ]
    found.sort(key=lambda one: -sign * (one.objective.value or 0.0))
    # A mean needs fewer draws than a quantile far out, and every rung has them.
    few = draws.first(FEW)
    left_out = few.left_out()
    unseen = np.array([left_out.metric(plan.space.metric, one) for one in rows])
    every = history.searched()
    corrected = bias_corrected_estimate(
        _among(every, trials, drawn[:, 1 : FEW + 1]),
        _among(every, trials, unseen[:, 1:]),
        sign,
        rungs_of(folder, plan, history, few),
    )
    return Selection(tuple(found), _chosen(found), corrected, margin, count, len(draws.patients))


def _chosen(candidates: Sequence[Candidate]) -> Trial:
    """The best of the tied that are as fast as the fastest; the best where no time is known."""
    tied = [one for one in candidates if one.against.tied]
    times = [one.inference_ms for one in tied if one.inference_ms is not None]
    if len(times) < len(tied):
        return tied[0].trial
    return next(one.trial for one in tied if (one.inference_ms or 0.0) <= AS_FAST * min(times))


def inference_times(trials: Sequence[Trial], shape: tuple[int, int, int]) -> list[float | None]:
    """Milliseconds a patch with all its views, of each trial.

    Trials of one net, which has as many parameters and FLOPs, have one time, the median of theirs:
    what else a machine did when each was timed is not the net's.
    """
    by_net: dict[tuple[object, ...], list[float]] = {}
    nets = []
    for trial in trials:
        costs = trial.costs
        net = (trial.hparams.get("architecture"), costs.get("parameters"), costs.get("flops"))
        nets.append(net)
        if "inference_ms" in costs:
            by_net.setdefault(net, []).append(costs["inference_ms"])
    return [
        statistics.median(by_net[net]) * VIEWS[trial.hparams.get("tta", "none")](*shape[:2])
        if net in by_net
        else None
        for net, trial in zip(nets, trials, strict=True)
    ]


def rungs_of(folder: StudyFolder, plan: Plan, history: History, draws: Draws) -> list[Rung]:
    """Every rung of the study, with the objectives of those that came there in each draw."""
    places = {one.id: place for place, one in enumerate(history.searched())}
    known: dict[tuple[str, int], Floats] = {}

    def after(trial: str, epoch: int) -> Floats:
        if (trial, epoch) not in known:
            rows = scores_after(folder, plan, trial, [epoch])
            known[trial, epoch] = draws.metric(plan.space.metric, rows)[1:]
        return known[trial, epoch]

    def objective(trial: str, epoch: int) -> Floats:
        """As a report has it: the mean of the ended folds and the one under way.

        Of those of which a draw has a patient: with one patient a fold it lacks a third of them.
        """
        ends = [*range(plan.space.epochs, epoch, plan.space.epochs), epoch]
        values = np.array([after(trial, one) for one in ends])
        known = np.isfinite(values)
        mean = np.full(values.shape[1], np.nan)
        np.divide(np.nansum(values, axis=0), known.sum(axis=0), out=mean, where=known.any(axis=0))
        return mean

    found = []
    for (_folds, epoch), rung in sorted(history.rungs.items()):
        came = [name for name in rung.values if name in places]
        found.append(
            Rung(
                np.array([places[name] for name in came], np.int64),
                np.array([objective(name, epoch) for name in came]),
                sum(history.trials[name].epoch > epoch for name in came),
            )
        )
    return found


def _among(every: Sequence[Trial], some: Sequence[Trial], values: Floats) -> Floats:
    """`values` (S, R) of `some` trials as those of `every` one (T, R), NaN where there is none."""
    places = {one.id: place for place, one in enumerate(every)}
    found = np.full((len(every), values.shape[1]), np.nan)
    found[[places[one.id] for one in some]] = values
    return found
