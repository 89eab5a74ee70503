"""Preprocesses the pixels of a fold once, before its first epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysearch.config.custom_components import custom_component
from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.hyperparameters import resolve
from raysearch.models import PatchShape
from raysearch.models.preprocessing import PREPROCESSINGS, CustomPreprocessing, Preprocessing
from raysearch.training.seeds import key
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

MAX_FIT_PATCHES = 256
BATCH_SIZE = 128


def build_preprocessing(hparams: Hparams) -> Preprocessing:
    """Build the preprocessing of `hparams`, not fitted yet."""
    params = resolve(hparams)
    custom = custom_component("preprocess", params)
    if custom is not None:
        return CustomPreprocessing(custom())
    return PREPROCESSINGS[params.preprocess](**params.arguments_of("preprocess"))


@torch.no_grad()
def preprocess_fold(
    config: TrainConfig, data: TrainingData, fold: int
) -> tuple[Preprocessing, TrainingData]:
    """Fit the preprocessing to a fold, and transform the pixels that the fold uses.

    The preprocessing is fitted to a sample of the fold's training rows, without auxiliary rows. It
    is only applied to the validation rows and the auxiliary rows.

    Returns:
        The fitted preprocessing, and a copy of `data` with the transformed pixels; `data` itself if
        there is no preprocessing.
    """
    preprocessing = build_preprocessing(config.hparams).to(data.device)
    if config.params.preprocess == "none":
        return preprocessing, data
    train_indices, val_indices = data.folds[fold]
    sample = _sample(train_indices, key(config.seed, fold, "preprocess"))
    sample_pixels = data.pixels[torch.from_numpy(sample).to(data.device)]
    preprocessing.fit(sample_pixels.view(-1, *data.shape))
    pixels = torch.zeros_like(data.pixels)
    used_rows = torch.from_numpy(np.concatenate([train_indices, val_indices])).to(data.device)
    for rows in torch.split(used_rows, BATCH_SIZE):
        pixels[rows] = _transform(preprocessing, data.pixels[rows], data.shape)
    auxiliary = tuple(
        replace(rows, pixels=_transform_all(preprocessing, rows.pixels, data.shape))
        for rows in data.auxiliary
    )
    return preprocessing, replace(data, pixels=pixels, auxiliary=auxiliary)


def _sample(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Sample at most `MAX_FIT_PATCHES` of `rows` without replacement, in ascending order."""
    count = min(len(rows), MAX_FIT_PATCHES)
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


def _transform_all(preprocessing: Preprocessing, pixels: Tensor, shape: PatchShape) -> Tensor:
    batches = torch.split(pixels, BATCH_SIZE)
    return torch.cat([_transform(preprocessing, batch, shape) for batch in batches])


def _transform(preprocessing: Preprocessing, pixels: Tensor, shape: PatchShape) -> Tensor:
    """Return `pixels` (B, H*W*3) after the preprocessing."""
    transformed: Tensor = preprocessing(pixels.view(-1, *shape))
    return transformed.reshape(len(pixels), -1)
