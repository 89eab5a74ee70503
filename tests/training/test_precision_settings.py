import math
from dataclasses import replace

import torch

from raysearch.training.precision_settings import PrecisionSettings, device_kind
from raysearch.training.training_data import TrainingData
from support.recorded_training import recorded_training, small_config


def test_a_device_has_a_kind() -> None:
    assert device_kind(torch.device("cpu"))


def test_bfloat16_trains_to_finite_losses(data: TrainingData) -> None:
    settings = PrecisionSettings("bfloat16", "channels_last")
    record = recorded_training(replace(small_config(), precision_settings=settings), data)
    assert all(math.isfinite(fold_epoch.loss) for fold_epoch in record.fold_epochs)
