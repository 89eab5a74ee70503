"""The training loop of a trial, without Ray.

The resource is the fold-epoch: a trial trains a new model on one fold after another. After each
fold-epoch, or each fold if its network is frozen, it calls a report function, which ends the
training if it raises.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import nn

from raysearch.config.custom_code import load_metrics
from raysearch.config.names import FROZEN
from raysearch.metrics.classification import classification_metrics
from raysearch.models.transfer.lora import merge_adapters
from raysearch.training.failures import UNDEFINED, TrainingFailedError
from raysearch.training.features.feature_training import FeatureTrainer
from raysearch.training.fold_training import FoldTrainer, FoldTrainerState, ValidationScores
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData


@dataclass(frozen=True)
class FoldEpoch:
    """The result of one epoch of one fold; of a frozen network, that of a fold.

    Attributes:
        epoch: The number of the fold-epoch in the trial, from 1; that at its end.
        fold: The number of the fold, from 0.
        objective: The mean of the objective over the finished folds and this one.
        loss: The mean training loss.
        metrics: The validation metrics of this fold, by name.
        seconds: The duration; that of the first epoch of a fold includes the preprocessing.
        samples: The number of training patches; None in a checkpoint that does not contain it.
        train_metrics: The metrics of the training rows of this fold, by name, as predicted in the
            training steps of the epoch; None in a checkpoint that does not contain them.
    """

    epoch: int
    fold: int
    objective: float
    loss: float
    metrics: Mapping[str, float | None]
    seconds: float
    samples: int | None = None
    train_metrics: Mapping[str, float | None] | None = None


@dataclass(frozen=True)
class TrainingState:
    """The whole state of a training after a fold-epoch, from which it can be continued.

    Attributes:
        history: The results of all fold-epochs so far, at least one.
        trainer: The state of the trainer of the current fold.
        score_hashes: SHA-256 of the files of validation scores that are stored, by fold-epoch.
    """

    history: tuple[FoldEpoch, ...]
    trainer: FoldTrainerState
    score_hashes: Mapping[int, str] = field(default_factory=dict)


Trainer = FoldTrainer | FeatureTrainer


def fold_trainer(config: TrainConfig, data: TrainingData, fold: int) -> Trainer:
    """Return what trains on a fold: a network, or a head over the features of a frozen one."""
    is_frozen = config.params.adaptation == FROZEN
    return FeatureTrainer(config, data, fold) if is_frozen else FoldTrainer(config, data, fold)


Report = Callable[[FoldEpoch, ValidationScores, Callable[[], TrainingState]], None]


def train(
    config: TrainConfig, data: TrainingData, report: Report, state: TrainingState | None = None
) -> None:
    """Train a trial over all folds, from the beginning or from a checkpoint.

    Args:
        config: The configuration of the trial.
        data: The data, with its folds.
        report: Called after each fold-epoch with its result, its validation scores, and a function
            that returns the state for a checkpoint.
        state: The state to continue from; None to begin.

    Raises:
        TrainingFailedError: If the loss, a score or the objective is not finite.
    """
    history = [] if state is None else list(state.history)
    trainer: Trainer | None = None
    interval = config.report_interval
    first = history[-1].epoch if history else 0
    for number in range(first, config.epochs * len(data.folds), interval):
        fold, epoch = divmod(number, config.epochs)
        start = time.monotonic()
        if trainer is None or epoch == 0:
            trainer = fold_trainer(config, data, fold)
            if state is not None and epoch > 0:
                trainer.load_state(state.trainer)
            state = None
        loss, num_samples = math.nan, 0
        for each_epoch in range(epoch, epoch + interval):
            is_reported = each_epoch + 1 == epoch + interval
            loss = trainer.train_epoch(each_epoch, with_metrics=is_reported)
            num_samples += len(trainer.epoch_indices)
        train_metrics = trainer.train_metrics()
        val_scores = trainer.validate(use_tta=epoch + interval == config.epochs)
        metrics = validation_metrics(config, data, val_scores)
        fold_epoch = FoldEpoch(
            epoch=number + interval,
            fold=fold,
            objective=_mean_objective(history, config, fold, metrics[config.metric]),
            loss=loss,
            metrics=metrics,
            seconds=time.monotonic() - start,
            samples=num_samples,
            train_metrics=train_metrics,
        )
        history.append(fold_epoch)
        report(fold_epoch, val_scores, _state_getter(history, trainer))


def _state_getter(history: Sequence[FoldEpoch], trainer: Trainer) -> Callable[[], TrainingState]:
    return lambda: TrainingState(tuple(history), trainer.state())


@dataclass(frozen=True)
class TrainedFold:
    """A model that was trained on a fold, its fitted preprocessing, and its validation scores.

    Its adapters are merged into its weights, if it was trained by LoRA.
    """

    net: nn.Module
    preprocessing: nn.Module
    val_scores: ValidationScores


@dataclass(frozen=True)
class FoldState:
    """The state of the training of one fold, from which it can be continued.

    Attributes:
        epochs: The number of epochs so far, at least one.
        accumulate: The number of micro-batches in a batch.
        trainer: The state of the trainer.
    """

    epochs: int
    accumulate: int
    trainer: FoldTrainerState


class FoldListener:
    """Follows the training of one fold; this one does nothing."""

    def on_batch(self, epochs: float) -> None:
        """Called with the number of epochs so far, a part of an epoch included."""

    def on_epoch(self, epochs: int, state: Callable[[], FoldState]) -> None:
        """Called after an epoch with the number of epochs, and what returns the state."""

    def on_validation(self, num_done: int, num_rows: int) -> None:
        """Called with the number of validated patches, and of all validation patches."""


def train_fold(
    config: TrainConfig,
    data: TrainingData,
    fold: int,
    listener: FoldListener | None = None,
    state: FoldState | None = None,
) -> TrainedFold:
    """Train and validate one `fold`.

    The result equals that of `train` at the end of that fold, to the last bit, also if the training
    continues from a state.

    Args:
        config: The configuration of the trial.
        data: The data, with its folds.
        fold: The fold.
        listener: Follows the training.
        state: The state to continue from; None to begin. That of a training with another number of
            micro-batches is not used.
    """
    listener = listener or FoldListener()
    trainer, num_epochs = fold_trainer(config, data, fold), 0
    if state is not None and state.accumulate == config.accumulate:
        trainer.load_state(state.trainer)
        num_epochs = state.epochs
    listener.on_batch(num_epochs)
    for epoch in range(num_epochs, config.epochs):
        trainer.train_epoch(epoch, _part_callback(listener, epoch), with_metrics=False)
        listener.on_epoch(epoch + 1, _fold_state_getter(epoch + 1, config.accumulate, trainer))
    val_scores = trainer.validate(use_tta=True, on_rows=listener.on_validation)
    net = merge_adapters(trainer.trained_model)
    return TrainedFold(net, trainer.preprocessing, val_scores)


def _part_callback(listener: FoldListener, epoch: int) -> Callable[[float], None]:
    return lambda part: listener.on_batch(epoch + part)


def _fold_state_getter(epochs: int, accumulate: int, trainer: Trainer) -> Callable[[], FoldState]:
    return lambda: FoldState(epochs, accumulate, trainer.state())


def validation_metrics(
    config: TrainConfig, data: TrainingData, val_scores: ValidationScores
) -> dict[str, float | None]:
    """Return the metrics of the validation rows, by name, those of the user's included."""
    labels = data.labels.cpu().numpy()[val_scores.rows]
    custom = load_metrics(config.custom_metrics)
    return classification_metrics(
        labels, probabilities(val_scores.logits), data.class_names, custom
    )


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the softmax of `logits` (N, classes), computed in float64."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    softmax: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return softmax


def _mean_objective(
    history: Sequence[FoldEpoch], config: TrainConfig, fold: int, current: float | None
) -> float:
    """Return the mean objective over the last epochs of the finished folds and `current`.

    Raises:
        TrainingFailedError: If one of them is undefined or not finite.
    """
    fold_ends = [entry for entry in history if entry.epoch % config.epochs == 0]
    objectives = [fold_end.metrics[config.metric] for fold_end in fold_ends[:fold]]
    values = [math.nan if value is None else value for value in (*objectives, current)]
    mean = sum(values) / len(values)
    if not math.isfinite(mean):
        raise TrainingFailedError(UNDEFINED)
    return mean
