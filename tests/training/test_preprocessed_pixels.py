from dataclasses import replace

import pytest
import torch
from torch import Tensor

from raysearch.models.preprocessing import PREPROCESSINGS, StainNormalization
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.preprocessed_pixels import build_preprocessing, preprocess_fold
from raysearch.training.training_data import AuxiliaryRows, TrainingData
from support.recorded_training import recorded_training, resumed_results, small_config

METHODS = [name for name in PREPROCESSINGS if name != "none"]
FITTED_METHODS = [
    name
    for name in PREPROCESSINGS
    if isinstance(build_preprocessing({"preprocess": name}), StainNormalization)
]


def test_without_preprocessing_nothing_is_copied(data: TrainingData) -> None:
    assert preprocess_fold(small_config(), data, 0)[1] is data


@pytest.mark.parametrize("method", METHODS)
def test_all_rows_that_a_fold_uses_are_preprocessed(data: TrainingData, method: str) -> None:
    auxiliary = (AuxiliaryRows(data.pixels.flip(0)[:30], data.labels.flip(0)[:30]),)
    before = data.pixels.clone()
    trainer = FoldTrainer(small_config(preprocess=method), replace(data, auxiliary=auxiliary), 1)
    patches = data.pixels.view(-1, *data.shape)
    preprocessed = trainer.preprocessing(patches).reshape(len(data.pixels), -1)
    assert torch.equal(trainer.data.pixels, preprocessed)
    assert torch.equal(trainer.data.auxiliary[0].pixels, preprocessed.flip(0)[:30])
    assert torch.equal(data.pixels, before)
    assert not torch.equal(preprocessed, before)


@pytest.mark.parametrize("method", FITTED_METHODS)
def test_validation_rows_and_auxiliary_rows_do_not_change_the_fitted_stain(
    data: TrainingData, method: str
) -> None:
    train_indices, val_indices = data.folds[0]
    auxiliary = (AuxiliaryRows(data.pixels[:20] // 2, data.labels[:20]),)

    def fit(pixels: Tensor, auxiliary: tuple[AuxiliaryRows, ...] = ()) -> FoldTrainer:
        changed_data = replace(data, pixels=pixels, auxiliary=auxiliary)
        return FoldTrainer(small_config(preprocess=method), changed_data, 0)

    trainer = fit(data.pixels)
    target = trainer.preprocessing.state_dict()["target"]
    assert target.isfinite().all()
    inverted = data.pixels.clone()
    inverted[val_indices] = 255 - inverted[val_indices]
    for same_fit in (fit(inverted), fit(data.pixels, auxiliary)):
        assert torch.equal(same_fit.preprocessing.state_dict()["target"], target)
        pixels = same_fit.data.pixels[train_indices]
        assert torch.equal(pixels, trainer.data.pixels[train_indices])
    darkened = data.pixels.clone()
    darkened[train_indices] = darkened[train_indices] // 2
    assert not torch.equal(fit(darkened).preprocessing.state_dict()["target"], target)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_resumed_trial_has_the_same_preprocessing(data: TrainingData, stop_after: int) -> None:
    config = small_config(preprocess="macenko")
    results = recorded_training(config, data).results()
    assert resumed_results(config, data, stop_after) == results
    assert recorded_training(small_config(), data).results() != results
