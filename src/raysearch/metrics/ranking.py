"""AUROC and average precision of scores, as scikit-learn defines them.

Only the distinct scores of the positives matter: T of them divide the scores into 2T + 1 intervals.
Interval 2t + 1 is the score t of a positive; interval 2t lies below it. Both metrics are sums over
the numbers of positives at each score and of negatives in each interval.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.confusion_matrix import safe_divide

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def ranking_metrics(positive: NDArray[np.bool_], scores: Floats) -> tuple[float, float]:
    """Compute the AUROC and the average precision of one class against the others.

    Args:
        positive: Whether a row has the class, shape (N,).
        scores: Scores that rise with the probability of the class, shape (N,).

    Returns:
        Both metrics; NaN if all rows have the class, or none has it.

    Raises:
        ValueError: If a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError("scores contain NaN")
    positive = positive.astype(bool)
    thresholds, score_index, intervals = score_intervals(positive, scores)
    positives = np.bincount(score_index[positive], minlength=len(thresholds))
    negatives = np.bincount(intervals[~positive], minlength=2 * len(thresholds) + 1)
    counts = positives[:, np.newaxis].astype(float), negatives[:, np.newaxis].astype(float)
    return float(auroc_of_counts(*counts)[0]), float(average_precision_of_counts(*counts)[0])


def score_intervals(positive: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Ints, Ints]:
    """Divide scores into intervals by the distinct scores of the positives.

    Args:
        positive: Whether a row is positive, shape (N,).
        scores: Scores that rise with the probability of a positive, shape (N,).

    Returns:
        The distinct scores of the positives, ascending, shape (T,), how many of them lie below each
        row's score, shape (N,), and the interval of each row, shape (N,).
    """
    thresholds = np.unique(scores[positive])
    below = np.searchsorted(thresholds, scores, "left")
    return thresholds, below, below + np.searchsorted(thresholds, scores, "right")


def auroc_of_counts(positives: Floats, negatives: Floats) -> Floats:
    """Compute AUROCs (R,); NaN where there are no positives or no negatives.

    Args:
        positives: Positives at each score, shape (T, R).
        negatives: Negatives in each interval, shape (2T + 1, R).
    """
    negatives_below = np.cumsum(negatives, axis=0)[:-1:2] + negatives[1::2] / 2
    concordant = (positives * negatives_below).sum(axis=0)
    return safe_divide(concordant, positives.sum(axis=0) * negatives.sum(axis=0))


def average_precision_of_counts(positives: Floats, negatives: Floats) -> Floats:
    """Compute average precisions (R,); NaN where there are no positives or no negatives.

    Args:
        positives: Positives at each score, shape (T, R).
        negatives: Negatives in each interval, shape (2T + 1, R).
    """
    num_positives, num_negatives = positives.sum(axis=0), negatives.sum(axis=0)
    true_positives = np.cumsum(positives[::-1], axis=0)[::-1]
    false_positives = num_negatives - np.cumsum(negatives, axis=0)[:-1:2]
    precision = true_positives / np.maximum(true_positives + false_positives, 1)
    values = safe_divide((positives * precision).sum(axis=0), num_positives)
    return np.where(num_negatives > 0, values, np.nan)
