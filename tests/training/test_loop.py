from dataclasses import replace

import pytest
import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.training.components import SCHEDULES
from raysearch.training.failures import TrainingFailedError
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.loop import FoldEpoch, train
from raysearch.training.training_data import TrainingData
from support.auxiliary_rows import with_auxiliary
from support.recorded_training import (
    Recorder,
    recorded_training,
    resumed_results,
    small_config,
)


def test_a_trial_trains_a_new_model_per_fold_and_reports_each_fold_epoch(
    data: TrainingData,
) -> None:
    record = recorded_training(small_config(), data)
    numbers = [(fold_epoch.epoch, fold_epoch.fold) for fold_epoch in record.fold_epochs]
    assert numbers == [(1, 0), (2, 0), (3, 1), (4, 1)]
    first, last_of_fold, _, last = record.fold_epochs
    fold_objectives = [last_of_fold.metrics["auroc"], last.metrics["auroc"]]
    assert fold_objectives[0] is not None
    assert fold_objectives[1] is not None
    assert first.objective == first.metrics["auroc"]
    mean = (fold_objectives[0] + fold_objectives[1]) / 2
    assert last.objective == pytest.approx(mean, abs=1e-15)
    for fold_epoch, val_scores in zip(record.fold_epochs, record.val_scores, strict=True):
        assert (val_scores.rows == data.folds[fold_epoch.fold][1]).all()
        assert val_scores.logits.shape == (len(val_scores.rows), 2)


def test_the_same_trial_has_the_same_results(data: TrainingData) -> None:
    config = small_config(optimizer="sgd", momentum=0.9, dropout=0.2)
    results = recorded_training(config, data).results()
    torch.rand(7)
    assert recorded_training(config, data).results() == results
    other_results = recorded_training(replace(config, seed=6), data).results()
    assert other_results != results


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_resumed_trial_has_the_results_of_an_uninterrupted_one(
    data: TrainingData, stop_after: int, schedule: str
) -> None:
    config = small_config(schedule=schedule, dropout=0.1)
    results = recorded_training(config, data).results()
    assert resumed_results(config, data, stop_after) == results


ALL_RANDOM_PARTS: dict[str, Value] = {
    "loss": "focal",
    "balanced_sampling": True,
    "mixup_alpha": 0.4,
    "ema_decay": 0.95,
    "gradient_clip_norm": 1.0,
    "dropout": 0.1,
    "rotation": 20.0,
    "stain_jitter": 0.1,
    "cutout": 0.2,
}


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_trial_with_all_random_parts_is_resumed_without_a_difference(
    data: TrainingData, stop_after: int
) -> None:
    config = small_config(**ALL_RANDOM_PARTS)
    results = recorded_training(config, data).results()
    assert resumed_results(config, data, stop_after) == results


def test_a_loss_that_is_not_finite_ends_the_trial_with_the_reason(data: TrainingData) -> None:
    config = small_config(optimizer="sgd", learning_rate=100.0, weight_decay=10.0, batch_size=4)
    with pytest.raises(TrainingFailedError, match="nan"):
        train(config, data, Recorder())


def test_a_network_is_better_than_chance(data: TrainingData) -> None:
    record = recorded_training(replace(small_config(width=8), epochs=8), data)
    assert record.fold_epochs[-1].objective > 0.6


@pytest.mark.parametrize(
    "hparams", [{}, {"balanced_sampling": True}, {"mixup_alpha": 0.4}, {"ema_decay": 0.9}]
)
@pytest.mark.parametrize("has_auxiliary", [False, True])
def test_the_samples_of_a_fold_epoch_are_the_rows_of_its_batches(
    data: TrainingData,
    monkeypatch: pytest.MonkeyPatch,
    hparams: dict[str, Value],
    has_auxiliary: bool,
) -> None:
    batch_sizes: list[int] = []
    backward = FoldTrainer.backward

    def recording_backward(
        trainer: FoldTrainer, batch: torch.Tensor, targets: list[tuple[torch.Tensor, float]]
    ) -> torch.Tensor:
        batch_sizes.append(len(batch))
        return backward(trainer, batch, targets)

    samples: list[int | None] = []

    def compare_samples(fold_epoch: FoldEpoch, *_scores_and_state: object) -> None:
        assert fold_epoch.samples == sum(batch_sizes)
        samples.append(fold_epoch.samples)
        batch_sizes.clear()

    monkeypatch.setattr(FoldTrainer, "backward", recording_backward)
    train(small_config(**hparams), with_auxiliary(data) if has_auxiliary else data, compare_samples)
    num_auxiliary = 50 if has_auxiliary else 0
    train_rows = [len(train_indices) + num_auxiliary for train_indices, _ in data.folds]
    assert samples == [train_rows[0]] * 2 + [train_rows[1]] * 2
