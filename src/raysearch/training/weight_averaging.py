"""Exponential moving average (EMA) of the weights of a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from raysearch.training.trained_tensors import ALL_TENSORS, TrainedTensors

Tensors = tuple[Tensor, ...] | list[Tensor]
# The decay of step n is at most (1 + n) / (10 + n).
WARMUP_NUMERATOR, WARMUP_DENOMINATOR = 1, 10


def averaged_model(
    model: nn.Module, decay: float, trained: TrainedTensors = ALL_TENSORS
) -> AveragedModel | None:
    """Return the EMA of the weights and buffers of `model`; None if `decay` is 0.

    What is not `trained` is the same tensor in the model and in its average.

    Buffers of whole numbers, such as indices, are those of the model.

    The decay of step n is min(decay, (1 + n) / (10 + n)), as in TensorFlow's
    `ExponentialMovingAverage`, so that the average does not depend on the random initial weights.
    """
    if not decay:
        return None

    # AveragedModel passes the number of steps as a tensor on the device of the model; reading that
    # would wait for the device.
    counter: list[Tensor] = []

    def update(averages: Tensors, values: Tensors, _steps: Tensor | int) -> None:
        step = int(counter[0])
        step_decay = min(decay, (WARMUP_NUMERATOR + step) / (WARMUP_DENOMINATOR + step))
        averages, values = _without_reused(averages, values)
        if not averages:
            return
        if averages[0].is_floating_point():
            torch._foreach_mul_(averages, step_decay)
            torch._foreach_add_(averages, torch._foreach_mul(values, 1 - step_decay))  # noqa: SLF001 as torch.optim
            return
        for average, value in zip(averages, values, strict=True):  # batch counts, indices
            average.copy_(value)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    counter.append(average.n_averaged)
    trained.reuse_others(model, average.module)
    return average


def _without_reused(averages: Tensors, values: Tensors) -> tuple[Tensors, Tensors]:
    """Return the averages and the values that are not the same tensors."""
    pairs = [
        (average, value)
        for average, value in zip(averages, values, strict=True)
        if average.data_ptr() != value.data_ptr()
    ]
    return [average for average, _value in pairs], [value for _average, value in pairs]
