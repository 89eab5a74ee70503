"""A trial over frozen features: its scores are those of the encoder with the trained head."""

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from raysearch.config.names import CLASSIFIERS, TRAINED_CLASSIFIERS
from raysearch.errors import SpaceError
from raysearch.metrics.classification import classification_metrics
from raysearch.models.dihedral import DihedralMean
from raysearch.training.augmentation import Augmentation
from raysearch.training.batches import epoch_order, normalized_batch
from raysearch.training.features import feature_store
from raysearch.training.features.extraction import Extractor
from raysearch.training.features.feature_request import feature_requests
from raysearch.training.features.feature_training import FeatureTrainer
from raysearch.training.features.fold_features import FoldFeatures
from raysearch.training.loop import (
    FoldListener,
    FoldState,
    probabilities,
    train_fold,
    validation_metrics,
)
from raysearch.training.precision_settings import PrecisionSettings
from raysearch.training.training_data import AuxiliaryRows, TrainingData
from support.frozen_networks import frozen_config, pretrained_file
from support.recorded_training import recorded_training, resumed_results, small_config


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, data: TrainingData) -> Path:
    """The file of the weights of a small network."""
    return pretrained_file(tmp_path_factory.mktemp("weights"), data)


@pytest.fixture
def stored(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingData:
    """The small data with an identity, so that features are stored, in a cache of the test."""
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    return replace(data, rows_id="rows")


@pytest.mark.parametrize("features", ["last", "multi"])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_encoder_with_the_head_scores_as_the_head_on_stored_features(
    stored: TrainingData, weights: Path, classifier: str, features: str
) -> None:
    config = frozen_config(
        weights, classifier=classifier, features=features, tta="dihedral", augmented_views=1
    )
    trained = train_fold(config, stored, 0)
    batch = normalized_batch(stored.gather(torch.from_numpy(trained.val_scores.rows)), stored.shape)
    with torch.inference_mode():
        logits = DihedralMean(trained.net).eval()(batch).numpy()
    assert np.allclose(logits, trained.val_scores.logits, atol=2e-3)
    labels = stored.labels.numpy()[trained.val_scores.rows]
    assert (logits.argmax(axis=1) == labels).mean() > 0.7


class EpochStates(FoldListener):
    """Records the state after each epoch of a fold."""

    def __init__(self) -> None:
        self.states: list[FoldState] = []

    def on_epoch(self, _epochs: int, state: Callable[[], FoldState]) -> None:
        """Record a copy of the state."""
        self.states.append(deepcopy(state()))


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_resumed_trial_equals_an_uninterrupted_one(
    stored: TrainingData, weights: Path, classifier: str
) -> None:
    config = frozen_config(weights, classifier=classifier, feature_passes=2, head_dropout=0.2)
    uninterrupted = recorded_training(config, stored).results()
    assert resumed_results(config, stored, 1) == uninterrupted
    states = EpochStates()
    trained = train_fold(config, stored, 0, states)
    resumed = train_fold(config, stored, 0, state=states.states[0])
    assert np.array_equal(resumed.val_scores.logits, trained.val_scores.logits)


def test_a_trial_reports_once_a_fold_after_all_its_epochs(
    stored: TrainingData, weights: Path
) -> None:
    config = replace(frozen_config(weights, classifier="linear"), epochs=3)
    results = recorded_training(config, stored).results()
    num_rows = [len(train_indices) for train_indices, _val_indices in stored.folds]
    assert [(result.fold, result.epoch) for result in results] == [(0, 3), (1, 6)]
    assert [result.samples for result in results] == [3 * num for num in num_rows]
    last = results[-1]
    assert last.objective == pytest.approx(
        np.mean([result.metrics[config.metric] for result in results])
    )
    trained = train_fold(config, stored, 1)
    metrics = validation_metrics(config, stored, trained.val_scores)
    assert last.metrics == metrics


def test_the_encoder_runs_once_for_all_trials_folds_and_epochs(
    stored: TrainingData, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded_training(frozen_config(weights), stored)
    compute = Extractor.compute

    def fail(*_arguments: int) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(Extractor, "compute", fail)
    recorded_training(frozen_config(weights, l2_penalty=1.0, patient_fraction=0.5), stored)
    recorded_training(frozen_config(weights, classifier="nearest_centroid"), stored)
    with pytest.raises(AssertionError, match="computed again"):
        recorded_training(frozen_config(weights, features="multi"), stored)
    monkeypatch.setattr(Extractor, "compute", compute)


def test_flips_and_turns_are_trained_on_if_the_augmentation_says_so(
    stored: TrainingData, weights: Path
) -> None:
    train_indices, _val_indices = stored.folds[0]
    for augment, num_views in (("none", 1), ("dihedral", 8)):
        features = FoldFeatures(frozen_config(weights, augment=augment), stored, 0)
        values = features.of(train_indices).view(len(train_indices), num_views, features.width)
        assert torch.equal(values[:, 0], features.with_one_view().of(train_indices))
        assert torch.equal(values, features.views(torch.from_numpy(train_indices), num_views))
        if num_views > 1:
            assert not torch.equal(values[:, 0], values[:, 1])


@pytest.mark.parametrize(("augment", "num_dihedral"), [("none", 1), ("dihedral", 8)])
def test_random_augmentations_are_trained_on_beside_flips_and_turns(
    stored: TrainingData, weights: Path, augment: str, num_dihedral: int
) -> None:
    train_indices, _val_indices = stored.folds[0]
    config = frozen_config(weights, augment=augment, tta="dihedral")
    augmented = frozen_config(
        weights, augment=augment, tta="dihedral", augmented_views=2, stain_jitter=0.3
    )
    plain, features = (FoldFeatures(each, stored, 0) for each in (config, augmented))
    values = features.of(train_indices).view(len(train_indices), num_dihedral + 2, -1)
    assert torch.equal(values[:, :num_dihedral].flatten(0, 1), plain.of(train_indices))
    others = values[:, num_dihedral:].unsqueeze(2)
    assert not (others == plain.views(torch.from_numpy(train_indices), 8).unsqueeze(1)).all(3).any()
    assert not torch.equal(values[:, -1], values[:, -2])
    rows = features.repeated(train_indices).view(len(train_indices), -1)
    assert torch.equal(rows, torch.from_numpy(train_indices)[:, None].expand_as(rows))


def test_augmented_views_are_turns_and_flips_if_nothing_else_is_random(
    stored: TrainingData, weights: Path
) -> None:
    rows = torch.arange(len(stored.labels))
    config = frozen_config(weights, augment="dihedral", augmented_views=3)
    features = FoldFeatures(config, stored, 0)
    views = features.views(rows, 8 + 3)
    distances = torch.cdist(views[:, 8:], views[:, :8])
    assert distances.min(dim=2).values.max() < 0.05 * distances.max()
    assert set(distances.argmin(dim=2).flatten().tolist()) == set(range(8))
    config = frozen_config(weights, augment="none", augmented_views=3)
    views = FoldFeatures(config, stored, 0).views(rows, 1 + 3)
    assert torch.equal(views, views[:, :1].expand_as(views))


def test_augmented_views_are_the_same_for_all_studies(
    stored: TrainingData, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "MAX_CHUNK_ROWS", 100)
    config = frozen_config(weights, augmented_views=2, color_jitter=0.2)
    train_indices, _val_indices = stored.folds[0]
    values = FoldFeatures(config, stored, 0).of(train_indices)
    monkeypatch.setenv("RAYSEARCH_CACHE", f"{os.environ['RAYSEARCH_CACHE']}2")
    other = replace(config, seed=config.seed + 1)
    assert torch.equal(FoldFeatures(other, stored, 0).of(train_indices), values)
    stronger = frozen_config(weights, augmented_views=2, color_jitter=0.3)
    requests = [feature_requests(each, stored)[0] for each in (config, other, stronger)]
    assert requests[0].key == requests[1].key != requests[2].key


def test_patches_are_augmented_in_float32(
    stored: TrainingData, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    augment = Augmentation.__call__
    autocast: list[bool] = []

    def recorded(self: Augmentation, batch: Tensor, generator: torch.Generator) -> Tensor:
        autocast.append(torch.is_autocast_enabled("cpu"))
        return augment(self, batch, generator)

    monkeypatch.setattr(Augmentation, "__call__", recorded)
    config = frozen_config(weights, augmented_views=1, rotation=10.0)
    config = replace(config, precision_settings=PrecisionSettings("bfloat16"))
    FoldFeatures(config, stored, 0)
    assert set(autocast) == {False}


def test_neighbors_are_the_patches_without_flips_and_turns(
    stored: TrainingData, weights: Path
) -> None:
    config = frozen_config(weights, classifier="nearest_neighbors", augment="dihedral")
    trainer = FeatureTrainer(config, stored, 0)
    trainer.train_epoch(0)
    assert len(trainer.state().model["rows"]) == len(stored.folds[0][0])


@pytest.mark.parametrize(
    "hparams",
    [
        {"classifier": "logistic_regression"},
        {"classifier": "nearest_centroid"},
    ],
)
def test_the_metrics_of_training_rows_are_those_of_the_fitted_classifier(
    stored: TrainingData, weights: Path, hparams: dict[str, str | float]
) -> None:
    config = frozen_config(weights, augment="none", **hparams)
    trainer = FeatureTrainer(config, stored, 0)
    trainer.train_epoch(0)
    trainer.val_indices = stored.folds[0][0]
    expected = validation_metrics(config, stored, trainer.validate(use_tta=False))
    metrics = trainer.train_metrics()
    assert metrics == pytest.approx({name: expected[name] for name in metrics}, abs=1e-9)
    assert metrics["auroc"] is not None


@pytest.mark.parametrize("classifier", TRAINED_CLASSIFIERS)
def test_the_metrics_of_training_rows_are_of_the_predictions_of_the_last_pass(
    stored: TrainingData, weights: Path, classifier: str
) -> None:
    config = frozen_config(
        weights, augment="none", classifier=classifier, learning_rate=0.05, feature_passes=2
    )
    trainer = FeatureTrainer(config, stored, 0)
    last_layer = trainer.trained_model.get_submodule("head.last_layer")
    all_logits: list[Tensor] = []
    last_layer.register_forward_hook(lambda *call: all_logits.append(call[2].detach()))
    trainer.train_epoch(0)
    logits = torch.cat(all_logits).numpy()
    train_indices = stored.folds[0][0]
    num_rows = len(train_indices)
    assert len(logits) == 2 * num_rows
    metrics = []
    for number in range(2):
        order = epoch_order(np.arange(num_rows), config.seed, 0, number)
        labels = stored.labels.numpy()[train_indices[order]]
        scores = probabilities(logits[number * num_rows : (number + 1) * num_rows])
        metrics.append(classification_metrics(labels, scores, stored.class_names))
    train_metrics = trainer.train_metrics()
    first, last = ({name: each[name] for name in train_metrics} for each in metrics)
    assert train_metrics == pytest.approx(last, abs=1e-9)
    assert train_metrics != pytest.approx(first, abs=1e-3)
    trainer.train_epoch(1, with_metrics=False)
    assert set(trainer.train_metrics().values()) == {None}


def test_auxiliary_rows_are_trained_on_with_their_weight(
    stored: TrainingData, weights: Path
) -> None:
    pixels = stored.pixels[stored.labels == 0][:20]
    auxiliary = AuxiliaryRows(pixels, torch.ones(len(pixels), dtype=torch.int64), "others")
    extended = replace(stored, auxiliary=(auxiliary,))
    without = recorded_training(frozen_config(weights), stored).results()
    ignored = frozen_config(weights, auxiliary_weight=0.0)
    assert recorded_training(ignored, extended).results() == without
    weighted = recorded_training(frozen_config(weights, auxiliary_weight=5.0), extended).results()
    assert [each.objective for each in weighted] != [each.objective for each in without]


def test_a_preprocessing_that_is_fitted_to_a_fold_is_rejected(
    stored: TrainingData, weights: Path
) -> None:
    with pytest.raises(SpaceError, match="preprocess macenko is fitted to each fold"):
        FeatureTrainer(frozen_config(weights, preprocess="macenko"), stored, 0)


def test_a_network_with_random_weights_is_rejected(stored: TrainingData) -> None:
    with pytest.raises(SpaceError, match="adaptation frozen: cnn has no pretrained weights"):
        FeatureTrainer(small_config(adaptation="frozen"), stored, 0)


def test_features_after_a_filter_are_others(stored: TrainingData, weights: Path) -> None:
    plain = recorded_training(frozen_config(weights), stored).results()
    filtered = recorded_training(frozen_config(weights, preprocess="gaussian"), stored).results()
    assert [each.objective for each in filtered] != [each.objective for each in plain]
