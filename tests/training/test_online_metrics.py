"""Metrics of training rows equal those of the same predictions by the definitions of metrics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from raysearch.config.hyperparameter_spec import Value
from raysearch.metrics.classification import classification_metrics
from raysearch.training.batches import mix_batch
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.loop import probabilities, train, train_fold
from raysearch.training.online_metrics import TRAIN_METRICS, OnlinePredictions
from raysearch.training.training_data import TrainingData
from support.auxiliary_rows import with_auxiliary
from support.recorded_training import Recorder, small_config


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("has_ties", [False, True])
def test_they_are_those_of_classification_metrics(num_classes: int, has_ties: bool) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    labels = torch.randint(num_classes, (200,), generator=generator)
    logits = torch.randn(200, num_classes, generator=generator)
    if has_ties:
        logits = logits.round()
    predictions = OnlinePredictions(labels, 200)
    order = torch.randperm(200, generator=generator)
    for rows in torch.split(order, 64):
        predictions.add(logits[rows], rows)
    names = [str(number) for number in range(num_classes)]
    expected = classification_metrics(labels.numpy(), probabilities(logits.numpy()), names)
    metrics = predictions.metrics(names)
    assert tuple(metrics) == TRAIN_METRICS
    for name, value in metrics.items():
        assert value == pytest.approx(expected[name], abs=1e-12)
    predictions.start()
    assert predictions.metrics(names) == dict.fromkeys(TRAIN_METRICS)
    predictions.start(are_read=False)
    predictions.add(logits, torch.arange(200))
    assert predictions.metrics(names) == dict.fromkeys(TRAIN_METRICS)


def test_a_metric_without_rows_of_a_class_is_undefined() -> None:
    predictions = OnlinePredictions(torch.zeros(3, dtype=torch.int64), 3)
    predictions.add(torch.tensor([[1.0, 0.0]] * 3), torch.arange(3))
    metrics = predictions.metrics(["a", "b"])
    assert (metrics["accuracy"], metrics["auroc"], metrics["recall"]) == (1.0, None, None)
    predictions.add(torch.tensor([[float("inf"), 0.0]]), torch.tensor([0]))
    assert predictions.metrics(["a", "b"]) == dict.fromkeys(TRAIN_METRICS)


def recorded_logits(trainer: FoldTrainer) -> list[Tensor]:
    """Return the list to which each forward pass in training mode appends its logits."""
    logits: list[Tensor] = []

    def record(_module: object, _inputs: object, output: Tensor) -> None:
        if trainer.model.training:
            logits.append(output.detach().float())

    trainer.model.register_forward_hook(record)
    return logits


@pytest.mark.parametrize(
    "hparams", [{}, {"balanced_sampling": True}, {"rotation": 20.0, "dropout": 0.2}]
)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_they_are_of_the_logits_of_the_last_epochs_training_steps(
    data: TrainingData, hparams: dict[str, Value], accumulate: int
) -> None:
    trainer = FoldTrainer(replace(small_config(**hparams), accumulate=accumulate), data, 0)
    trainer.train_epoch(0)
    logits = recorded_logits(trainer)
    trainer.train_epoch(1)
    labels = data.labels.numpy()[trainer.row_order(1)]
    all_logits = torch.cat(logits).numpy()
    expected = classification_metrics(labels, probabilities(all_logits), data.class_names)
    for name, value in trainer.train_metrics().items():
        assert value == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_blend_of_mixup_counts_as_the_patch_of_which_it_has_the_larger_part(
    data: TrainingData, accumulate: int
) -> None:
    trainer = FoldTrainer(small_config(), data, 0)
    trainer.model.eval()
    rows = torch.from_numpy(trainer.train_indices)
    generator = torch.Generator().manual_seed(0)
    for fraction in (0.8, 0.3):
        batch, targets = mix_batch(trainer.load_batch(rows), rows, fraction, generator)
        labels = data.labels[rows if fraction > 0.5 else targets[1][0]].numpy()
        fresh = FoldTrainer(replace(small_config(), accumulate=accumulate), data, 0)
        fresh.model.eval()
        fresh.backward(batch, targets)
        logits = fresh.model(batch).detach().numpy()
        expected = classification_metrics(labels, probabilities(logits), data.class_names)
        assert fresh.train_metrics()["accuracy"] == pytest.approx(expected["accuracy"])
        assert fresh.train_metrics()["auroc"] == pytest.approx(expected["auroc"])


def test_auxiliary_rows_are_left_out(data: TrainingData) -> None:
    config = small_config(auxiliary_weight=0.5)
    trainer = FoldTrainer(config, with_auxiliary(data), 0)
    logits = recorded_logits(trainer)
    trainer.train_epoch(0)
    order = trainer.row_order(0)
    is_own = order < len(data.labels)
    assert not is_own.all()
    expected = classification_metrics(
        data.labels.numpy()[order[is_own]],
        probabilities(torch.cat(logits).numpy()[is_own]),
        data.class_names,
    )
    assert trainer.train_metrics()["auroc"] == pytest.approx(expected["auroc"], abs=1e-12)


def test_a_fold_whose_metrics_are_not_read_has_none(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[bool] = []
    add = OnlinePredictions.add

    def record(self: OnlinePredictions, logits: Tensor, rows: Tensor) -> None:
        add(self, logits, rows)
        added.append(self.metrics(data.class_names)["accuracy"] is not None)

    monkeypatch.setattr(OnlinePredictions, "add", record)
    train_fold(small_config(), data, 0)
    assert added
    assert not any(added)


def test_each_fold_epoch_has_them(data: TrainingData) -> None:
    record = Recorder()
    train(small_config(), data, record)
    for fold_epoch in record.fold_epochs:
        assert fold_epoch.train_metrics is not None
        assert tuple(fold_epoch.train_metrics) == TRAIN_METRICS
        assert all(value is None or 0 <= value <= 1 for value in fold_epoch.train_metrics.values())
        accuracy = fold_epoch.train_metrics["accuracy"]
        assert accuracy is not None
        assert np.isfinite(accuracy)
