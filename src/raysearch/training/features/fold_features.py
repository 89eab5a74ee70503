"""The features of the rows of a fold, and their labels and loss."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysearch.training.features.extraction import PatchFeatures
from raysearch.training.features.feature_request import feature_requests
from raysearch.training.features.feature_store import load_features
from raysearch.training.fold_loss import FoldLoss
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

# Rows are copied from the memory map in parts, so that few temporary arrays are needed.
PART_ROWS = 512


class FoldFeatures:
    """The stored features of all patches of a study, and the rows of a fold.

    A row of training stands for a view of a patch. The views of a patch follow each other: one or
    all dihedral transforms, then the random augmentations.

    Args:
        config: The configuration of the training.
        data: The data, with its folds.
        fold: The fold.
        features: The features of the patches of each set of shards, if they are known already.

    Attributes:
        loss: The labels and the loss.
        width: The number of features of a view.
        train_views: The ranges of the views of a patch that are trained on.
        view_ms: The time of the features of one view of a patch, in milliseconds.
        device: The device that trains.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        fold: int,
        features: Sequence[PatchFeatures] | None = None,
    ) -> None:
        self.loss = FoldLoss(config, data, fold)
        self.device = data.device
        if features is None:
            features = [load_features(request) for request in feature_requests(config, data)]
        self._features = [torch.from_numpy(each.values) for each in features]
        self.view_ms = features[0].view_ms
        _num_rows, num_views, self.width = self._features[0].shape
        num_dihedral = num_views - config.params.augmented_views
        num_trained = num_dihedral if config.params.augment == "dihedral" else 1
        self.train_views: tuple[range, ...] = (
            range(num_trained),
            range(num_dihedral, num_views),
        )

    def with_one_view(self) -> FoldFeatures:
        """Return the same features, of which only the patches as they are are trained on."""
        features = copy(self)
        features.train_views = (range(1),)
        return features

    @property
    def num_train_views(self) -> int:
        """The number of views of a patch that are trained on."""
        return sum(map(len, self.train_views))

    def repeated(self, rows: NDArray[np.int64]) -> Tensor:
        """Return each of `rows` (N,) once for each view that is trained on, shape (N * views,)."""
        return torch.from_numpy(np.repeat(rows, self.num_train_views)).to(self.device)

    def of(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the features of the training rows `rows` (N,), float32 (N * views, D)."""
        gathered = torch.empty(len(rows), self.num_train_views, self.width)
        start = 0
        for features in self._features:
            positions = np.flatnonzero((rows >= start) & (rows < start + len(features)))
            for part in np.split(positions, range(PART_ROWS, len(positions), PART_ROWS)):
                index = torch.from_numpy(rows[part] - start)
                views = [features[index, each.start : each.stop] for each in self.train_views]
                gathered[torch.from_numpy(part)] = torch.cat(views, dim=1).float()
            start += len(features)
        return gathered.flatten(0, 1).to(self.device)

    def views(self, rows: Tensor, num_views: int) -> Tensor:
        """Return the first views of the own rows `rows` (N,), float32 (N, num_views, D)."""
        return self._features[0][rows, :num_views].float().to(self.device)

    def row_weights(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the weights of training rows (N * views,): of the class, and if auxiliary."""
        repeated = self.repeated(rows)
        weights = torch.ones(len(repeated), device=self.device)
        if self.loss.class_weight is not None:
            weights = weights * self.loss.class_weight[self.loss.labels[repeated]]
        if self.loss.auxiliary_weight:
            is_own = repeated < self.loss.num_own_rows
            weights = weights * torch.where(is_own, 1.0, self.loss.auxiliary_weight)
        return weights
