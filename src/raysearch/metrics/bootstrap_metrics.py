"""Every metric of `raysearch.metrics.classification` for many draws of patients at once.

A replicate that holds patient i w[i] times has the metric of the rows of each patient repeated so
often. What is counted is counted once a patient, and a replicate is a product; NaN is undefined.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import (
    MAX_PAIRED,
    Floats,
    auroc_pairs,
    rank_rows,
    replicates,
    weighted_auroc,
)

Ints = NDArray[np.int64]


def metric_replicates(
    metric: str, labels: Ints, probabilities: Floats, owner: Ints, weights: Floats
) -> Floats:
    """The `metric` (R,) of `probabilities` (N, C) for `labels` (N,) by patient `weights` (R, P).

    `owner` (N,) is the number of each row's patient; each of the P has a row. Undefined is NaN.
    """
    if metric in RANKINGS:
        classes = (1,) if probabilities.shape[1] == 2 else range(probabilities.shape[1])
        ranked = [
            RANKINGS[metric](
                (labels == one).astype(np.int64), probabilities[:, one], owner, weights
            )
            for one in classes
        ]
        return _mean(ranked)
    if metric in LOSSES:
        losses = LOSSES[metric](labels, probabilities)
        patients = weights.shape[1]
        sums = weights @ np.bincount(owner, losses, patients)
        return _fraction(sums, weights @ np.bincount(owner, minlength=patients).astype(np.float64))
    predicted, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    return _counted(metric, _confusion(labels, predicted, owner, weights, classes))


def class_replicates(
    labels: Ints, predicted: Ints, owner: Ints, weights: Floats, classes: int
) -> dict[str, Floats]:
    """The metrics `OF_CLASS` of each class (R, C), of `predicted` (N,) for `labels` (N,).

    `owner` and `weights` as for `metric_replicates`. Undefined is NaN.
    """
    return _by_class(_confusion(labels, predicted, owner, weights, classes))


def _auroc(positive: Ints, scores: Floats, owner: Ints, weights: Floats) -> Floats:
    if weights.shape[1] <= MAX_PAIRED:
        return replicates(auroc_pairs(positive, scores, owner), weights)
    rows = rank_rows(positive, scores, owner)
    return np.array([weighted_auroc(rows, one) for one in weights])


def _average_precision(positive: Ints, scores: Floats, owner: Ints, weights: Floats) -> Floats:
    rows = rank_rows(positive, -scores, owner)

    def one(weight: Floats) -> float:
        row = weight[rows.owner]
        hits = np.add.reduceat(row * rows.positive, rows.starts)
        every = np.add.reduceat(row, rows.starts)
        if not 0 < hits.sum() < every.sum():
            return float("nan")
        precision = np.cumsum(hits) / np.maximum(np.cumsum(every), 1)
        return float(hits @ precision / hits.sum())

    return np.array([one(weight) for weight in weights])


def _log_losses(labels: Ints, probabilities: Floats) -> Floats:
    """As scikit-learn has them: no probability is 0."""
    total = probabilities.sum(axis=1)
    given = probabilities[np.arange(len(labels)), labels] / total
    least = np.finfo(np.float64).eps
    found: Floats = -np.log(given.clip(least, 1 - least))
    return found


def _distances(labels: Ints, probabilities: Floats) -> Floats:
    classes = probabilities.shape[1]
    found: Floats = np.sum((probabilities - np.eye(classes)[labels]) ** 2, axis=1)
    return found / 2 if classes == 2 else found


RANKINGS: dict[str, Callable[[Ints, Floats, Ints, Floats], Floats]] = {
    "auroc": _auroc,
    "average_precision": _average_precision,
}
LOSSES: dict[str, Callable[[Ints, Floats], Floats]] = {
    "log_loss": _log_losses,
    "brier": _distances,
}


def _confusion(labels: Ints, predicted: Ints, owner: Ints, weights: Floats, classes: int) -> Floats:
    """How many rows of each class are predicted as each, (R, C, C)."""
    patients = weights.shape[1]
    cell = (owner * classes + labels) * classes + predicted
    counts = np.bincount(cell, minlength=patients * classes**2).reshape(patients, -1)
    return (weights @ counts).reshape(-1, classes, classes)


def _counted(metric: str, confusion: Floats) -> Floats:
    """`metric` (R,) of what is counted in `confusion` (R, C, C)."""
    right = np.diagonal(confusion, axis1=1, axis2=2)
    true, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    if metric == "accuracy":
        return _fraction(right.sum(axis=1), true.sum(axis=1))
    if metric == "mcc":
        return _correlation(right.sum(axis=1), true, predicted)
    recalls = _fraction(right, true)
    if metric == "balanced_accuracy":
        known = np.isfinite(recalls)
        means = _fraction(np.nansum(recalls, axis=1), known.sum(axis=1).astype(np.float64))
        return np.where(known.sum(axis=1) > 1, means, np.nan)
    name = metric.removeprefix("macro_")
    by_class = _by_class(confusion)[name]
    if name == metric and confusion.shape[1] == 2:
        return by_class[:, 1]
    return _mean(list(by_class.T))


def _by_class(confusion: Floats) -> dict[str, Floats]:
    """Of each class against the rest, (R, C) each, by `confusion` (R, C, C)."""
    right = np.diagonal(confusion, axis1=1, axis2=2)
    true, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    rows = true.sum(axis=1, keepdims=True)
    return {
        "precision": _fraction(right, predicted),
        "recall": _fraction(right, true),
        "f1": _fraction(2 * right, true + predicted),
        "specificity": _fraction(rows - true - predicted + right, rows - true),
    }


def _correlation(right: Floats, true: Floats, predicted: Floats) -> Floats:
    """Matthews' correlation (R,) of any number of classes (Gorodkin, 2004)."""
    rows = true.sum(axis=1)
    spread = [rows**2 - (one**2).sum(axis=1) for one in (true, predicted)]
    together = right * rows - (true * predicted).sum(axis=1)
    return _fraction(together, np.sqrt(spread[0] * spread[1]))


def _mean(values: list[Floats]) -> Floats:
    """The mean of arrays (R,); NaN where one of them is."""
    found: Floats = np.mean(values, axis=0)
    return found


def _fraction(part: Floats, whole: Floats) -> Floats:
    found: Floats = np.full(part.shape, np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found
