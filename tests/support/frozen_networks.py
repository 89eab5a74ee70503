"""A small pretrained network, and configurations of trials that read its features."""

from dataclasses import replace
from pathlib import Path

from raysearch.config.hyperparameter_spec import Value
from raysearch.models.transfer.pretrained_weights import save_weights, weights_hash
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData
from support.recorded_training import small_config


def pretrained_file(folder: Path, data: TrainingData) -> Path:
    """Write the weights of a small network that was trained for three epochs on a fold."""
    path = folder / "net.safetensors"
    trainer = FoldTrainer(replace(small_config(), epochs=3), data, 0)
    for epoch in range(3):
        trainer.train_epoch(epoch)
    save_weights(trainer.model, path)
    return path


def frozen_config(path: Path, **hparams: Value) -> TrainConfig:
    """Return the configuration of a trial over the frozen features of the network at `path`."""
    config = small_config(weights=str(path), adaptation="frozen", **hparams)
    return replace(config, weights_hash=weights_hash("cnn", str(path)))
