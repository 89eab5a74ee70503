"""Metrics of the training rows, from the predictions of the training steps.

A row is predicted by the weights that its step begins with, as it was augmented, with dropout and
with the batch statistics of its step. No row is predicted a second time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from raysearch.metrics.classification import confusion_metrics, mean_if_all_defined
from raysearch.training.batches import Targets

# Of the metrics of `classification_metrics`, those of the training rows.
TRAIN_METRICS = ("accuracy", "precision", "recall", "f1", "auroc")
TrainMetrics = Mapping[str, float | None]


class OnlinePredictions:
    """Collects the logits of the training steps of an epoch, on the device that trains.

    Rows of auxiliary shards are left out: validation rows have none beside them.

    Args:
        labels: The labels of all rows, auxiliary ones included, int64, shape (N + M,).
        num_own_rows: The number of rows that are not auxiliary, N.
    """

    def __init__(self, labels: Tensor, num_own_rows: int) -> None:
        self._labels, self._num_own_rows = labels, num_own_rows
        self._logits: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._are_read = True

    def start(self, *, are_read: bool = True) -> None:
        """Forget the predictions so far: an epoch begins.

        Args:
            are_read: Whether its metrics are read; if not, its predictions are not collected.
        """
        self._logits, self._rows, self._are_read = [], [], are_read

    def add(self, logits: Tensor, rows: Tensor) -> None:
        """Add the logits (B, classes) of `rows` (B,); the device is not waited for."""
        if self._are_read:
            self._logits.append(logits.detach())
            self._rows.append(rows)

    def metrics(self, class_names: Sequence[str]) -> TrainMetrics:
        """Return the `TRAIN_METRICS` of the predictions; None for an undefined one.

        All are None if a logit is not finite, or nothing was predicted.
        """
        undefined: TrainMetrics = dict.fromkeys(TRAIN_METRICS)
        if not self._rows:
            return undefined
        rows, logits = torch.cat(self._rows), torch.cat(self._logits)
        is_own = rows < self._num_own_rows
        labels, logits = self._labels[rows[is_own]], logits[is_own].double()
        if not len(labels) or not bool(logits.isfinite().all()):
            return undefined
        return _metrics(labels, torch.softmax(logits, dim=1), class_names)


def heavier_position(targets: Targets) -> int:
    """Return the position of the target with the largest weight, the first of equals.

    It labels the patches that mixup blends: by the patch of which a blend has the larger part.
    """
    weights = [weight for _rows, weight in targets]
    return weights.index(max(weights))


def _metrics(labels: Tensor, probabilities: Tensor, class_names: Sequence[str]) -> TrainMetrics:
    """Compute the metrics as `classification_metrics` defines them, on the device.

    Args:
        labels: int64, shape (N,).
        probabilities: float64, shape (N, classes).
        class_names: The names of the classes.
    """
    num_classes = len(class_names)
    cells = labels * num_classes + probabilities.argmax(dim=1)
    counts = torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)
    values = confusion_metrics(counts.cpu().numpy(), class_names)
    ranked_classes = [1] if num_classes == 2 else range(num_classes)
    values["auroc"] = mean_if_all_defined(
        [auroc(labels == number, probabilities[:, number]) for number in ranked_classes]
    )
    return {name: values[name] for name in TRAIN_METRICS}


def auroc(positive: Tensor, scores: Tensor) -> float | None:
    """Compute the area under the ROC curve from ranks (Mann and Whitney, 1947), on the device.

    Args:
        positive: Whether a row has the class, bool, shape (N,).
        scores: Scores that rise with the probability of the class, shape (N,).

    Returns:
        The AUROC; None if all rows have the class, or none has it.
    """
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        return None
    ordered, order = torch.sort(scores)
    _values, ties, counts = torch.unique_consecutive(
        ordered, return_inverse=True, return_counts=True
    )
    # Equal scores have the mean of their ranks, from 1.
    mean_ranks = counts.cumsum(0).double() - (counts - 1).double() / 2
    rank_sum = float(mean_ranks[ties][positive[order]].sum())
    concordant = rank_sum - num_positive * (num_positive + 1) / 2
    return concordant / (num_positive * num_negative)
