"""Trains and validates a head over frozen features on one fold."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from raysearch.config.names import TRAINED_CLASSIFIERS
from raysearch.models.architectures.networks import build_with_weights, feature_head
from raysearch.models.dihedral import NUM_VIEWS
from raysearch.models.transfer.feature_heads import TrainedHead
from raysearch.training.failures import NAN_LOSS, NAN_SCORES, TrainingFailedError
from raysearch.training.features.extraction import PatchFeatures
from raysearch.training.features.fold_features import FoldFeatures
from raysearch.training.features.head_fitting import HeadFitting
from raysearch.training.features.head_training import HeadTraining
from raysearch.training.fold_training import (
    VALIDATION_BATCH_SIZE,
    FoldTrainerState,
    ValidationScores,
    no_part,
    no_rows,
)
from raysearch.training.online_metrics import TrainMetrics
from raysearch.training.preprocessed_pixels import build_preprocessing
from raysearch.training.seeds import key
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData


class FeatureTrainer:
    """A head over frozen features that is trained on one fold, as `FoldTrainer` trains a network.

    Args:
        config: The configuration of the training.
        data: The data, with its folds.
        fold: The fold.
        features: The features of the patches of each set of shards, if they are known already.

    Attributes:
        preprocessing: The preprocessing of the patches, which needs no fit.
        epoch_indices: The rows of an epoch, int64, shape (R,).
        val_indices: The rows that are validated, int64, shape (M,).
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        fold: int,
        features: Sequence[PatchFeatures] | None = None,
    ) -> None:
        self._config, self._data, self._fold = config, data, fold
        self.preprocessing: nn.Module = build_preprocessing(config.hparams).to(data.device)
        self._features = FoldFeatures(config, data, fold, features)
        self.epoch_indices = self._features.loss.train_indices
        _train_indices, self.val_indices = data.folds[fold]
        torch.manual_seed(key(config.seed, fold, "model"))
        params, num_classes = config.params, len(data.class_names)
        self._head = feature_head(params, self._features.width, num_classes).to(data.device)
        self._method: HeadFitting | HeadTraining
        if isinstance(self._head, TrainedHead) and params.classifier in TRAINED_CLASSIFIERS:
            self._method = HeadTraining(self._head, self._features, config, fold, num_classes)
        else:
            self._method = HeadFitting(self._head, self._features, params.l2_penalty)

    def train_epoch(
        self,
        epoch: int,
        on_part: Callable[[float], None] = no_part,
        *,
        with_metrics: bool = True,
    ) -> float:
        """Train one epoch, and return the mean loss of its rows.

        Args:
            epoch: The number of the epoch, from 0.
            on_part: Called with the part of the epoch that is over.
            with_metrics: Whether `train_metrics` is read after the epoch.

        Raises:
            TrainingFailedError: If the loss is not finite.
        """
        torch.manual_seed(key(self._config.seed, self._fold, epoch))
        loss = self._method.train_epoch(epoch, on_part, with_metrics=with_metrics)
        if not math.isfinite(loss):
            raise TrainingFailedError(NAN_LOSS)
        return loss

    @torch.inference_mode()
    def validate(
        self, *, use_tta: bool, on_rows: Callable[[int, int], None] = no_rows
    ) -> ValidationScores:
        """Compute the logits of the validation rows, as `FoldTrainer.validate` does.

        The inference time includes that of the encoder, when the features were computed.
        """
        tta = self._config.params.tta if use_tta else "none"
        num_views = NUM_VIEWS[tta](*self._data.shape[:2])
        head = self._head.eval()
        start = time.perf_counter()
        batches, num_done = [], 0
        for rows in torch.split(torch.from_numpy(self.val_indices), VALIDATION_BATCH_SIZE):
            views = self._features.views(rows, num_views)
            logits = head(views.flatten(0, 1)).view(len(rows), num_views, -1)
            batches.append(logits.mean(dim=1))
            num_done += len(rows)
            on_rows(num_done, len(self.val_indices))
        all_logits = torch.cat(batches).cpu().numpy()  # waits for the device
        head_ms = 1000 * (time.perf_counter() - start) / len(all_logits) / num_views
        if not np.isfinite(all_logits).all():
            raise TrainingFailedError(NAN_SCORES)
        return ValidationScores(self.val_indices, all_logits, self._features.view_ms + head_ms)

    def train_metrics(self) -> TrainMetrics:
        """Return the metrics of the training rows, as predicted in the last epoch.

        Of a classifier that is trained in steps, they are those of the last pass; of another one,
        those of the rows whose loss is reported.
        """
        return self._method.predictions.metrics(self._data.class_names)

    @property
    def trained_model(self) -> nn.Module:
        """The encoder with the trained head."""
        config, data = self._config, self._data
        network = build_with_weights(
            config.architecture,
            data.shape,
            len(data.class_names),
            config.hparams,
            weights_hash=config.weights_hash,
            encoder=config.encoder,
        )
        network.add_module("head", self._head)
        return config.precision_settings.to_device(network, data.device)

    def state(self) -> FoldTrainerState:
        """Return the current state."""
        return FoldTrainerState(self._head.state_dict(), self._method.state(), None)

    def load_state(self, state: FoldTrainerState) -> None:
        """Restore a state."""
        self._head.load_state_dict(state.model)
        self._method.load_state(state.optimization)
