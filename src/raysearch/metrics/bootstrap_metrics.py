"""Every metric of `raysearch.metrics.classification`, for many bootstrap replicates at once.

A replicate that contains patient i w[i] times has the metric of the rows in which each patient is
repeated that often. Counts and sums are computed once per patient, so that a replicate is a matrix
product. Undefined values are NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from raysearch.metrics.bootstrap import (
    MAX_PATIENTS_FOR_PAIRS,
    Floats,
    Ints,
    auroc_replicates,
    count_concordant_pairs,
    rank_rows,
    weighted_auroc,
)
from raysearch.metrics.bootstrap_ranking import (
    average_precision_replicates,
    count_ranks,
    ranked_auroc_replicates,
)
from raysearch.metrics.classification import log_losses, squared_distances
from raysearch.metrics.confusion_matrix import (
    ClassCounts,
    accuracy,
    class_metrics,
    matthews_corrcoef,
    safe_divide,
)

# Up to this fraction of positives, counts of the ranked rows are faster than the weighted rows of
# each replicate; they are faster than pairs of patients if there are more pairs for each row.
MAX_FEW_POSITIVES = 0.05
MAX_PAIRS_PER_ROW = 4


def metric_replicates(
    metric: str, labels: Ints, probabilities: Floats, patient_index: Ints, weights: Floats
) -> Floats:
    """Compute a metric in each bootstrap replicate.

    Args:
        metric: One of `raysearch.metrics.classification.METRICS`.
        labels: Class of each row, shape (N,).
        probabilities: Probability of each class, shape (N, C).
        patient_index: Number of each row's patient, shape (N,); each of the P patients has a row.
        weights: How often each replicate contains each patient, shape (R, P).

    Returns:
        The metric, shape (R,); NaN if it is undefined.
    """
    num_classes = probabilities.shape[1]
    if metric in RANKING_METRICS:
        positive_classes = (1,) if num_classes == 2 else range(num_classes)
        compute = RANKING_METRICS[metric]
        values = [
            compute(
                (labels == number).astype(np.int64),
                probabilities[:, number],
                patient_index,
                weights,
            )
            for number in positive_classes
        ]
        return _class_mean(values)
    if metric in LOSS_METRICS:
        losses = LOSS_METRICS[metric](labels, probabilities)
        num_patients = weights.shape[1]
        sums = weights @ np.bincount(patient_index, losses, num_patients)
        num_rows = np.bincount(patient_index, minlength=num_patients).astype(np.float64)
        return safe_divide(sums, weights @ num_rows)
    predicted = probabilities.argmax(axis=1)
    counts = _count_replicates(labels, predicted, patient_index, weights, num_classes)
    return _confusion_metric(metric, counts)


def class_replicates(
    labels: Ints, predicted: Ints, patient_index: Ints, weights: Floats, num_classes: int
) -> dict[str, Floats]:
    """Compute the metrics of each class in each bootstrap replicate.

    Args:
        labels: Class of each row, shape (N,).
        predicted: Predicted class of each row, shape (N,).
        patient_index: Number of each row's patient, shape (N,).
        weights: How often each replicate contains each patient, shape (R, P).
        num_classes: The number of classes, C.

    Returns:
        Values by metric, each of shape (R, C); NaN if undefined.
    """
    counts = _count_replicates(labels, predicted, patient_index, weights, num_classes)
    return class_metrics(counts)


def _auroc(positive: Ints, scores: Floats, patient_index: Ints, weights: Floats) -> Floats:
    num_patients = weights.shape[1]
    if _has_few_positives(positive) and num_patients**2 > MAX_PAIRS_PER_ROW * len(positive):
        counts = count_ranks(positive, scores, patient_index, num_patients)
        return ranked_auroc_replicates(counts, weights)
    if num_patients <= MAX_PATIENTS_FOR_PAIRS:
        return auroc_replicates(count_concordant_pairs(positive, scores, patient_index), weights)
    rows = rank_rows(positive, scores, patient_index)
    return np.array([weighted_auroc(rows, replicate) for replicate in weights])


def _average_precision(
    positive: Ints, scores: Floats, patient_index: Ints, weights: Floats
) -> Floats:
    if _has_few_positives(positive):
        counts = count_ranks(positive, scores, patient_index, weights.shape[1])
        return average_precision_replicates(counts, weights)
    rows = rank_rows(positive, -scores, patient_index)

    def average_precision(replicate: Floats) -> float:
        row_weights = replicate[rows.patient_index]
        positives = np.add.reduceat(row_weights * rows.positive, rows.starts)
        counts = np.add.reduceat(row_weights, rows.starts)
        if not 0 < positives.sum() < counts.sum():
            return float("nan")
        precision = np.cumsum(positives) / np.maximum(np.cumsum(counts), 1)
        return float(positives @ precision / positives.sum())

    return np.array([average_precision(replicate) for replicate in weights])


def _has_few_positives(positive: Ints) -> bool:
    return bool(positive.mean() <= MAX_FEW_POSITIVES)


# Metrics of the order of the scores, for one class against the others.
RANKING_METRICS: dict[str, Callable[[Ints, Floats, Ints, Floats], Floats]] = {
    "auroc": _auroc,
    "average_precision": _average_precision,
}
# Metrics that are means over rows of a loss of the probabilities.
LOSS_METRICS: dict[str, Callable[[Ints, Floats], Floats]] = {
    "log_loss": log_losses,
    "brier": squared_distances,
}


def _count_replicates(
    labels: Ints, predicted: Ints, patient_index: Ints, weights: Floats, num_classes: int
) -> ClassCounts:
    """Count the correct, actual and predicted rows of each class in each replicate, (R, C) each.

    The whole confusion matrices would need the square of the number of classes.
    """

    def count(rows: Ints, classes: Ints) -> Floats:
        cell = patient_index[rows] * num_classes + classes[rows]
        num_patients = weights.shape[1]
        by_patient = np.bincount(cell, minlength=num_patients * num_classes).astype(np.float64)
        counts: Floats = weights @ by_patient.reshape(num_patients, num_classes)
        return counts

    every_row = np.arange(len(labels))
    correct_rows = np.flatnonzero(labels == predicted)
    return ClassCounts(
        count(correct_rows, labels), count(every_row, labels), count(every_row, predicted)
    )


def _confusion_metric(metric: str, counts: ClassCounts) -> Floats:
    """Compute the metric (R,) of the predicted classes from their counts (R, C)."""
    if metric == "accuracy":
        return accuracy(counts)
    if metric == "mcc":
        return matthews_corrcoef(counts)
    by_class = class_metrics(counts)
    if metric == "balanced_accuracy":
        return _mean_recall(by_class["recall"])
    name = metric.removeprefix("macro_")
    if name == metric and counts.actual.shape[1] == 2:
        return by_class[name][:, 1]
    return _class_mean(list(by_class[name].T))


def _mean_recall(recalls: Floats) -> Floats:
    """Return the mean recall (R,) of the classes with rows; NaN for fewer than two."""
    num_defined = np.isfinite(recalls).sum(axis=1)
    means = safe_divide(np.nansum(recalls, axis=1), num_defined.astype(np.float64))
    return np.where(num_defined > 1, means, np.nan)


def _class_mean(values: list[Floats]) -> Floats:
    """Return the mean over classes of arrays (R,); NaN if one of them is."""
    mean: Floats = np.mean(values, axis=0)
    return mean
