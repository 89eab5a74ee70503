"""Trains heads over features in steps of an optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysearch.config.hyperparameter_readers import FROZEN_UNREAD
from raysearch.models.transfer.feature_heads import TrainedHead
from raysearch.training.batches import balanced_order, epoch_order, split_batches
from raysearch.training.features.fold_features import FoldFeatures
from raysearch.training.online_metrics import OnlinePredictions
from raysearch.training.optimization import Optimization, OptimizationState
from raysearch.training.train_config import TrainConfig


class HeadTraining:
    """Trains a head in passes over the features of the training rows, several in an epoch.

    Args:
        head: The head.
        features: The features of the fold.
        config: The configuration of the training.
        fold: The fold.
        num_classes: The number of logits.

    Attributes:
        predictions: Those of the steps of the last pass.
    """

    def __init__(
        self,
        head: TrainedHead,
        features: FoldFeatures,
        config: TrainConfig,
        fold: int,
        num_classes: int,
    ) -> None:
        self._head, self._features, self._config, self._fold = head, features, config, fold
        self._num_passes = config.params.feature_passes
        self.predictions = OnlinePredictions(features.loss.labels, features.loss.num_own_rows)
        # Standardized features of the training rows.
        self._inputs: Tensor | None = None
        read = {name: value for name, value in config.hparams.items() if name not in FROZEN_UNREAD}
        rows = torch.arange(len(features.loss.train_indices) * features.num_train_views)
        self._optimization = Optimization(
            replace(config, hparams=read),
            head,
            num_classes,
            len(split_batches(rows, config.batch_size)) * self._num_passes,
        )

    def train_epoch(
        self, epoch: int, on_part: Callable[[float], None], *, with_metrics: bool
    ) -> float:
        """Train the passes of an epoch; return the mean loss of the last one.

        Args:
            epoch: The number of the epoch, from 0.
            on_part: Called after each pass with the part of the epoch that is over.
            with_metrics: Whether the predictions of the last pass are read.
        """
        optimization = self._optimization
        if self._inputs is None:
            values = self._features.of(self._features.loss.train_indices)
            self._inputs = self._head.standardization.fit_in_place(values)
        rows = self._features.repeated(self._features.loss.train_indices)
        optimization.start_epoch(epoch)
        mean_loss = math.nan
        for number in range(self._num_passes):
            order = torch.from_numpy(self._order(epoch * self._num_passes + number))
            is_last = number == self._num_passes - 1
            self.predictions.start(are_read=with_metrics and is_last)
            mean_loss = self._train_pass(self._inputs, rows, order.to(self._features.device))
            on_part((number + 1) / self._num_passes)
        if math.isfinite(mean_loss):
            optimization.end_epoch(mean_loss)
        return mean_loss

    def _train_pass(self, inputs: Tensor, rows: Tensor, order: Tensor) -> float:
        """Train on `inputs` (M, D) of `rows` (M,) in an order; return the mean loss."""
        total_loss = torch.zeros((), device=self._features.device)
        for batch in split_batches(order, self._config.batch_size):
            self._optimization.zero_grad()
            logits, batch_rows = self._head.classify(inputs[batch]), rows[batch]
            self.predictions.add(logits, batch_rows)
            loss = self._features.loss.mean(logits, batch_rows)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimization.step()
            total_loss += loss.detach() * len(batch)
        return float(total_loss) / len(order)  # waits for the device, once a pass

    def _order(self, number: int) -> NDArray[np.int64]:
        """Return the order of a pass: positions among the training rows, of all views."""
        loss, seed = self._features.loss, self._config.seed
        positions = np.arange(len(loss.train_indices) * self._features.num_train_views)
        if not self._config.params.balanced_sampling:
            return epoch_order(positions, seed, self._fold, number)
        labels = loss.labels.cpu().numpy()[loss.train_indices]
        labels = np.repeat(labels, self._features.num_train_views)
        return balanced_order(positions, labels, seed, self._fold, number)

    def state(self) -> OptimizationState:
        """Return the state of the optimizer and its schedule."""
        return self._optimization.state()

    def load_state(self, state: OptimizationState) -> None:
        """Restore a state."""
        self._optimization.load_state(state)
