"""Probabilities that mean what they say, and the threshold of a decision: fitted once, and locked.

Both are fitted on pooled out-of-fold predictions, never a fold at a time: thresholds of single
folds swing, and cost more than they gain.
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

# As in Guo et al., 2017, "On Calibration of Modern Neural Networks".
BINS = 15
HOTTEST = 100.0


def fit_temperature(labels: Ints, probabilities: Floats) -> float:
    """The temperature at which `probabilities` (N, C) have the least log loss for `labels` (N,).

    Above 1 where they were too sure. ValueError where there are no rows.
    """
    if not len(labels):
        raise ValueError("no rows to fit a temperature on")
    logits = _logs(probabilities)

    def loss(power: float) -> float:
        logs = log_softmax(logits / np.exp(power), axis=1)
        return -float(logs[np.arange(len(labels)), labels].mean())

    most = float(np.log(HOTTEST))
    found = minimize_scalar(loss, bounds=(-most, most), method="bounded")
    return float(np.exp(found.x))


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """`probabilities` (N, C) at `temperature`: the same order of classes, more or less sure."""
    found: Floats = softmax(_logs(probabilities) / temperature, axis=1)
    return found


def _logs(probabilities: Floats) -> Floats:
    found: Floats = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return found


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width of how sure: `rows`, mean `confidence` and `accuracy`, each (bins,).

    NaN in an empty bin. `error` is the expected calibration error, None without rows.
    """

    rows: Ints
    confidence: Floats
    accuracy: Floats
    error: float | None


def reliability(labels: Ints, probabilities: Floats, bins: int = BINS) -> Reliability:
    """How often the predicted class is right, by how sure it was (Guo et al., 2017).

    `labels` (N,), `probabilities` (N, C); a bin holds its upper bound, the first one its lower too.
    """
    sure = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    rows = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, sure, bins) / rows
        accuracy = np.bincount(place, right, bins) / rows
    if not len(labels):
        return Reliability(rows, confidence, accuracy, None)
    apart = np.where(rows > 0, np.abs(accuracy - confidence), 0.0)
    return Reliability(rows, confidence, accuracy, float(apart @ rows / len(labels)))


def _balanced_accuracy(hits: Floats, alarms: Floats, positives: float, negatives: float) -> Floats:
    found: Floats = (hits / positives + (negatives - alarms) / negatives) / 2
    return found


def _f1(hits: Floats, alarms: Floats, positives: float, _negatives: float) -> Floats:
    found: Floats = 2 * hits / (hits + alarms + positives)
    return found


def _accuracy(hits: Floats, alarms: Floats, positives: float, negatives: float) -> Floats:
    found: Floats = (hits + negatives - alarms) / (positives + negatives)
    return found


# What a threshold can be chosen by, from the positives and negatives at or above it.
CRITERIA: Mapping[str, Callable[[Floats, Floats, float, float], Floats]] = {
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "accuracy": _accuracy,
}


def fit_threshold(labels: Ints, scores: Floats, criterion: str = "balanced_accuracy") -> float:
    """The threshold of `scores` (N,), at or above which 1 is decided, that is best for `labels`.

    It lies in the middle between two scores, or at a bound; of equally good ones it is the one
    nearest to a half. ValueError where a class has no rows.
    """
    positive = labels == 1
    positives, negatives = float(positive.sum()), float((~positive).sum())
    if not positives or not negatives:
        raise ValueError("a threshold needs rows of both classes")
    values, place = np.unique(scores, return_inverse=True)
    own = np.bincount(place, positive.astype(np.float64), len(values))
    every = np.bincount(place, minlength=len(values)).astype(np.float64)
    # At or above the value; and none at all.
    hits = np.append(np.cumsum(own[::-1])[::-1], 0.0)
    alarms = np.append(np.cumsum((every - own)[::-1])[::-1], 0.0)
    thresholds = np.concatenate(
        [[values[0]], (values[1:] + values[:-1]) / 2, [np.nextafter(values[-1], np.inf)]]
    )
    gained = CRITERIA[criterion](hits, alarms, positives, negatives)
    best = thresholds[gained >= gained.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])
