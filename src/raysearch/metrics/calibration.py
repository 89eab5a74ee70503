"""Temperature scaling, expected calibration error and the classification threshold.

Temperature and threshold are fitted on pooled out-of-fold predictions, not fold by fold: thresholds
of single folds have a high variance, which costs more accuracy than they gain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# The number of bins of Guo et al., 2017, "On Calibration of Modern Neural Networks".
NUM_BINS = 15
MAX_TEMPERATURE = 100.0


def fit_temperature(labels: Ints, probabilities: Floats) -> float:
    """Fit the temperature that minimizes the log loss (temperature scaling, Guo et al., 2017).

    Args:
        labels: Class of each row, shape (N,).
        probabilities: Probability of each class, shape (N, C).

    Returns:
        The temperature; it is above 1 if the probabilities are overconfident.

    Raises:
        ValueError: If there are no rows.
    """
    if not len(labels):
        raise ValueError("no rows to fit a temperature on")
    logits = log_probabilities(probabilities)

    def log_loss(log_temperature: float) -> float:
        logs = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(logs[np.arange(len(labels)), labels].mean())

    bound = float(np.log(MAX_TEMPERATURE))
    result = minimize_scalar(log_loss, bounds=(-bound, bound), method="bounded")
    return float(np.exp(result.x))


def apply_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return softmax(log(probabilities) / temperature), shape (N, C)."""
    calibrated: Floats = softmax(log_probabilities(probabilities) / temperature, axis=1)
    return calibrated


def log_probabilities(probabilities: Floats) -> Floats:
    """Return the logarithms of probabilities, which are finite also for a probability of 0."""
    logs: Floats = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return logs


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: bins of equal width of the confidence, each array (bins,).

    Attributes:
        rows: Rows in each bin.
        confidence: Mean confidence of each bin; NaN if it is empty.
        accuracy: Accuracy of each bin; NaN if it is empty.
        error: The expected calibration error; None without rows.
    """

    rows: Ints
    confidence: Floats
    accuracy: Floats
    error: float | None


def reliability(labels: Ints, probabilities: Floats, num_bins: int = NUM_BINS) -> Reliability:
    """Compute the reliability diagram and the expected calibration error (Guo et al., 2017).

    The confidence of a row is its highest probability. The expected calibration error is the sum
    over bins of rows / N * |accuracy - confidence|.

    Args:
        labels: Class of each row, shape (N,).
        probabilities: Probability of each class, shape (N, C).
        num_bins: The number of bins. A bin contains its upper bound, the first also its lower one.
    """
    row_confidence = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    bin_index = np.ceil(row_confidence * num_bins).astype(np.int64) - 1
    bin_index = np.clip(bin_index, 0, num_bins - 1)
    rows = np.bincount(bin_index, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bin_index, row_confidence, num_bins) / rows
        accuracy = np.bincount(bin_index, correct, num_bins) / rows
    if not len(labels):
        return Reliability(rows, confidence, accuracy, None)
    gaps = np.where(rows > 0, np.abs(accuracy - confidence), 0.0)
    return Reliability(rows, confidence, accuracy, float(gaps @ rows / len(labels)))


@dataclass(frozen=True)
class ThresholdCounts:
    """Counts of rows at or above each candidate threshold, (thresholds,), and of all rows."""

    true_positives: Floats
    false_positives: Floats
    positives: float
    negatives: float


def _balanced_accuracy(counts: ThresholdCounts) -> Floats:
    recall = counts.true_positives / counts.positives
    specificity = (counts.negatives - counts.false_positives) / counts.negatives
    value: Floats = (recall + specificity) / 2
    return value


def _f1(counts: ThresholdCounts) -> Floats:
    denominator = counts.true_positives + counts.false_positives + counts.positives
    value: Floats = 2 * counts.true_positives / denominator
    return value


def _accuracy(counts: ThresholdCounts) -> Floats:
    correct = counts.true_positives + counts.negatives - counts.false_positives
    value: Floats = correct / (counts.positives + counts.negatives)
    return value


# The criteria that a threshold can maximize.
CRITERIA: Mapping[str, Callable[[ThresholdCounts], Floats]] = {
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "accuracy": _accuracy,
}


def fit_threshold(labels: Ints, scores: Floats, criterion: str = "balanced_accuracy") -> float:
    """Fit the threshold at or above which a row is predicted positive.

    Args:
        labels: 1 for a positive row, shape (N,).
        scores: Probability of the positive class, shape (N,).
        criterion: One of `CRITERIA`, which the threshold maximizes.

    Returns:
        The threshold: the midpoint of two scores, or a bound. Of equally good ones, the one that is
        closest to 0.5.

    Raises:
        ValueError: If a class has no rows.
    """
    positive = labels == 1
    num_positives, num_negatives = float(positive.sum()), float((~positive).sum())
    if not num_positives or not num_negatives:
        raise ValueError("a threshold needs rows of both classes")
    values, value_index = np.unique(scores, return_inverse=True)
    positives = np.bincount(value_index, positive.astype(np.float64), len(values))
    rows = np.bincount(value_index, minlength=len(values)).astype(np.float64)
    # Rows at or above each score; the last threshold is above all scores.
    counts = ThresholdCounts(
        np.append(np.cumsum(positives[::-1])[::-1], 0.0),
        np.append(np.cumsum((rows - positives)[::-1])[::-1], 0.0),
        num_positives,
        num_negatives,
    )
    thresholds = np.concatenate(
        [[values[0]], (values[1:] + values[:-1]) / 2, [np.nextafter(values[-1], np.inf)]]
    )
    criterion_values = CRITERIA[criterion](counts)
    best = thresholds[criterion_values >= criterion_values.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])
