"""The measurement of the speed of a configuration by a few batches."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import View
from raysearch.search.study.speed_cache import NetworkSpeed
from raysearch.search.study.speed_probe import (
    NUM_PATCHES,
    SampleAddress,
    measure_speed,
    read_sample,
    sample_data,
)
from raysearch.training.precision_settings import PrecisionSettings
from raysearch.training.training_data import TrainingData

NUM_MEASUREMENTS = 4


def test_the_sample_has_real_patches_and_none_of_the_held_out_patients(shards: Path) -> None:
    patches = load_patches(str(shards))
    held_out = (str(patches.patients[0]),)
    sample = read_sample(SampleAddress(str(shards), View(held_out=held_out)))
    assert sample.shape == (NUM_PATCHES, patches.pixels.shape[1])
    hidden = {row.tobytes() for row in patches.pixels[patches.patients == held_out[0]]}
    stored = {row.tobytes() for row in np.asarray(patches.pixels)}
    sampled = {row.tobytes() for row in sample}
    assert sampled <= stored
    assert not sampled & hidden


def smallest_figures(width: int, preprocess: str, data: TrainingData) -> NetworkSpeed:
    """The smallest figures of several measurements, which other programs disturb the least."""
    speeds = [
        measure_speed(
            {"architecture": "cnn", "width": width, "batch_size": 16, "preprocess": preprocess},
            "auroc",
            PrecisionSettings(),
            data,
            0.2,
        )
        for _measurement in range(NUM_MEASUREMENTS)
    ]
    return NetworkSpeed(*map(min, zip(*map(astuple, speeds), strict=True)))


@pytest.mark.parametrize("preprocess", ["none", "gaussian"])
def test_a_larger_network_takes_longer(shards: Path, preprocess: str) -> None:
    sample = read_sample(SampleAddress(str(shards), View()))
    data = sample_data(sample, (50, 50, 3), ("a", "b"), "cpu")
    speeds = [smallest_figures(width, preprocess, data) for width in (2, 32)]
    assert speeds[0].train_s < speeds[1].train_s
    assert speeds[0].validation_s < speeds[1].validation_s
    assert all((speed.preprocess_s > 0) == (preprocess != "none") for speed in speeds)
    # Training computes both passes, validation one.
    assert all(speed.validation_s < speed.train_s for speed in speeds)
