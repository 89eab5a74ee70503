"""The loss of the rows of a fold: weights of classes, and of auxiliary rows."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysearch.config.names import FROZEN, TRAINED_CLASSIFIERS
from raysearch.training.components import component
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData


class FoldLoss:
    """The labels and the loss of the rows that are trained on in a fold.

    Args:
        config: The configuration of the training.
        data: The data, with its folds.
        fold: The fold.

    Attributes:
        labels: The labels of all rows, auxiliary ones included, int64, shape (N + M,).
        train_indices: The rows of an epoch, auxiliary ones included, int64, shape (R,).
        class_weight: The weight of each class, shape (classes,); None if all are equal.
    """

    def __init__(self, config: TrainConfig, data: TrainingData, fold: int) -> None:
        self.num_own_rows = len(data.labels)
        own_indices, _val_indices = data.folds[fold]
        self.labels = torch.cat([data.labels, *(rows.labels for rows in data.auxiliary)])
        self.auxiliary_weight = config.params.auxiliary_weight if data.auxiliary else 0.0
        num_rows = len(self.labels) if self.auxiliary_weight else self.num_own_rows
        auxiliary_indices = np.arange(self.num_own_rows, num_rows).astype(np.int64)
        self.train_indices: NDArray[np.int64] = np.concatenate([own_indices, auxiliary_indices])
        total_weight = len(own_indices) + self.auxiliary_weight * len(auxiliary_indices)
        self._mean_row_weight = total_weight / len(self.train_indices)
        self.class_weight = _class_weight(config, data, own_indices)
        self._row_losses = partial(component("loss", config.params), weight=self.class_weight)

    def mean(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return the mean loss of the `logits` (B, classes) of `rows` (B,).

        Auxiliary rows have their own weight, relative to the mean weight of the rows of an epoch,
        not of the batch: a batch of auxiliary rows has a small loss.
        """
        losses: Tensor = self._row_losses(logits, self.labels[rows])
        if losses.shape != rows.shape:
            raise ValueError(
                f"the loss has shape {tuple(losses.shape)}; return one loss a row, {(len(rows),)}"
            )
        if self.auxiliary_weight:
            is_own = rows < self.num_own_rows
            row_weights = torch.where(is_own, 1.0, self.auxiliary_weight)
            losses = losses * (row_weights / self._mean_row_weight)
        return losses.sum() / self.normalizer(rows)

    def normalizer(self, rows: Tensor) -> Tensor | int:
        """Return the divisor of a mean loss: the number of rows, or the sum of class weights."""
        weight = self.class_weight
        return len(rows) if weight is None else weight[self.labels[rows]].sum()


def _class_weight(
    config: TrainConfig, data: TrainingData, train_indices: NDArray[np.int64]
) -> Tensor | None:
    """Return the inverse class frequencies of the training rows, with mean 1 over the rows.

    None if the hyperparameter `class_weights` is off, or the sampling is balanced. A classifier
    that is not trained in batches is balanced by weights.
    """
    params = config.params
    is_fitted = params.adaptation == FROZEN and params.classifier not in TRAINED_CLASSIFIERS
    if params.balanced_sampling and not is_fitted:
        return None
    if not (params.class_weights or params.balanced_sampling):
        return None
    labels = data.labels[torch.from_numpy(train_indices).to(data.device)]
    counts = torch.bincount(labels, minlength=len(data.class_names)).clamp(min=1)
    return len(train_indices) / (len(counts) * counts.float())
