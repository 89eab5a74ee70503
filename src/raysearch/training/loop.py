"""The training loop of a trial, without Ray.

The resource is the fold-epoch: a trial trains a new model on one fold after another. After each
fold-epoch it calls a report function, which ends the training if it raises.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from raysearch.metrics.classification import classification_metrics
from raysearch.training.failures import UNDEFINED, TrainingFailedError
from raysearch.training.fold_training import FoldTrainer, FoldTrainerState, ValidationScores
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData


@dataclass(frozen=True)
class FoldEpoch:
    """The result of one epoch of one fold.

    Attributes:
        epoch: The number of the fold-epoch in the trial, from 1.
        fold: The number of the fold, from 0.
        objective: The mean of the objective over the finished folds and this one.
        loss: The mean training loss.
        metrics: The validation metrics of this fold, by name.
        seconds: The duration; that of the first epoch of a fold includes the preprocessing.
        samples: The number of training patches; None in a checkpoint that does not contain it.
    """

    epoch: int
    fold: int
    objective: float
    loss: float
    metrics: Mapping[str, float | None]
    seconds: float
    samples: int | None = None


@dataclass(frozen=True)
class TrainingState:
    """The whole state of a training after a fold-epoch, from which it can be continued.

    Attributes:
        history: The results of all fold-epochs so far, at least one.
        trainer: The state of the trainer of the current fold.
    """

    history: tuple[FoldEpoch, ...]
    trainer: FoldTrainerState


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
    trainer: FoldTrainer | None = None
    for number in range(len(history), config.epochs * len(data.folds)):
        fold, epoch = divmod(number, config.epochs)
        start = time.monotonic()
        if trainer is None or epoch == 0:
            trainer = FoldTrainer(config, data, fold)
            if state is not None and epoch > 0:
                trainer.load_state(state.trainer)
            state = None
        loss = trainer.train_epoch(epoch)
        val_scores = trainer.validate(use_tta=epoch + 1 == config.epochs)
        metrics = validation_metrics(data, val_scores)
        fold_epoch = FoldEpoch(
            epoch=number + 1,
            fold=fold,
            objective=_mean_objective(history, config, fold, metrics[config.metric]),
            loss=loss,
            metrics=metrics,
            seconds=time.monotonic() - start,
            samples=len(trainer.epoch_indices),
        )
        history.append(fold_epoch)
        report(fold_epoch, val_scores, _state_getter(history, trainer))


def _state_getter(
    history: Sequence[FoldEpoch], trainer: FoldTrainer
) -> Callable[[], TrainingState]:
    return lambda: TrainingState(tuple(history), trainer.state())


@dataclass(frozen=True)
class TrainedFold:
    """A model that was trained on a fold, its fitted preprocessing, and its validation scores."""

    net: nn.Module
    preprocessing: nn.Module
    val_scores: ValidationScores


def train_fold(config: TrainConfig, data: TrainingData, fold: int) -> TrainedFold:
    """Train and validate one `fold`.

    The result equals that of `train` at the end of that fold, to the last bit.
    """
    trainer = FoldTrainer(config, data, fold)
    for epoch in range(config.epochs):
        trainer.train_epoch(epoch)
    val_scores = trainer.validate(use_tta=True)
    return TrainedFold(trainer.trained_model, trainer.preprocessing, val_scores)


def validation_metrics(data: TrainingData, val_scores: ValidationScores) -> dict[str, float | None]:
    """Return the classification metrics of the validation rows, by name."""
    labels = data.labels.cpu().numpy()[val_scores.rows]
    return classification_metrics(labels, probabilities(val_scores.logits), data.class_names)


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
    fold_ends = [history[(finished + 1) * config.epochs - 1] for finished in range(fold)]
    objectives = [fold_end.metrics[config.metric] for fold_end in fold_ends]
    values = [math.nan if value is None else value for value in (*objectives, current)]
    mean = sum(values) / len(values)
    if not math.isfinite(mean):
        raise TrainingFailedError(UNDEFINED)
    return mean
