"""ROC and precision-recall curves with bands by patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import Ranked, patient_weights, rank_rows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRID = np.linspace(0, 1, 101)
DRAWS = 500


@dataclass(frozen=True)
class Curve:
    """A curve `value` over `x`, and its pointwise 95 % band over draws of patients; (101,) each.

    The band is NaN where there is one patient.
    """

    x: Floats
    low: Floats
    value: Floats
    high: Floats


def roc_curve(
    labels: Ints, scores: Floats, patients: NDArray[np.str_], draws: int = DRAWS, seed: int = 0
) -> Curve:
    """The true positive rate over the false positive rate of `scores` (N,) for `labels` (N,).

    ValueError where a class has no rows.
    """
    return _curve(_roc, labels, scores, patients, draws, seed)


def precision_recall_curve(
    labels: Ints, scores: Floats, patients: NDArray[np.str_], draws: int = DRAWS, seed: int = 0
) -> Curve:
    """The precision over the recall, at the highest threshold that has it; as `roc_curve`."""
    return _curve(_precision, labels, scores, patients, draws, seed)


def _curve(
    of: Callable[[Floats, Floats], Floats],
    labels: Ints,
    scores: Floats,
    patients: NDArray[np.str_],
    draws: int,
    seed: int,
) -> Curve:
    if len(np.unique(labels == 1)) < 2:
        raise ValueError("a curve needs rows of both classes")
    names, owner = np.unique(patients, return_inverse=True)
    rows = rank_rows(labels, -scores, owner)
    value = of(*_counted(rows, np.ones(len(names))))
    counted = [_counted(rows, one) for one in patient_weights(len(names), draws, seed)]
    drawn = np.array([of(*one) for one in counted if one[0][-1] and one[1][-1]])
    if len(names) < 2 or not len(drawn):
        nothing = np.full(len(GRID), np.nan)
        return Curve(GRID, nothing, value, nothing)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return Curve(GRID, low, value, high)


def _counted(rows: Ranked, weights: Floats) -> tuple[Floats, Floats]:
    """Positives and negatives at or above each score, the highest first."""
    row = weights[rows.owner]
    positives = np.add.reduceat(row * rows.positive, rows.starts)
    negatives = np.add.reduceat(row * (1 - rows.positive), rows.starts)
    return np.cumsum(positives), np.cumsum(negatives)


def _roc(hits: Floats, alarms: Floats) -> Floats:
    false, true = (np.append(0.0, one / one[-1]) for one in (alarms, hits))
    found: Floats = np.interp(GRID, false, true)
    return found


def _precision(hits: Floats, alarms: Floats) -> Floats:
    recall = hits / hits[-1]
    every = hits + alarms
    precision = np.divide(hits, every, out=np.ones_like(hits), where=every > 0)
    # The first threshold that has the recall, and anything at all above it.
    first = int(np.argmax(every > 0))
    place = np.searchsorted(recall, GRID - 1e-12)
    found: Floats = precision[np.clip(place, first, len(precision) - 1)]
    return found
