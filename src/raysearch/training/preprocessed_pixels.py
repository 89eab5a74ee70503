"""The pixels of a fold as its net is to see them: pre-processed once, before the first epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysearch.models.architectures import given
from raysearch.models.preprocessing import PREPROCESSINGS, Preprocessing
from raysearch.training.components import DEFAULTS
from raysearch.training.seeds import key
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

# Patches that what is fitted is fitted to, and patches in work at once.
FITTED_TO = 256
AT_ONCE = 128


def preprocessing_of(hparams: Mapping[str, Any]) -> Preprocessing:
    """The pre-processing that `hparams` name, not fitted yet."""
    part = PREPROCESSINGS[hparams.get("preprocess", DEFAULTS["preprocess"])]
    return part(**given(part, hparams))


@torch.no_grad()
def prepared(
    config: TrainConfig, data: TrainingData, fold: int
) -> tuple[Preprocessing, TrainingData]:
    """The fitted pre-processing of `fold`, and `data` with the rows that it uses as that has them.

    Fitted to rows that the fold learns from, of the study's own, drawn by (seed, fold): those that
    judge, and other patients' auxiliary ones, are only changed by it. `data` itself stays as it is,
    and is what is returned where nothing is done to it.
    """
    preprocessing = preprocessing_of(config.hparams).to(data.device)
    if config.hyperparameter("preprocess", DEFAULTS["preprocess"]) == "none":
        return preprocessing, data
    learned, judged = data.folds[fold]
    drawn = _drawn(learned, key(config.seed, fold, "preprocess"))
    sample = torch.from_numpy(drawn).to(data.device)
    preprocessing.fit(data.pixels[sample].view(-1, *data.shape))
    pixels = torch.zeros_like(data.pixels)
    used = torch.from_numpy(np.concatenate([learned, judged])).to(data.device)
    for rows in torch.split(used, AT_ONCE):
        pixels[rows] = _changed(preprocessing, data.pixels[rows], data.shape)
    further = tuple(
        replace(one, pixels=_in_pieces(preprocessing, one.pixels, data.shape))
        for one in data.further
    )
    return preprocessing, replace(data, pixels=pixels, further=further)


def _drawn(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """At most `FITTED_TO` of `rows`, evenly drawn, in their order."""
    count = min(len(rows), FITTED_TO)
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


def _in_pieces(preprocessing: Preprocessing, pixels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    pieces = torch.split(pixels, AT_ONCE)
    return torch.cat([_changed(preprocessing, some, shape) for some in pieces])


def _changed(preprocessing: Preprocessing, pixels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """`pixels` (B, H*W*3), changed."""
    changed: Tensor = preprocessing(pixels.view(-1, *shape))
    return changed.reshape(len(pixels), -1)
