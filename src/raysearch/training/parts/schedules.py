"""How the learning rate goes over the steps of a fold."""

from __future__ import annotations

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR


def constant(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """The learning rate as it is, for all `steps`."""
    del steps
    return LambdaLR(optimizer, lambda _step: 1.0)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int, *, warmup: float = 0.3) -> LRScheduler:
    """Up to the learning rate in the share `warmup` of `steps`, then down (Smith, 2018).

    The momentum stays as it is: it is a knob of its own.
    """
    highest = [group["lr"] for group in optimizer.param_groups]
    # A rise of exactly one step is 0 divided by 0 in torch.
    rise = warmup if warmup * steps != 1 else warmup * (1 - 1e-6)
    return OneCycleLR(optimizer, highest, total_steps=steps, pct_start=rise, cycle_momentum=False)
