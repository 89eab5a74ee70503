"""Metrics on whole validation arrays; what is undefined is None, never 1 and never 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

# What can be an objective, and which way it is better.
METRICS: dict[str, Literal["max", "min"]] = {
    "auroc": "max",
    "average_precision": "max",
    "accuracy": "max",
    "balanced_accuracy": "max",
    "precision": "max",
    "recall": "max",
    "f1": "max",
    "macro_precision": "max",
    "macro_recall": "max",
    "macro_f1": "max",
    "log_loss": "min",
    "brier": "min",
}
Scores = dict[str, float | None]


def score(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], class_names: Sequence[str]
) -> Scores:
    """Every metric of `probabilities` (N, C) against `labels` (N,), by scikit-learn.

    With two classes, `auroc`, `average_precision`, `precision`, `recall` and `f1` are those of
    class 1; with more, they are means over the classes (one against the rest). `macro_*` are
    always means over the classes, `precision_CLASS` and so on are a class's own. The class with
    the highest probability is the predicted one, the first among equals. `brier` is the mean
    squared distance to the true class summed over classes, and half of that for two classes.
    """
    predicted = probabilities.argmax(axis=1)
    classes = len(class_names)
    by_class = [_of_class(labels == one, predicted == one) for one in range(classes)]
    found: Scores = {"accuracy": float(np.mean(labels == predicted))}
    found["balanced_accuracy"] = _mean(
        [recall for _precision, recall, _f1 in by_class], present=np.unique(labels)
    )
    ranked = [_ranking(labels == one, probabilities[:, one]) for one in range(classes)]
    for place, name in enumerate(("precision", "recall", "f1")):
        values = [one[place] for one in by_class]
        found[f"macro_{name}"] = _mean(values)
        found[name] = values[1] if classes == 2 else found[f"macro_{name}"]
        found |= {f"{name}_{one}": values[at] for at, one in enumerate(class_names)}
    for place, name in enumerate(("auroc", "average_precision")):
        values = [one[place] for one in ranked]
        found[name] = values[1] if classes == 2 else _mean(values)
    truth = np.eye(classes)[labels]
    distance = float(np.mean(np.sum((probabilities - truth) ** 2, axis=1)))
    found["brier"] = distance / 2 if classes == 2 else distance
    found["log_loss"] = float(sk.log_loss(labels, probabilities, labels=range(classes)))
    return found


def _of_class(
    true: NDArray[np.bool_], predicted: NDArray[np.bool_]
) -> tuple[float | None, float | None, float | None]:
    """Precision, recall and F1 of one class."""
    precision = float(sk.precision_score(true, predicted)) if predicted.any() else None
    recall = float(sk.recall_score(true, predicted)) if true.any() else None
    both = true.any() or predicted.any()
    return precision, recall, float(sk.f1_score(true, predicted)) if both else None


def _ranking(
    true: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """AUROC and average precision of one class against the rest."""
    if true.all() or not true.any():
        return None, None
    return float(sk.roc_auc_score(true, scores)), float(sk.average_precision_score(true, scores))


def _mean(values: Sequence[float | None], present: NDArray[np.int64] | None = None) -> float | None:
    """The mean of `values`, of the classes `present` if given; None where one is undefined."""
    kept = values if present is None else [values[int(one)] for one in present]
    known = [value for value in kept if value is not None]
    return sum(known) / len(known) if known and len(known) == len(kept) else None
