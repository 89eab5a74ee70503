"""Fits heads over features that are not trained in steps."""

from __future__ import annotations

from collections.abc import Callable

import torch

from raysearch.models.transfer.feature_heads import FeatureHead, NearestNeighborsHead, TrainedHead
from raysearch.training.features.fold_features import FoldFeatures
from raysearch.training.features.logistic_regression import fit_logistic_regression
from raysearch.training.online_metrics import OnlinePredictions
from raysearch.training.optimization import OptimizationState

# The training loss is that of so many rows.
MAX_LOSS_ROWS = 2048


class HeadFitting:
    """Fits a head in the first epoch of a fold; it stays as it is in the others.

    Args:
        head: The head.
        features: The features of the fold.
        l2_penalty: The L2 penalty of a logistic regression.

    Attributes:
        predictions: Those of the training rows of the loss, by the fitted head.
    """

    def __init__(self, head: FeatureHead, features: FoldFeatures, l2_penalty: float) -> None:
        self._head, self._features, self._l2_penalty = head, features, l2_penalty
        self._is_fitted = False
        self.predictions = OnlinePredictions(features.loss.labels, features.loss.num_own_rows)

    def train_epoch(
        self, _epoch: int, on_part: Callable[[float], None], *, with_metrics: bool
    ) -> float:
        """Fit the head if it is not fitted; return the mean loss of some training rows."""
        if not self._is_fitted:
            self._fit()
            self._is_fitted = True
        on_part(1.0)
        return self._sampled_loss(with_metrics)

    def _fit(self) -> None:
        features, loss, head = self._features, self._features.loss, self._head
        if isinstance(head, NearestNeighborsHead):
            # Flips and turns of training patches would take eight times the memory.
            features = features.with_one_view()
        rows, values = features.repeated(loss.train_indices), features.of(loss.train_indices)
        if isinstance(head, TrainedHead):
            fit_logistic_regression(
                head.last_layer,
                head.standardization.fit_in_place(values),
                lambda logits: loss.mean(logits, rows),
                self._l2_penalty,
            )
        else:
            head.fit(values, loss.labels[rows], features.row_weights(loss.train_indices))

    @torch.inference_mode()
    def _sampled_loss(self, with_metrics: bool) -> float:
        features, loss = self._features.with_one_view(), self._features.loss
        rows = loss.train_indices[:: -(-len(loss.train_indices) // MAX_LOSS_ROWS)]
        logits = self._head.eval()(features.of(rows))
        repeated = features.repeated(rows)
        self.predictions.start(are_read=with_metrics)
        self.predictions.add(logits, repeated)
        return float(loss.mean(logits, repeated))

    def state(self) -> OptimizationState:
        """Return the state, which is empty: the head has its own."""
        return OptimizationState(0, {}, {})

    def load_state(self, _state: OptimizationState) -> None:
        """Continue with a head that is fitted."""
        self._is_fitted = True
