"""The figures of a study: what of its hyperparameters mattered, how it got on, and where the best lie."""

from __future__ import annotations

from dataclasses import dataclass

from raysearch.analysis.importance import Importance, hparam_importance
from raysearch.analysis.parallel_coordinates import Coordinates, coordinates
from raysearch.analysis.search_progress import Progress, progress
from raysearch.search.journal.history import History
from raysearch.search.study.plan import Plan


@dataclass(frozen=True)
class Figures:
    """The figures of a study's trials over `folds` folds; `alone` where all are over these."""

    metric: str
    folds: int
    alone: bool
    importance: Importance
    progress: Progress
    coordinates: Coordinates

    @property
    def over(self) -> str:
        """Which trials they are of, where a study has several numbers of folds."""
        return "" if self.alone else f", trials over {self.folds} folds"

    @property
    def importance_text(self) -> str:
        """What the importance is computed of, or why there is none."""
        found = self.importance
        if found.missing:
            return f"Not told: {found.missing}."
        return (
            f"The share of each hyperparameter alone in what a forest of {found.reports:,} reports of"
            f" {found.trials:,} trials predicts, at the fold-epochs they reached; the rest is what"
            " hyperparameters do together."
        )

    @property
    def progress_text(self) -> str:
        """What the history shows."""
        found = self.progress
        spent = f"{found.spent:,} fold-epoch{'' if found.spent == 1 else 's'}"
        if not found.best:
            return f"{spent}; no trial has finished, and the dots are where each one stands."
        return (
            f"{spent}. The line is the best finished trial so far, now"
            f" {found.best[-1][1]:.4f}; the dots are where each trial stands, at fewer folds where"
            " it was stopped, and the worst tenth at the edge."
        )

    @property
    def coordinates_text(self) -> str:
        """Who the best are."""
        found = self.coordinates
        return (
            f"The best third ({found.best} of {len(found.lines)} trials) are those that got"
            f" furthest, then those with the best {self.metric}."
        )


def study_figures(plan: Plan, history: History) -> list[Figures]:
    """The figures for each number of folds; none where no searched trial has reported."""
    trials = history.searched()
    by_folds = sorted({trial.folds for trial in trials if trial.reports})
    found = []
    for folds in by_folds:
        some = [trial for trial in trials if trial.folds == folds]
        found.append(
            Figures(
                plan.space.metric,
                folds,
                len(by_folds) == 1,
                hparam_importance(plan, some),
                progress(trials, folds, plan.space.mode),
                coordinates(plan, some),
            )
        )
    return found
