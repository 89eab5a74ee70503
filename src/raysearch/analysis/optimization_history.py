"""The optimization history: the best objective of a study over the fold-epochs that it spent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from raysearch.metrics.objective import is_better
from raysearch.search.journal.events import Origin
from raysearch.search.journal.history import Trial

# The axis leaves out the worst tenth: one trial that diverged would flatten the other values.
CLIPPED_FRACTION = 0.1
# Fewer random trials say too little about what a search at random would find.
MIN_RANDOM_TRIALS = 3


@dataclass(frozen=True)
class HistoryPoint:
    """A trial at its last report: the fold-epochs that the study had spent, and its objective.

    `origin` is what proposed its hyperparameters, if that is known.
    """

    trial: str
    spent: int
    objective: float
    finished: bool
    origin: Origin | None = None


@dataclass(frozen=True)
class OptimizationHistory:
    """The last report of each trial, and the best finished trial so far.

    Attributes:
        points: The trials in the order of their last reports.
        best_so_far: Fold-epochs spent and objective at each improvement. Trials that did not finish
            are not included, because their objectives are over fewer folds.
        random: Fold-epochs spent and expected best objective of random trials alone; empty unless
            earlier studies or a prior proposed trials, and enough are random.
        spent: All fold-epochs that the study spent.
        scale: The lowest and the highest objective of the axis.
    """

    points: tuple[HistoryPoint, ...]
    best_so_far: tuple[tuple[int, float], ...]
    random: tuple[tuple[float, float], ...]
    spent: int
    scale: tuple[float, float]


def optimization_history(trials: Sequence[Trial], folds: int, mode: str) -> OptimizationHistory:
    """Return the optimization history of the trials with `folds` folds.

    Args:
        trials: All searched trials, whose fold-epochs are counted together.
        folds: The number of folds.
        mode: "max" if a larger objective is better, else "min".
    """
    numbers = sorted(report.number for trial in trials for report in trial.reports)
    spent_at = {number: spent for spent, number in enumerate(numbers, 1)}
    points = [
        HistoryPoint(
            trial.id,
            spent_at[trial.reports[-1].number],
            trial.objective,
            trial.status == "finished",
            trial.origin,
        )
        for trial in trials
        if trial.folds == folds and trial.objective is not None
    ]
    points.sort(key=lambda point: point.spent)
    best_so_far: list[tuple[int, float]] = []
    for point in points:
        if point.finished and (
            not best_so_far or is_better(point.objective, best_so_far[-1][1], mode)
        ):
            best_so_far.append((point.spent, point.objective))
    return OptimizationHistory(
        points=tuple(points),
        best_so_far=tuple(best_so_far),
        random=tuple(_random_forecast(points, len(numbers), mode)),
        spent=len(numbers),
        scale=_scale(points, mode),
    )


def _random_forecast(
    points: Sequence[HistoryPoint], spent: int, mode: str
) -> Iterator[tuple[float, float]]:
    """The expected best objective of so many trials, drawn from random ones that finished.

    Each is assumed to spend the mean fold-epochs of the trials.
    """
    origins = [point.origin for point in points]
    random = [point.objective for point in points if point.origin == "random" and point.finished]
    values = sorted(random, reverse=mode == "min")
    if len(values) < MIN_RANDOM_TRIALS or not {"memory", "prior"} & set(origins):
        return
    for number in range(1, len(points) + 1):
        # The probability that none of the trials is better than the value at a position.
        none_better = [(position / len(values)) ** number for position in range(len(values) + 1)]
        expected = sum(
            value * (after - before)
            for value, (before, after) in zip(values, pairwise(none_better), strict=True)
        )
        yield number / len(points) * spent, expected


def _scale(points: Sequence[HistoryPoint], mode: str) -> tuple[float, float]:
    if not points:
        return 0.0, 1.0
    values = sorted(point.objective for point in points)
    low, high = values[0], values[-1]
    # The quantile at or above a tenth, or at or below nine tenths: as numpy's methods "higher" and
    # "lower", but numpy takes longer to import than the figures to draw.
    if mode == "max":
        low = values[math.ceil(CLIPPED_FRACTION * (len(values) - 1))]
    else:
        high = values[math.floor((1 - CLIPPED_FRACTION) * (len(values) - 1))]
    return (low, high) if high > low else (low - 0.01, high + 0.01)
