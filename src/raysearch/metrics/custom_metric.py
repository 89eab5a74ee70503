"""Metrics of the user's own: functions of labels and probabilities.

Such a function takes the labels (N,), integers, and the probabilities (N, C), and returns a number;
NaN, or a ValueError, if the metric is undefined. A parameter `sample_weight` has the meaning that
it has in scikit-learn; without it, the rows of a bootstrap replicate are repeated.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MetricFunction = Callable[..., float]


def custom_metric(function: MetricFunction, labels: Ints, probabilities: Floats) -> float | None:
    """Compute a metric of the user's; None if it is undefined.

    Args:
        function: The metric.
        labels: Class of each row, shape (N,).
        probabilities: Probability of each class, shape (N, C).

    Raises:
        TypeError: If the function returns no number.
    """
    try:
        value = float(function(labels, probabilities))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def custom_replicates(
    function: MetricFunction,
    labels: Ints,
    probabilities: Floats,
    patient_index: Ints,
    weights: Floats,
) -> Floats:
    """Compute a metric of the user's in each bootstrap replicate, as `metric_replicates` does.

    Args:
        function: The metric.
        labels: Class of each row, shape (N,).
        probabilities: Probability of each class, shape (N, C).
        patient_index: Number of each row's patient, shape (N,).
        weights: How often each replicate contains each patient, shape (R, P).

    Returns:
        The metric, shape (R,); NaN if it is undefined.
    """
    takes_weights = "sample_weight" in inspect.signature(function).parameters
    rows = np.arange(len(labels))

    def value(replicate: Floats) -> float:
        row_weights = replicate[patient_index]
        try:
            if takes_weights:
                present = row_weights > 0
                result = function(
                    labels[present], probabilities[present], sample_weight=row_weights[present]
                )
            else:
                drawn = np.repeat(rows, row_weights.astype(np.int64))
                result = function(labels[drawn], probabilities[drawn])
        except ValueError:
            return math.nan
        return float(result) if math.isfinite(result) else math.nan

    return np.array([value(replicate) for replicate in weights], np.float64)
