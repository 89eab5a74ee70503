"""Metrics of predicted classes, computed from confusion matrices.

Functions take a matrix (C, C), or a stack (..., C, C), of which the rows are true classes and the
columns are predicted ones; the counts can be weighted. Undefined values are NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Metrics of a class against the other classes.
CLASS_METRICS = ("precision", "recall", "f1", "specificity")


def confusion_matrix(labels: Ints, predicted: Ints, num_classes: int) -> Ints:
    """Count the rows of each true class by their predicted class.

    Args:
        labels: True classes, shape (N,).
        predicted: Predicted classes, shape (N,).
        num_classes: The number of classes, C.

    Returns:
        Counts, shape (C, C); element [i, j] counts rows of class i that are predicted as class j.
    """
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def class_metrics(confusion: Floats | Ints) -> dict[str, Floats]:
    """Compute the `CLASS_METRICS` of each class against the other classes.

    With true positives tp, false positives fp, false negatives fn and true negatives tn of a class:
    precision tp / (tp + fp), recall tp / (tp + fn), F1 2 tp / (2 tp + fp + fn), specificity
    tn / (tn + fp).

    Args:
        confusion: Counts, shape (..., C, C).

    Returns:
        Values by metric, each of shape (..., C).
    """
    correct, actual, predicted = _margins(confusion)
    num_rows = actual.sum(axis=-1, keepdims=True)
    return {
        "precision": safe_divide(correct, predicted),
        "recall": safe_divide(correct, actual),
        "f1": safe_divide(2 * correct, actual + predicted),
        "specificity": safe_divide(num_rows - actual - predicted + correct, num_rows - actual),
    }


def accuracy(confusion: Floats | Ints) -> Floats:
    """Compute the fraction of rows that are predicted correctly, shape (...,)."""
    correct, actual, _predicted = _margins(confusion)
    return safe_divide(correct.sum(axis=-1), actual.sum(axis=-1))


def matthews_corrcoef(confusion: Floats | Ints) -> Floats:
    """Compute Matthews' correlation coefficient of any number of classes, shape (...,).

    Source: Gorodkin, 2004, "Comparing two K-category assignments by a K-category correlation
    coefficient". It is undefined if all rows have one class, or are predicted as one class.
    """
    correct, actual, predicted = _margins(confusion)
    num_rows = actual.sum(axis=-1)
    num_correct = correct.sum(axis=-1)
    covariance = num_correct * num_rows - (actual * predicted).sum(axis=-1)
    variances = [num_rows**2 - (margin**2).sum(axis=-1) for margin in (actual, predicted)]
    return safe_divide(covariance, np.sqrt(variances[0] * variances[1]))


def safe_divide(numerator: Floats, denominator: Floats) -> Floats:
    """Divide element by element; the result is NaN if the denominator is not positive."""
    quotient: Floats = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def _margins(confusion: Floats | Ints) -> tuple[Floats, Floats, Floats]:
    """Return the correct, the actual and the predicted rows of each class, each (..., C)."""
    counts = np.asarray(confusion, np.float64)
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)
