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
    "specificity": "max",
    "macro_precision": "max",
    "macro_recall": "max",
    "macro_f1": "max",
    "macro_specificity": "max",
    "mcc": "max",
    "log_loss": "min",
    "brier": "min",
}
Scores = dict[str, float | None]
# Of a class against the rest, as a confusion matrix tells.
OF_CLASS = ("precision", "recall", "f1", "specificity")


def score(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], class_names: Sequence[str]
) -> Scores:
    """Every metric of `probabilities` (N, C) against `labels` (N,), by scikit-learn.

    With two classes, `auroc`, `average_precision`, `precision`, `recall`, `f1` and `specificity`
    are those of class 1; with more, they are means over the classes (one against the rest).
    `macro_*` are always means over the classes, `precision_CLASS` and so on are a class's own.
    `mcc` is Matthews' correlation, of any number of classes. The class with
    the highest probability is the predicted one, the first among equals. `balanced_accuracy` is
    the mean recall of the classes that have rows, and undefined for fewer than two. `brier` is the
    mean squared distance to the true class summed over classes, and half of that for two classes.
    ValueError where a row of `probabilities` does not sum to 1 within a hundredth.
    """
    predicted = probabilities.argmax(axis=1)
    classes = len(class_names)
    by_class = [_of_class(labels == one, predicted == one) for one in range(classes)]
    found = _of_rows(labels, probabilities, predicted)
    recalls = [recall for _precision, recall, *_others in by_class if recall is not None]
    found["balanced_accuracy"] = mean_of_all(recalls) if len(recalls) > 1 else None
    ranked = [_ranking(labels == one, probabilities[:, one]) for one in range(classes)]
    for place, name in enumerate(OF_CLASS):
        values = [one[place] for one in by_class]
        found[f"macro_{name}"] = mean_of_all(values)
        found[name] = values[1] if classes == 2 else found[f"macro_{name}"]
        found |= {f"{name}_{one}": values[at] for at, one in enumerate(class_names)}
    for place, name in enumerate(("auroc", "average_precision")):
        values = [one[place] for one in ranked]
        found[name] = values[1] if classes == 2 else mean_of_all(values)
    return found


def _of_rows(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], predicted: NDArray[np.int64]
) -> Scores:
    """Accuracy, Brier score, log loss and Matthews' correlation, undefined where no row is.

    The correlation also where all rows have one label, or are given one.
    """
    if not len(labels):
        return dict.fromkeys(("accuracy", "brier", "log_loss", "mcc"))
    classes = probabilities.shape[1]
    total = probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    if not np.allclose(total, 1, rtol=0, atol=0.01):
        raise ValueError("rows of probabilities do not sum to 1: give a softmax, not logits")
    distance = float(np.mean(np.sum((probabilities - np.eye(classes)[labels]) ** 2, axis=1)))
    # A float32 softmax sums to 1 within 1e-7, of which scikit-learn warns.
    loss = sk.log_loss(labels, probabilities / total, labels=range(classes))
    several = min(len(np.unique(labels)), len(np.unique(predicted))) > 1
    return {
        "accuracy": float(np.mean(labels == predicted)),
        "brier": distance / 2 if classes == 2 else distance,
        "log_loss": float(loss),
        "mcc": float(sk.matthews_corrcoef(labels, predicted)) if several else None,
    }


def _of_class(true: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> tuple[float | None, ...]:
    """What `OF_CLASS` names, of one class."""
    precision = float(sk.precision_score(true, predicted)) if predicted.any() else None
    recall = float(sk.recall_score(true, predicted)) if true.any() else None
    both = true.any() or predicted.any()
    f1 = float(sk.f1_score(true, predicted)) if both else None
    return precision, recall, f1, None if true.all() else float(sk.recall_score(~true, ~predicted))


def _ranking(
    true: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """AUROC and average precision of one class against the rest."""
    if true.all() or not true.any():
        return None, None
    return float(sk.roc_auc_score(true, scores)), float(sk.average_precision_score(true, scores))


def mean_of_all(values: Sequence[float | None]) -> float | None:
    """The mean of `values`; None where one is undefined."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
