"""An exponential moving average of a model, which judges in its place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

# A step counts more while few were made: the average forgets the weights it began with.
FIRST, LATER = 1, 10


def averaged(model: nn.Module, decay: float) -> AveragedModel | None:
    """The average of `model` after each step, of which `decay` is kept; None where that is 0.

    Of the first steps less is kept, (1 + n) / (10 + n) after n, as in TensorFlow's average.
    """
    if not decay:
        return None

    # Handed over with each call it would lie on the device, which would have to be waited for.
    counter: list[Tensor] = []

    def follow(before: Any, now: Any, _steps: Tensor | int) -> None:
        steps = int(counter[0])
        kept = min(decay, (FIRST + steps) / (LATER + steps))
        if before[0].is_floating_point():
            torch._foreach_mul_(before, kept)
            torch._foreach_add_(before, torch._foreach_mul(now, 1 - kept))  # noqa: SLF001 as torch.optim
            return
        for one, other in zip(before, now, strict=True):  # how often batch norm was asked
            one.copy_(one * kept + other * (1 - kept))

    average = AveragedModel(model, multi_avg_fn=follow, use_buffers=True)
    counter.append(average.n_averaged)
    return average
