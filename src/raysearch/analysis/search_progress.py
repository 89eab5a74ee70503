"""How the best objective of a study grew with the fold-epochs that it spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysearch.search.journal.history import Trial

# The scale ends where the worst tenth begins: one trial that diverged would flatten the others.
WORST = 0.1


@dataclass(frozen=True)
class Point:
    """Where a trial stood last: `spent` fold-epochs of the whole study, and its objective."""

    trial: str
    spent: int
    objective: float
    finished: bool


@dataclass(frozen=True)
class Progress:
    """The trials, in the order of their last reports, and the best of the finished ones so far.

    `best` is (spent, objective) wherever it became better; a trial that has not finished is not
    in it, since its objective is over fewer folds. `spent` is all there was, `scale` the
    (lowest, highest) objective to draw.
    """

    points: tuple[Point, ...]
    best: tuple[tuple[int, float], ...]
    spent: int
    scale: tuple[float, float]


def progress(trials: Sequence[Trial], folds: int, mode: str) -> Progress:
    """The progress of those of the searched `trials` that are over `folds` folds.

    What is spent is counted over all of `trials`.
    """
    numbers = sorted(report["n"] for trial in trials for report in trial.reports)
    spent_at = {number: spent for spent, number in enumerate(numbers, 1)}
    points = [
        Point(
            trial.id,
            spent_at[trial.reports[-1]["n"]],
            float(trial.reports[-1]["objective"]),
            trial.status == "finished",
        )
        for trial in trials
        if trial.folds == folds and trial.reports
    ]
    points.sort(key=lambda point: point.spent)
    best: list[tuple[int, float]] = []
    for point in points:
        better = not best or (point.objective > best[-1][1]) == (mode == "max")
        if point.finished and better and (not best or point.objective != best[-1][1]):
            best.append((point.spent, point.objective))
    return Progress(tuple(points), tuple(best), len(numbers), _scale(points, mode))


def _scale(points: Sequence[Point], mode: str) -> tuple[float, float]:
    if not points:
        return 0.0, 1.0
    values = np.array([point.objective for point in points])
    low, high = float(values.min()), float(values.max())
    if mode == "max":
        low = float(np.quantile(values, WORST, method="higher"))
    else:
        high = float(np.quantile(values, 1 - WORST, method="lower"))
    return (low, high) if high > low else (low - 0.01, high + 0.01)
