"""Trainings on bags: which patches are drawn, and that they learn and resume."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.names import BAG_ARCHITECTURES
from raysearch.training.bag_batches import bag_batch
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData
from support.recorded_training import recorded_training, resumed_results

WIDTH, NUM_SLIDES, SHIFT = 6, 60, 6.0


@pytest.fixture(scope="module")
def slides() -> TrainingData:
    """Slides of two classes; those of the second have some shifted patches."""
    rng = np.random.default_rng(0)
    labels = np.arange(NUM_SLIDES) % 2
    bags = [rng.normal(size=(int(rng.integers(10, 30)), WIDTH)) for _slide in labels]
    for bag, label in zip(bags, labels, strict=True):
        bag[: len(bag) // 3, 0] += SHIFT * label
    values = np.concatenate(bags).astype(np.float16)
    rows = np.arange(NUM_SLIDES)
    folds = tuple((rows[rows // 2 % 2 != fold], rows[rows // 2 % 2 == fold]) for fold in (0, 1))
    return TrainingData(
        pixels=torch.from_numpy(values.view(np.uint8)),
        labels=torch.from_numpy(labels),
        patients=rows.astype(np.str_),
        shape=(20, WIDTH, 1),
        class_names=("normal", "tumor"),
        folds=folds,
        bag_ends=np.cumsum([len(bag) for bag in bags]),
    )


def config(**hparams: Value) -> TrainConfig:
    values: dict[str, Value] = {
        "architecture": "abmil",
        "embedding_units": 16,
        "attention_units": 8,
        "batch_size": 8,
        "learning_rate": 1e-2,
        **hparams,
    }
    if values["architecture"] != "abmil":
        del values["attention_units"]
    return TrainConfig(values, epochs=4, metric="auroc", seed=3)


def test_a_batch_has_the_features_of_its_slides_and_nan_beside_them(slides: TrainingData) -> None:
    assert slides.bag_ends is not None
    rows = torch.tensor([3, 0])
    batch = bag_batch(slides.pixels, slides.bag_ends, rows)
    values = slides.pixels.view(torch.float16).float()
    starts = [0, *slides.bag_ends.tolist()]
    for number, row in enumerate(rows.tolist()):
        bag = values[starts[row] : starts[row + 1]]
        assert torch.equal(batch[number, 0, : len(bag)], bag)
        assert batch[number, 0, len(bag) :].isnan().all()


def test_so_many_different_patches_of_a_slide_are_drawn(slides: TrainingData) -> None:
    assert slides.bag_ends is not None
    rows = torch.arange(5)
    generator = torch.Generator().manual_seed(0)
    drawn = [bag_batch(slides.pixels, slides.bag_ends, rows, 7, generator) for _draw in range(2)]
    assert drawn[0].shape == (5, 1, 7, WIDTH)
    assert not torch.equal(drawn[0], drawn[1])
    whole = bag_batch(slides.pixels, slides.bag_ends, rows[:1])[0, 0]
    is_patch = [any(torch.equal(patch, other) for other in whole) for patch in drawn[0][0, 0]]
    assert all(is_patch)
    assert len(torch.unique(drawn[0][0, 0], dim=0)) == 7


def test_a_training_draws_patches_and_a_validation_reads_all(slides: TrainingData) -> None:
    trainer = FoldTrainer(config(bag_size=4), slides, 0)
    rows = torch.from_numpy(slides.folds[0][0][:3])
    assert trainer.load_batch(rows, torch.Generator()).shape[2] == 4
    assert trainer.load_batch(rows).shape[2] > 4


@pytest.mark.parametrize("architecture", [*BAG_ARCHITECTURES, "benchmark"])
def test_each_network_learns_and_a_resumed_trial_equals_an_uninterrupted_one(
    slides: TrainingData, architecture: str
) -> None:
    settings = config(architecture=architecture, bag_size=12)
    if architecture == "benchmark":
        settings = replace(
            settings, hparams={"architecture": "benchmark", "learning_rate": 0.1, "batch_size": 8}
        )
    settings = replace(settings, epochs=10)
    results = recorded_training(settings, slides).results()
    assert results[-1].objective > 0.7
    assert resumed_results(settings, slides, 5) == results
