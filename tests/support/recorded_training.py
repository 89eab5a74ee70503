"""The configuration of a small trial, and a report function that records a training."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from raysearch.config.hyperparameter_spec import Value
from raysearch.training.checkpoint import pack_checkpoint, unpack_checkpoint
from raysearch.training.fold_training import ValidationScores
from raysearch.training.loop import FoldEpoch, TrainingState, train
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

HPARAMS: dict[str, Value] = {
    "width": 4,
    "convolutions": 1,
    "batch_size": 32,
    "learning_rate": 5e-3,
}


class Recorder:
    """Records each report; raises InterruptedError after the report number `stop_after`."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.fold_epochs: list[FoldEpoch] = []
        self.val_scores: list[ValidationScores] = []
        self.checkpoints: list[bytes] = []
        self._stop_after = stop_after

    def __call__(
        self,
        fold_epoch: FoldEpoch,
        val_scores: ValidationScores,
        state: Callable[[], TrainingState],
    ) -> None:
        self.fold_epochs.append(fold_epoch)
        self.val_scores.append(val_scores)
        self.checkpoints.append(pack_checkpoint(state()))
        if len(self.fold_epochs) == self._stop_after:
            raise InterruptedError

    def results(self) -> list[FoldEpoch]:
        """Return the reports without their durations."""
        return [replace(fold_epoch, seconds=0.0) for fold_epoch in self.fold_epochs]


def small_config(**hparams: Value) -> TrainConfig:
    """Return the configuration of a small trial with `hparams`."""
    return TrainConfig({**HPARAMS, **hparams}, epochs=2, metric="auroc", seed=5)


def recorded_training(config: TrainConfig, data: TrainingData) -> Recorder:
    """Train a trial from the beginning to its end, and return the record."""
    recorder = Recorder()
    train(config, data, recorder)
    return recorder


def resumed_results(config: TrainConfig, data: TrainingData, stop_after: int) -> list[FoldEpoch]:
    """Return the results of a training that is interrupted, and resumed from its checkpoint."""
    interrupted, resumed = Recorder(stop_after), Recorder()
    with pytest.raises(InterruptedError):
        train(config, data, interrupted)
    train(config, data, resumed, unpack_checkpoint(interrupted.checkpoints[-1]))
    return interrupted.results() + resumed.results()
