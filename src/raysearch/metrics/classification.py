"""Metrics of class probabilities against labels, as scikit-learn defines them.

An undefined metric, such as the recall of a class without rows, is None. It is never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.confusion_matrix import (
    CLASS_METRICS,
    accuracy,
    class_metrics,
    confusion_matrix,
    matthews_corrcoef,
)
from raysearch.metrics.custom_metric import MetricFunction, custom_metric
from raysearch.metrics.ranking import ranking_metrics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MetricValues = dict[str, float | None]

# The metrics that can be the objective, and the mode of each: "max" if larger values are better.
METRICS: dict[str, Literal["max", "min"]] = {
    "auroc": "max",
    "average_precision": "max",
    "accuracy": "max",
    "balanced_accuracy": "max",
    "precision": "max",
    "recall": "max",
    "f1": "max",
    "specificity": "max",
    "macro_precision": "max",
    "macro_recall": "max",
    "macro_f1": "max",
    "macro_specificity": "max",
    "mcc": "max",
    "log_loss": "min",
    "brier": "min",
}
NO_METRICS: Mapping[str, MetricFunction] = {}
# Probabilities of a row may miss 1 by this much, as those of a low-precision softmax do.
SUM_TOLERANCE = 0.01


def classification_metrics(
    labels: Ints,
    probabilities: Floats,
    class_names: Sequence[str],
    custom: Mapping[str, MetricFunction] = NO_METRICS,
) -> MetricValues:
    """Compute every metric of probabilities against labels.

    The predicted class has the highest probability, the first of equals. With two classes, `auroc`,
    `average_precision`, `precision`, `recall`, `f1` and `specificity` are those of class 1. With
    more, they are unweighted means over the classes, each against the others. `macro_METRIC` is
    always the mean over the classes, `METRIC_CLASS` the value of one class. `balanced_accuracy` is
    the mean recall of the classes that have rows, undefined for fewer than two. `brier` is the mean
    squared distance of the probabilities to the one-hot label, summed over classes, and half of
    that for two classes, as `sklearn.metrics.brier_score_loss` has it. `mcc` is Matthews'
    correlation coefficient.

    Args:
        labels: Class of each row, shape (N,).
        probabilities: Probability of each class, shape (N, C).
        class_names: Names of the C classes.
        custom: Further metrics, by name.

    Returns:
        Values by name of the metric.

    Raises:
        ValueError: If the probabilities of a row do not sum to 1 within 0.01, or one is negative.
    """
    num_classes = len(class_names)
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, num_classes)
    values = confusion_metrics(confusion, class_names)
    values |= _probability_metrics(labels, probabilities)
    ranked_classes = [1] if num_classes == 2 else range(num_classes)
    rankings = [
        ranking_metrics(labels == number, probabilities[:, number]) for number in ranked_classes
    ]
    for position, name in enumerate(("auroc", "average_precision")):
        by_class = [defined_or_none(ranking[position]) for ranking in rankings]
        values[name] = mean_if_all_defined(by_class)
    for name, function in custom.items():
        values[name] = custom_metric(function, labels, probabilities)
    return values


def confusion_metrics(confusion: Ints, class_names: Sequence[str]) -> MetricValues:
    """Compute the metrics of predicted classes from a confusion matrix.

    Args:
        confusion: Counts, shape (C, C); rows are true classes, columns predicted ones.
        class_names: Names of the C classes.

    Returns:
        Accuracy, balanced accuracy, `mcc` and the metrics of each class, as
        `classification_metrics` names them.
    """
    by_metric = {
        name: [defined_or_none(value) for value in values.tolist()]
        for name, values in class_metrics(confusion).items()
    }
    recalls = [recall for recall in by_metric["recall"] if recall is not None]
    result: MetricValues = {
        "accuracy": defined_or_none(float(accuracy(confusion))),
        "mcc": defined_or_none(float(matthews_corrcoef(confusion))),
        "balanced_accuracy": mean_if_all_defined(recalls) if len(recalls) > 1 else None,
    }
    for name in CLASS_METRICS:
        values = by_metric[name]
        result[f"macro_{name}"] = mean_if_all_defined(values)
        result[name] = values[1] if len(class_names) == 2 else result[f"macro_{name}"]
        result |= {
            f"{name}_{class_name}": value
            for class_name, value in zip(class_names, values, strict=True)
        }
    return result


def squared_distances(labels: Ints, probabilities: Floats) -> Floats:
    """Compute the Brier score of each row, shape (N,)."""
    num_classes = probabilities.shape[1]
    one_hot = np.eye(num_classes)[labels]
    distances: Floats = np.sum((probabilities - one_hot) ** 2, axis=1)
    return distances / 2 if num_classes == 2 else distances


def log_losses(labels: Ints, probabilities: Floats) -> Floats:
    """Compute the log loss of each row, shape (N,), clipped as scikit-learn clips it."""
    total = probabilities.sum(axis=1, dtype=np.float64)
    of_label = probabilities[np.arange(len(labels)), labels] / total
    epsilon = np.finfo(np.float64).eps
    losses: Floats = -np.log(of_label.clip(epsilon, 1 - epsilon))
    return losses


def _probability_metrics(labels: Ints, probabilities: Floats) -> MetricValues:
    """Compute the Brier score and the log loss; None if there are no rows."""
    if not len(labels):
        return {"brier": None, "log_loss": None}
    total = probabilities.sum(axis=1, dtype=np.float64)
    if not np.allclose(total, 1, rtol=0, atol=SUM_TOLERANCE) or probabilities.min() < 0:
        raise ValueError("rows of probabilities do not sum to 1; pass a softmax, not logits")
    return {
        "brier": float(np.mean(squared_distances(labels, probabilities))),
        "log_loss": float(np.mean(log_losses(labels, probabilities))),
    }


def mean_if_all_defined(values: Sequence[float | None]) -> float | None:
    """Return the mean of `values`, or None if one is undefined or there are none."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined and len(defined) == len(values) else None


def defined_or_none(value: float) -> float | None:
    """Return `value`, or None if it is NaN."""
    return None if np.isnan(value) else float(value)
