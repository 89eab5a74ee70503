"""Trains and validates a new model on one fold."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raysearch.models.architectures.networks import build_with_weights
from raysearch.models.dihedral import NUM_VIEWS, TEST_TIME_AUGMENTATIONS
from raysearch.models.transfer.lora import with_adapters
from raysearch.training.augmentation import Augmentation
from raysearch.training.bag_batches import bag_batch
from raysearch.training.batches import (
    Targets,
    balanced_order,
    epoch_order,
    mix_batch,
    normalized_batch,
    split_batches,
)
from raysearch.training.failures import NAN_LOSS, NAN_SCORES, TrainingFailedError
from raysearch.training.fold_loss import FoldLoss
from raysearch.training.online_metrics import OnlinePredictions, TrainMetrics, heavier_position
from raysearch.training.optimization import Optimization, OptimizationState, StateDict
from raysearch.training.preprocessed_pixels import preprocess_fold
from raysearch.training.seeds import key
from raysearch.training.train_config import TrainConfig
from raysearch.training.trained_tensors import TrainedTensors
from raysearch.training.training_data import TrainingData
from raysearch.training.weight_averaging import averaged_model

VALIDATION_BATCH_SIZE = 512


def no_part(_part: float) -> None:
    """Ignore the part of an epoch that is over."""


def no_rows(_num_done: int, _num_rows: int) -> None:
    """Ignore the number of rows so far."""


@dataclass(frozen=True)
class ValidationScores:
    """The logits of the validation rows of a fold.

    Attributes:
        rows: The validation rows, int64, shape (N,).
        logits: float32, shape (N, classes).
        inference_ms: The time of one view of a patch in milliseconds, from the stored pixels to the
            logits; None if it was not measured.
    """

    rows: NDArray[np.int64]
    logits: NDArray[np.float32]
    inference_ms: float | None = None


@dataclass(frozen=True)
class FoldTrainerState:
    """The state of a `FoldTrainer`: the state dictionaries of its parts.

    Attributes:
        model: The tensors of the model that the training changes.
        optimization: The optimizer and its schedule.
        average: The exponential moving average of the model; None if there is none.
    """

    model: StateDict
    optimization: OptimizationState
    average: StateDict | None


class FoldTrainer:
    """A new model that is trained on one fold, with its optimizer and schedule.

    Random numbers depend on (seed, fold, epoch) only: after a restart from a checkpoint they are
    those of an uninterrupted training.
    """

    def __init__(self, config: TrainConfig, data: TrainingData, fold: int) -> None:
        self.config, self.fold = config, fold
        self.preprocessing, self.data = preprocess_fold(config, data, fold)
        self.train_indices, self.val_indices = data.folds[fold]
        self.loss = FoldLoss(config, data, fold)
        self.epoch_indices = self.loss.train_indices
        self._predictions = OnlinePredictions(self.loss.labels, self.loss.num_own_rows)

        torch.manual_seed(key(config.seed, fold, "model"))
        num_classes = len(data.class_names)
        net = build_with_weights(
            config.architecture,
            data.shape,
            num_classes,
            config.hparams,
            weights_hash=config.weights_hash,
            encoder=config.encoder,
        )
        net = with_adapters(net, config.params, num_classes)
        self.model = config.precision_settings.to_device(net, data.device)
        steps_per_epoch = len(
            split_batches(torch.from_numpy(self.epoch_indices), config.batch_size)
        )
        self.optimization = Optimization(config, self.model, num_classes, steps_per_epoch)
        self.trained_tensors = TrainedTensors(self.optimization.layers.trained_tensors())
        self.average = averaged_model(self.model, config.params.ema_decay, self.trained_tensors)
        self.augment = Augmentation.from_params(config.params)

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
            on_part: Called after each batch with the part of the epoch that is over.
            with_metrics: Whether `train_metrics` is read after the epoch.

        Raises:
            TrainingFailedError: If the loss is not finite.
        """
        seed, fold, device = self.config.seed, self.fold, self.data.device
        torch.manual_seed(key(seed, fold, epoch))
        rng = torch.Generator().manual_seed(key(seed, fold, epoch, "turns"))
        mixup_rng = np.random.default_rng(key(seed, fold, epoch, "mixup"))
        mixup_alpha = self.config.params.mixup_alpha
        order = torch.from_numpy(self.row_order(epoch)).to(device)
        total_loss = torch.zeros((), device=device)
        self.optimization.start_epoch(epoch)
        self._predictions.start(are_read=with_metrics)
        num_done = 0
        for rows in split_batches(order, self.config.batch_size):
            is_random = self.augment.has_dihedral or self.data.bag_ends is not None
            batch = self.load_batch(rows, rng if is_random else None)
            batch = self.augment(batch, rng)
            targets: Targets = [(rows, 1.0)]
            if mixup_alpha:
                fraction = float(mixup_rng.beta(mixup_alpha, mixup_alpha))
                batch, targets = mix_batch(batch, rows, fraction, rng)
            self.optimization.zero_grad()
            loss = self.backward(batch, targets)
            self.optimization.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            total_loss += loss * len(rows)
            num_done += len(rows)
            on_part(num_done / len(order))
        mean_loss = float(total_loss) / len(order)  # waits for the device, once an epoch
        if not math.isfinite(mean_loss):
            raise TrainingFailedError(NAN_LOSS)
        self.optimization.end_epoch(mean_loss)
        return mean_loss

    def validate(
        self, *, use_tta: bool, on_rows: Callable[[int, int], None] = no_rows
    ) -> ValidationScores:
        """Compute the logits of the validation rows.

        Args:
            use_tta: Apply the test-time augmentation of the hyperparameter `tta`, as at the end of
                a fold. It can take as long as several epochs without it.
            on_rows: Called after each batch with the number of validated rows, and of all rows.

        Raises:
            TrainingFailedError: If a logit is not finite.
        """
        tta = self.config.params.tta if use_tta else "none"
        num_views = NUM_VIEWS[tta](*self.data.shape[:2])
        model = TEST_TIME_AUGMENTATIONS[tta](self.trained_model).eval()
        rows = torch.from_numpy(self.val_indices).to(self.data.device)
        start = time.perf_counter()
        with torch.inference_mode(), self.config.precision_settings.autocast(self.data.device):
            batches, num_done = [], 0
            for batch_rows in torch.split(rows, self.validation_batch_size):
                batches.append(model(self.load_batch(batch_rows)).float())
                num_done += len(batch_rows)
                on_rows(num_done, len(rows))
        logits = torch.cat(batches).cpu().numpy()  # waits for the device
        elapsed_ms = 1000 * (time.perf_counter() - start)
        if not np.isfinite(logits).all():
            raise TrainingFailedError(NAN_SCORES)
        return ValidationScores(self.val_indices, logits, elapsed_ms / len(logits) / num_views)

    def train_metrics(self) -> TrainMetrics:
        """Return the metrics of the training rows, as predicted in the steps of the last epoch.

        A blend of mixup counts as the patch of which it has the larger part.
        """
        return self._predictions.metrics(self.data.class_names)

    @property
    def trained_model(self) -> nn.Module:
        """The model that is validated and kept: the average of the weights if there is one."""
        if self.average is None:
            return self.model
        module: nn.Module = self.average.module
        return module

    def row_order(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of an epoch in their order."""
        seed = self.config.seed
        if self.config.params.balanced_sampling:
            labels = self.loss.labels.cpu().numpy()[self.epoch_indices]
            return balanced_order(self.epoch_indices, labels, seed, self.fold, epoch)
        return epoch_order(self.epoch_indices, seed, self.fold, epoch)

    @property
    def validation_batch_size(self) -> int:
        """The rows of a batch of the validation; one slide, of which all patches are read."""
        return VALIDATION_BATCH_SIZE if self.data.bag_ends is None else 1

    def load_batch(self, rows: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Return the patches of `rows` as a normalized float32 batch (B, 3, H, W).

        Each patch gets a random dihedral transform if there is a generator. Of bags, the batch is
        (B, 1, n, D), and the generator draws the patches of each slide.
        """
        data = self.data
        if data.bag_ends is not None:
            max_patches = 0 if rng is None else self.config.params.bag_size
            return bag_batch(data.pixels, data.bag_ends, rows, max_patches, rng)
        memory_format = self.config.precision_settings.torch_memory_format
        return normalized_batch(data.gather(rows), data.shape, memory_format, rng)

    def backward(self, batch: Tensor, targets: Targets) -> Tensor:
        """Add the gradient of the loss of a batch to the parameters; return the loss.

        The gradient is accumulated over micro-batches if the configuration says so.
        """
        heavier = heavier_position(targets)
        if self.config.accumulate == 1:
            return self._backward(batch, targets, heavier)
        size = self.config.micro_batch_size(len(batch))
        # The mean of a micro-batch is weighted by its normalizer relative to that of the batch.
        split_targets = [
            [
                (micro_rows, weight / self.loss.normalizer(rows) * self.loss.normalizer(micro_rows))
                for micro_rows in split_batches(rows, size)
            ]
            for rows, weight in targets
        ]
        total_loss, start = torch.zeros((), device=batch.device), 0
        for micro_targets in zip(*split_targets, strict=True):
            stop = start + len(micro_targets[0][0])
            total_loss += self._backward(batch[start:stop], list(micro_targets), heavier)
            start = stop
        return total_loss

    def _backward(self, batch: Tensor, targets: Targets, heavier: int) -> Tensor:
        with self.config.precision_settings.autocast(self.data.device):
            logits = self.model(batch)
        logits = logits.float()
        self._predictions.add(logits, targets[heavier][0])
        losses = [self.loss.mean(logits, rows) * weight for rows, weight in targets]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def state(self) -> FoldTrainerState:
        """Return the current state."""
        tensors = self.trained_tensors
        average = None if self.average is None else tensors.of_state(self.average.state_dict())
        model = tensors.of_state(self.model.state_dict())
        return FoldTrainerState(model, self.optimization.state(), average)

    def load_state(self, state: FoldTrainerState) -> None:
        """Restore a state."""
        self.trained_tensors.restore(self.model, state.model)
        self.optimization.load_state(state.optimization)
        if self.average is not None and state.average is not None:
            self.trained_tensors.restore(self.average, state.average)
