"""What a net is besides its scores: how large, and how long a patch takes it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import nn

from raysearch.models.architectures import build
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

PATCHES, TURNS = 64, 5


def too_much(config: TrainConfig, data: TrainingData, ceilings: Mapping[str, float]) -> str | None:
    """Why the net of `config` is above one of `ceilings`, by metric; None where it is not."""
    net = build(config.architecture, data.shape, len(data.class_names), config.hparams)
    for metric, most in ceilings.items():
        found = MEASURES[metric](net, config, data)
        if found > most:
            return f"{metric} {found:,.6g} above {most:,.6g}"
    return None


def parameters(net: nn.Module, *_more: object) -> float:
    """How many numbers `net` learns."""
    return float(sum(one.numel() for one in net.parameters()))


def inference_ms(net: nn.Module, config: TrainConfig, data: TrainingData) -> float:
    """The milliseconds that a patch takes, in batches of `PATCHES`: the median of `TURNS`."""
    model = config.numerics.place(net, data.device).eval()
    height, width, channels = data.shape
    batch = torch.zeros((PATCHES, channels, height, width), device=data.device)
    batch = batch.contiguous(memory_format=config.numerics.layout)
    took = []
    with torch.inference_mode(), config.numerics.autocast(data.device):
        for _turn in range(TURNS + 1):
            began = time.perf_counter()
            model(batch).float().cpu()  # waits for the device
            took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took[1:]) / PATCHES  # the first one warms up


MEASURES: dict[str, Callable[[nn.Module, TrainConfig, TrainingData], float]] = {
    "parameters": parameters,
    "inference_ms": inference_ms,
}
