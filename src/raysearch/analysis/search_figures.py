"""The figures of a study with their captions, for the terminal and for pages."""

from __future__ import annotations

from dataclasses import dataclass

from raysearch.analysis.hyperparameter_importance import HyperparameterImportances
from raysearch.analysis.optimization_history import OptimizationHistory, optimization_history
from raysearch.analysis.parallel_coordinates import ParallelCoordinates, parallel_coordinates
from raysearch.analysis.stored_importances import ImportancesByFolds, importances_by_folds
from raysearch.search.journal.history import History
from raysearch.search.study.plan import Plan


@dataclass(frozen=True)
class SearchFigures:
    """The figures of the trials with `folds` folds.

    Attributes:
        metric: The objective's metric.
        mode: "max" if a larger objective is better, else "min".
        folds: The number of folds of the trials.
        is_only_group: Whether all trials of the study have this number of folds.
        importance: The hyperparameter importances.
        optimization_history: The best objective over the fold-epochs.
        parallel_coordinates: The trials over the ranges of the hyperparameters.
    """

    metric: str
    mode: str
    folds: int
    is_only_group: bool
    importance: HyperparameterImportances
    optimization_history: OptimizationHistory
    parallel_coordinates: ParallelCoordinates

    @property
    def title_suffix(self) -> str:
        """Which trials the figures show, if the study has several numbers of folds."""
        return "" if self.is_only_group else f", trials over {self.folds} folds"

    @property
    def importance_text(self) -> str:
        """The caption of the importances."""
        importance = self.importance
        if importance.reason_undefined:
            return f"Undefined: {importance.reason_undefined}."
        return (
            "The fraction of the variance that each hyperparameter alone explains, by a random"
            f" forest on {importance.num_reports:,} reports of {importance.num_trials:,} trials, at"
            " the fold-epochs that they reached; interactions explain the remainder."
            " Intervals are of 95 %, over trials drawn with replacement."
        )

    @property
    def progress_text(self) -> str:
        """The caption of the optimization history."""
        history = self.optimization_history
        spent = f"{history.spent:,} fold-epoch{'' if history.spent == 1 else 's'}"
        if not history.best_so_far:
            return f"{spent}; no trial has finished, and the dots show the last report of each."
        return (
            f"{spent}. The line shows the best finished trial so far, now"
            f" {history.best_so_far[-1][1]:.4f}, the mean over its folds. The dots show the last"
            " report of each trial, over fewer folds if it was stopped; the worst tenth is at the"
            f" edge.{self._random_text}"
        )

    @property
    def _random_text(self) -> str:
        """The caption of the expectation without earlier studies and priors."""
        history = self.optimization_history
        if not history.random:
            return ""
        num_random = sum(point.origin == "random" and point.finished for point in history.points)
        return (
            f" The dashed line is the expected best of as many random trials, drawn from the"
            f" {num_random:,} of this study that finished: a start without earlier studies and a"
            " prior."
        )

    @property
    def coordinates_text(self) -> str:
        """The caption of the parallel coordinates."""
        coordinates = self.parallel_coordinates
        return (
            f"The best third ({coordinates.num_best} of {len(coordinates.lines)} trials) are those"
            " with the largest fraction of their fold-epochs, then those with the best"
            f" {self.metric}."
        )


def study_figures(
    plan: Plan, history: History, importances: ImportancesByFolds | None = None
) -> list[SearchFigures]:
    """Compute the figures for each number of folds; none if no searched trial has reported.

    Args:
        plan: The study's plan.
        history: Its trials.
        importances: The importances if they are known already; None to compute them.
    """
    if importances is None:
        importances = importances_by_folds(plan, history)
    return [
        _figures(plan, history, folds, importance, is_only_group=len(importances) == 1)
        for folds, importance in importances.items()
    ]


def _figures(
    plan: Plan,
    history: History,
    folds: int,
    importance: HyperparameterImportances,
    *,
    is_only_group: bool,
) -> SearchFigures:
    trials = history.searched()
    group = [trial for trial in trials if trial.folds == folds]
    return SearchFigures(
        metric=plan.space.metric,
        mode=plan.space.mode,
        folds=folds,
        is_only_group=is_only_group,
        importance=importance,
        optimization_history=optimization_history(trials, folds, plan.space.mode),
        parallel_coordinates=parallel_coordinates(plan, group),
    )
