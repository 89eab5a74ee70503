"""Metrics of the user's own: functions of labels and probabilities.

Such a function takes the labels (N,), integers, and the probabilities (N, C), and returns a number;
NaN, or a ValueError or an ArithmeticError, if
the metric is undefined. A parameter `sample_weight` has the meaning that
it has in scikit-learn; without it, the rows of a bootstrap replicate are repeated.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from raysearch.errors import SpaceError, first_line

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MetricFunction = Callable[..., float]
# The parameter that scikit-learn's metrics have for weights.
SAMPLE_WEIGHT = "sample_weight"


def custom_metric(
    function: MetricFunction,
    labels: Ints,
    probabilities: Floats,
    sample_weight: Floats | None = None,
) -> float | None:
    """Compute a metric of the user's; None if it is undefined.

    Args:
        function: The metric.
        labels: Class of each row, shape (N,).
        probabilities: Probability of each class, shape (N, C).
        sample_weight: Weight of each row, shape (N,), for a metric with that parameter.

    Raises:
        SpaceError: If the function raises another exception, or returns no number.
    """
    weights = {} if sample_weight is None else {SAMPLE_WEIGHT: sample_weight}
    try:
        value = float(function(labels, probabilities, **weights))
    except (ValueError, ArithmeticError):
        return None
    except Exception as error:  # code of the user's raises any class
        name = f"{function.__module__}:{getattr(function, '__name__', 'metric')}"
        raise SpaceError(
            f"metric {name}: {type(error).__name__}: {first_line(error)}; correct it"
        ) from error
    return value if math.isfinite(value) else None


def takes_weights(function: MetricFunction) -> bool:
    """Return whether a metric has the parameter `sample_weight`."""
    return SAMPLE_WEIGHT in inspect.signature(function).parameters


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
        The metric, shape (R,); NaN if it is undefined, or if it raises an exception in a replicate
        that lacks a class.

    Raises:
        SpaceError: If it raises an exception otherwise.
    """
    is_weighted = takes_weights(function)
    num_classes = len(np.unique(labels))

    def value(replicate: Floats) -> float | None:
        row_weights = replicate[patient_index]
        rows = np.flatnonzero(row_weights)
        if not is_weighted:
            rows = np.repeat(rows, row_weights[rows].astype(np.int64))
        sample_weight = row_weights[rows] if is_weighted else None
        try:
            return custom_metric(function, labels[rows], probabilities[rows], sample_weight)
        except SpaceError:
            if len(np.unique(labels[rows])) < num_classes:
                return None
            raise

    values = (value(replicate) for replicate in weights)
    return np.array([math.nan if each is None else each for each in values], np.float64)
