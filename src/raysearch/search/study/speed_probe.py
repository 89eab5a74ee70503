"""Measures how fast a configuration trains and validates on this machine, by a few batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.names import FROZEN
from raysearch.data.files import Folder
from raysearch.data.parquet_files import filter_rows
from raysearch.data.shards.rows import View, row_columns
from raysearch.data.shards.shard_files import open_shard, pixel_chunks
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.models import is_bag_shape, timed_shape
from raysearch.search.study.speed_cache import NetworkSpeed
from raysearch.training.features.extraction import BATCH_SIZE as EXTRACTION_BATCH_SIZE
from raysearch.training.features.extraction import Extractor, PatchFeatures
from raysearch.training.features.feature_request import FeatureRequest
from raysearch.training.features.feature_training import FeatureTrainer
from raysearch.training.fold_training import VALIDATION_BATCH_SIZE, FoldTrainer
from raysearch.training.precision_settings import PrecisionSettings
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

# The schedules need a number of epochs; the probe ends long before it.
MAX_EPOCHS = 10_000
# Patches of the probe; batches repeat them.
NUM_PATCHES = 512
# Slides of the probe.
NUM_BAGS = 16
# The first batches have so many rows: they show how many rows the time suffices for.
NUM_FIRST_ROWS = 8
# Of the time of a configuration, validation gets this fraction.
VALIDATION_FRACTION = 0.25


@dataclass(frozen=True)
class SampleAddress:
    """The patches of a study, of which a probe reads a few.

    Args:
        data: Address of the shards.
        view: The rows that the study sees.
    """

    data: str
    view: View


def read_sample(address: SampleAddress) -> NDArray[np.uint8]:
    """Read `NUM_PATCHES` visible patches, shape (patches, H*W*3), from the first row groups.

    Fewer patches are repeated.

    Raises:
        DataError: If the shards cannot be read.
    """
    folder = Folder(address.data)
    manifest = read_manifest(folder)
    if manifest.is_bags:
        return _random_features(manifest.shape)
    parts: list[NDArray[np.uint8]] = []
    columns = [*row_columns(manifest), "pixels"]
    for shard in manifest.shards:
        with open_shard(folder, shard, manifest) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=columns)
                visible = filter_rows(table, address.view.mask(table, manifest))
                parts += [
                    chunk[:NUM_PATCHES] for chunk in pixel_chunks(visible, manifest.patch_bytes)
                ]
                if sum(map(len, parts)) >= NUM_PATCHES:
                    break
        if sum(map(len, parts)) >= NUM_PATCHES:
            break
    pixels = np.concatenate(parts)
    return pixels[np.arange(NUM_PATCHES) % len(pixels)]


def _random_features(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return random features of `NUM_BAGS` slides, float16 as bytes, shape (patches, 2*D)."""
    height, width, _channels = timed_shape(shape)
    values = np.random.default_rng(0).normal(size=(NUM_BAGS * height, width))
    return values.astype(np.float16).view(np.uint8)


def sample_data(
    pixels: NDArray[np.uint8],
    shape: tuple[int, int, int],
    class_names: tuple[str, ...],
    device: str,
) -> TrainingData:
    """One fold that trains on and validates all `pixels`, with labels of all classes in turn."""
    bag_ends = None
    if is_bag_shape(shape):
        bag_ends = np.arange(1, NUM_BAGS + 1) * timed_shape(shape)[0]
        device_pixels = torch.from_numpy(pixels)
    else:
        device_pixels = torch.from_numpy(pixels).to(device)
    rows = np.arange(len(pixels) if bag_ends is None else NUM_BAGS)
    return TrainingData(
        device_pixels,
        torch.from_numpy(rows % len(class_names)).to(device),
        rows.astype(np.str_),
        shape,
        class_names,
        ((rows, rows),),
        bag_ends=bag_ends,
    )


def measure_speed(
    hparams: dict[str, Value],
    metric: str,
    precision: PrecisionSettings,
    data: TrainingData,
    max_seconds: float,
) -> NetworkSpeed:
    """Measure a configuration by the code that a trial runs.

    Args:
        hparams: The configuration.
        metric: The objective.
        precision: Its precision and memory format.
        data: Patches of the study.
        max_seconds: The time that the measurement takes, unless a few rows take longer.
    """
    config = TrainConfig(hparams, MAX_EPOCHS, metric, 0, precision)
    if config.params.adaptation == FROZEN:
        return _measure_frozen(config, data, max_seconds)
    start = time.perf_counter()
    trainer = FoldTrainer(config, data, 0)
    preprocess_s = 0.0
    if config.params.preprocess != "none":
        preprocess_s = (time.perf_counter() - start) / len(data.labels)
    steps = _Steps(trainer)
    train_s = _seconds_per_row(
        steps.train, config.batch_size, (1 - VALIDATION_FRACTION) * max_seconds
    )
    validation_s = _seconds_per_row(
        steps.validate, min(VALIDATION_BATCH_SIZE, NUM_PATCHES), VALIDATION_FRACTION * max_seconds
    )
    return NetworkSpeed(train_s, validation_s, preprocess_s)


def _measure_frozen(config: TrainConfig, data: TrainingData, max_seconds: float) -> NetworkSpeed:
    """Measure the features of a frozen network, and its classifier over as many random features."""
    request = FeatureRequest(config, data.pixels, data.shape, data.rows_id)
    extractor = Extractor(request)
    width = extractor.compute(0, 1).values.shape[2]

    def extract(num_rows: int) -> None:
        for start in range(0, num_rows, NUM_PATCHES):
            extractor.compute(0, min(NUM_PATCHES, num_rows - start))

    features_s = _seconds_per_row(extract, EXTRACTION_BATCH_SIZE, max_seconds)
    shape = (NUM_PATCHES, request.num_views + request.num_augmented_views, width)
    features = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    trainer = FeatureTrainer(config, data, 0, [PatchFeatures(features, 0.0)])
    train_s = _seconds(lambda _num_rows: trainer.train_epoch(0), NUM_PATCHES) / NUM_PATCHES
    validation_s = (
        _seconds(lambda _num_rows: trainer.validate(use_tta=False), NUM_PATCHES) / NUM_PATCHES
    )
    return NetworkSpeed(train_s, validation_s, 0.0, features_s)


class _Steps:
    """Trains and validates parts of a fold."""

    def __init__(self, trainer: FoldTrainer) -> None:
        self._trainer, self._epoch = trainer, 0
        self._rows = trainer.epoch_indices

    def train(self, num_rows: int) -> None:
        """Train on so many rows."""
        self._trainer.epoch_indices = self._rows[np.arange(num_rows) % len(self._rows)]
        self._trainer.train_epoch(self._epoch)
        self._epoch += 1

    def validate(self, num_rows: int) -> None:
        """Validate so many rows, one view of each."""
        self._trainer.val_indices = self._rows[np.arange(num_rows) % len(self._rows)]
        self._trainer.validate(use_tta=False)


def _seconds_per_row(run: Callable[[int], object], batch_size: int, max_seconds: float) -> float:
    """The seconds per row of `run`, in batches of `batch_size` if the time suffices for one."""
    num_first = min(NUM_FIRST_ROWS, batch_size)
    run(num_first)  # it allocates memory and compiles kernels
    first_s = _seconds(run, num_first)
    if first_s * batch_size / num_first > max_seconds:
        return first_s / num_first
    batch_s = _seconds(run, batch_size)
    num_batches = int(min(20, max(1, (max_seconds - batch_s) // max(batch_s, 1e-6))))
    return _seconds(run, num_batches * batch_size) / (num_batches * batch_size)


def _seconds(run: Callable[[int], object], num_rows: int) -> float:
    start = time.perf_counter()
    run(num_rows)
    return time.perf_counter() - start
