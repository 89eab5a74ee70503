import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysearch.training.batches import split_batches
from raysearch.training.checkpoint import unpack_checkpoint
from raysearch.training.failures import TrainingFailedError
from raysearch.training.fold_loss import FoldLoss
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.loop import train
from raysearch.training.training_data import TrainingData
from support.auxiliary_rows import with_auxiliary
from support.recorded_training import Recorder, recorded_training, small_config


def test_balanced_sampling_uses_no_class_weights(data: TrainingData) -> None:
    trainer = FoldTrainer(small_config(balanced_sampling=True), data, 0)
    assert trainer.loss.class_weight is None
    order = trainer.row_order(0)
    assert np.ptp(np.bincount(data.labels.numpy()[order])) <= 1
    assert len(order) == len(trainer.train_indices)


def test_class_weights_are_inverse_frequencies_with_mean_one_over_the_rows(
    data: TrainingData,
) -> None:
    weights = FoldTrainer(small_config(), data, 0).loss.class_weight
    assert weights is not None
    labels = data.labels[torch.from_numpy(data.folds[0][0])]
    assert float(weights[labels].mean()) == pytest.approx(1.0)
    assert FoldTrainer(small_config(class_weights=False), data, 0).loss.class_weight is None


def test_the_loss_of_a_mixup_batch_is_the_weighted_sum_of_two_losses(data: TrainingData) -> None:
    trainer = FoldTrainer(small_config(), data, 0)
    trainer.model.eval()
    rows = torch.from_numpy(trainer.train_indices[:20])
    batch, partners = trainer.load_batch(rows), rows.roll(1)
    loss = trainer.backward(batch, [(rows, 0.3), (partners, 0.7)])
    logits = trainer.model(batch)
    expected = 0.3 * trainer.loss.mean(logits, rows) + 0.7 * trainer.loss.mean(logits, partners)
    assert torch.allclose(loss, expected)


def test_the_average_of_the_weights_is_validated_instead_of_the_last_weights(
    data: TrainingData,
) -> None:
    trainer = FoldTrainer(small_config(ema_decay=0.9), data, 0)
    trainer.train_epoch(0)
    assert trainer.trained_model is not trainer.model
    logits = trainer.validate(use_tta=False).logits
    with torch.inference_mode():
        batch = trainer.load_batch(torch.from_numpy(trainer.val_indices))
        last_logits = trainer.model.eval()(batch)
    assert not np.allclose(logits, last_logits.numpy(), atol=1e-4)


def test_only_the_end_of_a_fold_is_validated_with_test_time_augmentation(
    data: TrainingData,
) -> None:
    config = small_config(tta="dihedral")
    without_tta = recorded_training(small_config(), data)
    with_tta = recorded_training(config, data)
    assert np.array_equal(without_tta.val_scores[0].logits, with_tta.val_scores[0].logits)
    trainer = FoldTrainer(config, data, 0)
    trainer.load_state(unpack_checkpoint(with_tta.checkpoints[1]).trainer)
    batch = trainer.load_batch(torch.from_numpy(trainer.val_indices))
    views = [
        torch.rot90(base, quarter_turns, (2, 3))
        for base in (batch, batch.flip(3))
        for quarter_turns in range(4)
    ]
    trainer.model.eval()
    with torch.inference_mode():
        mean = torch.stack([trainer.model(view) for view in views]).mean(0).numpy()
    assert np.allclose(with_tta.val_scores[1].logits, mean, atol=1e-5)
    assert not np.allclose(without_tta.val_scores[1].logits, mean, atol=1e-3)


@pytest.mark.parametrize("tta", ["none", "dihedral"])
def test_the_inference_time_is_that_of_one_view(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch, tta: str
) -> None:
    now = 0.0

    class SlowNet(nn.Module):
        """A network that takes two seconds a batch."""

        def forward(self, batch: Tensor) -> Tensor:
            nonlocal now
            now += 2.0
            return batch.mean(dim=(2, 3))[:, :2]

    monkeypatch.setattr("raysearch.training.fold_training.VALIDATION_BATCH_SIZE", 4)
    monkeypatch.setattr("raysearch.training.fold_training.time.perf_counter", lambda: now)
    train_indices, val_indices = data.folds[0]
    fold = (train_indices, val_indices[:20])
    trainer = FoldTrainer(small_config(tta=tta), replace(data, folds=(fold,)), 0)
    trainer.model = SlowNet()
    for use_tta in (False, True):
        inference_ms = trainer.validate(use_tta=use_tta).inference_ms
        assert inference_ms == pytest.approx(2000 * 5 / 20)
    assert now == 2.0 * 5 * (2 if tta == "none" else 1 + 8)


def test_auxiliary_rows_are_trained_on_and_never_validated(data: TrainingData) -> None:
    trainer = FoldTrainer(small_config(), with_auxiliary(data), 0)
    assert len(trainer.epoch_indices) == len(data.folds[0][0]) + 50
    assert np.array_equal(trainer.val_indices, data.folds[0][1])
    assert trainer.validate(use_tta=False).rows.max() < len(data.labels)


def test_auxiliary_rows_of_weight_zero_change_nothing(data: TrainingData) -> None:
    extended = with_auxiliary(data)
    without = recorded_training(small_config(), data).results()
    assert recorded_training(small_config(auxiliary_weight=0.0), extended).results() == without
    assert recorded_training(small_config(auxiliary_weight=0.5), extended).results() != without


@pytest.mark.parametrize("class_weights", [True, False])
def test_an_auxiliary_row_counts_by_its_weight(data: TrainingData, class_weights: bool) -> None:
    extended = with_auxiliary(data)
    config = small_config(auxiliary_weight=0.25, class_weights=class_weights)
    trainer = FoldTrainer(config, extended, 0)
    rows = torch.tensor([0, 5, 9, len(data.labels) + 3, len(data.labels) + 45])
    logits = torch.randn(5, 2, generator=torch.Generator().manual_seed(3))
    labels, weights = trainer.loss.labels[rows], trainer.loss.class_weight
    row_weights = torch.tensor([1, 1, 1, 0.25, 0.25])
    label_weights = torch.ones(5) if weights is None else weights[labels]
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none") * label_weights
    num_own = len(trainer.train_indices)
    num_auxiliary = len(trainer.epoch_indices) - num_own
    mean_weight = (num_own + 0.25 * num_auxiliary) / (num_own + num_auxiliary)
    expected = (losses * row_weights).sum() / label_weights.sum() / mean_weight
    assert torch.allclose(trainer.loss.mean(logits, rows), expected)
    auxiliary_only = trainer.loss.mean(logits[3:], rows[3:])
    criterion = torch.nn.CrossEntropyLoss(weight=weights)
    assert torch.allclose(auxiliary_only, criterion(logits[3:], labels[3:]) * 0.25 / mean_weight)
    config = small_config(auxiliary_weight=1.0, class_weights=class_weights)
    unweighted = FoldTrainer(config, extended, 0)
    assert torch.allclose(unweighted.loss.mean(logits, rows), criterion(logits, labels))


@pytest.mark.parametrize("accumulate", [2, 3, 4, 100])
@pytest.mark.parametrize("class_weights", [True, False])
@pytest.mark.parametrize("auxiliary_weight", [0.0, 0.25])
def test_micro_batches_have_the_gradient_of_the_batch(
    data: TrainingData, accumulate: int, class_weights: bool, auxiliary_weight: float
) -> None:
    config = small_config(class_weights=class_weights, auxiliary_weight=auxiliary_weight)
    extended = with_auxiliary(data)
    reference = FoldTrainer(config, extended, 0)
    accumulated = FoldTrainer(replace(config, accumulate=accumulate), extended, 0)
    rows = torch.from_numpy(reference.epoch_indices[-33:])
    losses = []
    for trainer in (reference, accumulated):
        # Batch normalization in training mode would differ between micro-batches.
        trainer.model = trainer.model.double().eval()
        batch = trainer.load_batch(rows).double()
        losses.append(trainer.backward(batch, [(rows, 0.75), (rows.flip(0), 0.25)]))
    assert torch.allclose(losses[0], losses[1])
    pairs = list(zip(reference.model.parameters(), accumulated.model.parameters(), strict=True))
    assert pairs
    for expected, parameter in pairs:
        assert expected.grad is not None
        assert parameter.grad is not None
        assert torch.allclose(expected.grad, parameter.grad, rtol=1e-5, atol=1e-7)


def test_a_micro_batch_has_at_least_two_rows(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    mean_loss = FoldLoss.mean

    def recording_loss(fold_loss: FoldLoss, logits: Tensor, rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return mean_loss(fold_loss, logits, rows)

    monkeypatch.setattr(FoldLoss, "mean", recording_loss)
    config = replace(small_config(batch_size=5), epochs=1, accumulate=4)
    record = recorded_training(config, data)
    assert set(sizes) <= {2, 3}
    assert all(math.isfinite(fold_epoch.loss) for fold_epoch in record.fold_epochs)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_batch_without_a_finite_loss_ends_the_trial_at_the_end_of_its_epoch(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    mean_loss, sizes = FoldLoss.mean, list[int]()

    def failing_loss(fold_loss: FoldLoss, logits: Tensor, rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        loss = mean_loss(fold_loss, logits, rows)
        return loss + value if len(sizes) == 2 else loss

    monkeypatch.setattr(FoldLoss, "mean", failing_loss)
    record = Recorder()
    with pytest.raises(TrainingFailedError, match="nan-loss"):
        train(small_config(), data, record)
    assert not record.fold_epochs
    assert len(sizes) == len(split_batches(torch.from_numpy(data.folds[0][0]), 32))
