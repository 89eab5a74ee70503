"""Metrics of the training rows, from the predictions of the training steps.

A row is predicted by the weights that its step begins with, as it was augmented, with dropout and
with the batch statistics of its step. No row is predicted a second time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from raysearch.metrics.classification import classification_metrics
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
        probabilities = torch.softmax(logits, dim=1)
        values = classification_metrics(
            labels.cpu().numpy(), probabilities.cpu().numpy(), class_names
        )
        return {name: values[name] for name in TRAIN_METRICS}


def heavier_position(targets: Targets) -> int:
    """Return the position of the target with the largest weight, the first of equals.

    It labels the patches that mixup blends: by the patch of which a blend has the larger part.
    """
    weights = [weight for _rows, weight in targets]
    return weights.index(max(weights))
