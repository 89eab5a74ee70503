"""Metrics of predicted classes, computed from confusion matrices.

Functions take a matrix (C, C), or a stack (..., C, C), of which the rows are true classes and the
columns are predicted ones; the counts can be weighted. They need only the `ClassCounts` of a
matrix, and take these, too. Undefined values are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ClassCounts:
    """The diagonal and the sums of a confusion matrix, or of a stack of them.

    Attributes:
        correct: Rows of each class that are predicted as this class, shape (..., C).
        actual: Rows of each class, shape (..., C).
        predicted: Rows that are predicted as each class, shape (..., C).
    """

    correct: Floats
    actual: Floats
    predicted: Floats


Confusion = Floats | Ints | ClassCounts
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


def class_metrics(confusion: Confusion) -> dict[str, Floats]:
    """Compute the `CLASS_METRICS` of each class against the other classes.

    With true positives tp, false positives fp, false negatives fn and true negatives tn of a class:
    precision tp / (tp + fp), recall tp / (tp + fn), F1 2 tp / (2 tp + fp + fn), specificity
    tn / (tn + fp).

    Args:
        confusion: Counts, shape (..., C, C), or their `ClassCounts`.

    Returns:
        Values by metric, each of shape (..., C).
    """
    counts = _class_counts(confusion)
    correct, actual, predicted = counts.correct, counts.actual, counts.predicted
    num_rows = actual.sum(axis=-1, keepdims=True)
    return {
        "precision": safe_divide(correct, predicted),
        "recall": safe_divide(correct, actual),
        "f1": safe_divide(2 * correct, actual + predicted),
        "specificity": safe_divide(num_rows - actual - predicted + correct, num_rows - actual),
    }


def accuracy(confusion: Confusion) -> Floats:
    """Compute the fraction of rows that are predicted correctly, shape (...,)."""
    counts = _class_counts(confusion)
    return safe_divide(counts.correct.sum(axis=-1), counts.actual.sum(axis=-1))


def matthews_corrcoef(confusion: Confusion) -> Floats:
    """Compute Matthews' correlation coefficient of any number of classes, shape (...,).

    Source: Gorodkin, 2004, "Comparing two K-category assignments by a K-category correlation
    coefficient". It is undefined if all rows have one class, or are predicted as one class.
    """
    counts = _class_counts(confusion)
    correct, actual, predicted = counts.correct, counts.actual, counts.predicted
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


def _class_counts(confusion: Confusion) -> ClassCounts:
    if isinstance(confusion, ClassCounts):
        return confusion
    counts = np.asarray(confusion, np.float64)
    correct = np.diagonal(counts, axis1=-2, axis2=-1)
    return ClassCounts(correct, counts.sum(axis=-1), counts.sum(axis=-2))
