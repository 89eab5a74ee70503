"""ROC and precision-recall curves with confidence bands by patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import Floats, Ints, RankedRows, patient_weights, rank_rows

GRID = np.linspace(0, 1, 101)
NUM_REPLICATES = 500
# Positives and negatives at or above each score -> the curve's values at `GRID`.
CurveFunction = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True)
class Curve:
    """A curve `value` over `x` with its pointwise 95 % band, each of shape (101,).

    The band is the percentile interval over bootstrap replicates of patients. It is NaN if there is
    only one patient.
    """

    x: Floats
    low: Floats
    value: Floats
    high: Floats


def roc_curve(
    labels: Ints,
    scores: Floats,
    patients: NDArray[np.str_],
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> Curve:
    """Compute the true positive rate over the false positive rate.

    Args:
        labels: 1 for a positive row, shape (N,).
        scores: Scores that rise with the probability of a positive, shape (N,).
        patients: Patient of each row, shape (N,).
        num_replicates: The number of bootstrap replicates of the band.
        seed: Seed of the replicates.

    Raises:
        ValueError: If a class has no rows.
    """
    weights = _replicate_weights(labels, patients, num_replicates, seed)
    return _curve_with_band(_true_positive_rate, labels, scores, patients, weights)


def precision_recall_curve(
    labels: Ints,
    scores: Floats,
    patients: NDArray[np.str_],
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> Curve:
    """Compute the precision over the recall, at the highest threshold that has the recall.

    The arguments and errors are those of `roc_curve`.
    """
    weights = _replicate_weights(labels, patients, num_replicates, seed)
    return _curve_with_band(_precision, labels, scores, patients, weights)


def _replicate_weights(
    labels: Ints, patients: NDArray[np.str_], num_replicates: int, seed: int
) -> Floats:
    if len(np.unique(labels == 1)) < 2:
        raise ValueError("a curve needs rows of both classes")
    return patient_weights(len(np.unique(patients)), num_replicates, seed)


def _curve_with_band(
    curve_function: CurveFunction,
    labels: Ints,
    scores: Floats,
    patients: NDArray[np.str_],
    weights: Floats,
) -> Curve:
    """Compute the curve and its band over the replicates with the patient `weights` (R, P)."""
    names, patient_index = np.unique(patients, return_inverse=True)
    rows = rank_rows(labels, -scores, patient_index)
    value = curve_function(*_cumulative_counts(rows, np.ones(len(names))))
    counts = [_cumulative_counts(rows, replicate) for replicate in weights]
    replicates = np.array(
        [
            curve_function(positives, negatives)
            for positives, negatives in counts
            if positives[-1] and negatives[-1]
        ]
    )
    if len(names) < 2 or not len(replicates):
        undefined = np.full(len(GRID), np.nan)
        return Curve(GRID, undefined, value, undefined)
    low, high = np.quantile(replicates, (0.025, 0.975), axis=0)
    return Curve(GRID, low, value, high)


def _cumulative_counts(rows: RankedRows, weights: Floats) -> tuple[Floats, Floats]:
    """Count the positives and negatives at or above each score, the highest score first."""
    positives, negatives = rows.weighted_counts(weights)
    return np.cumsum(positives), np.cumsum(negatives)


def _true_positive_rate(positives: Floats, negatives: Floats) -> Floats:
    false_positive_rate = np.append(0.0, negatives / negatives[-1])
    true_positive_rate = np.append(0.0, positives / positives[-1])
    values: Floats = np.interp(GRID, false_positive_rate, true_positive_rate)
    return values


def _precision(positives: Floats, negatives: Floats) -> Floats:
    recall = positives / positives[-1]
    rows = positives + negatives
    precision = np.divide(positives, rows, out=np.ones_like(positives), where=rows > 0)
    # The first threshold that has the recall and has any row at or above it.
    first = int(np.argmax(rows > 0))
    index = np.searchsorted(recall, GRID - 1e-12)
    values: Floats = precision[np.clip(index, first, len(precision) - 1)]
    return values
