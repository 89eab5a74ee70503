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


def custom_metric(function: MetricFunction, labels: Ints, probabilities: Floats) -> float | None:
    """Compute a metric of the user's; None if it is undefined.

    Args:
        function: The metric.
        labels: Class of each row, shape (N,).
        probabilities: Probability of each class, shape (N, C).

    Raises:
        SpaceError: If the function raises another exception, or returns no number.
    """
    try:
        value = float(function(labels, probabilities))
    except (ValueError, ArithmeticError):
        return None
    except Exception as error:  # code of the user's raises any class
        raise metric_error(function, error) from error
    return value if math.isfinite(value) else None


def metric_error(function: MetricFunction, error: Exception) -> SpaceError:
    """Return the one-line message for an exception of a metric of the user's."""
    name = f"{function.__module__}:{getattr(function, '__name__', 'metric')}"
    return SpaceError(f"metric {name}: {type(error).__name__}: {first_line(error)}; correct it")


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
            # A replicate may lack a class.
            if takes_weights:
                present = row_weights > 0
                result = function(
                    labels[present], probabilities[present], sample_weight=row_weights[present]
                )
            else:
                drawn = np.repeat(rows, row_weights.astype(np.int64))
                result = function(labels[drawn], probabilities[drawn])
            number = float(result)
        except (ValueError, ArithmeticError, LookupError):
            return math.nan
        except Exception as error:  # code of the user's raises any class
            raise metric_error(function, error) from error
        return number if math.isfinite(number) else math.nan

    return np.array([value(replicate) for replicate in weights], np.float64)
