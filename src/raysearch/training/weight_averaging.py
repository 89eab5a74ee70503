"""Exponential moving average (EMA) of the weights of a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]
# The decay of step n is at most (1 + n) / (10 + n).
WARMUP_NUMERATOR, WARMUP_DENOMINATOR = 1, 10


def averaged_model(model: nn.Module, decay: float) -> AveragedModel | None:
    """Return the EMA of the weights and buffers of `model`; None if `decay` is 0.

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
        if averages[0].is_floating_point():
            torch._foreach_mul_(averages, step_decay)
            torch._foreach_add_(averages, torch._foreach_mul(values, 1 - step_decay))  # noqa: SLF001 as torch.optim
            return
        for average, value in zip(averages, values, strict=True):  # batch counts of batch norm
            average.copy_(average * step_decay + value * (1 - step_decay))

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    counter.append(average.n_averaged)
    return average
