"""How the learning rate goes over the steps of a fold.

A schedule is stepped after each step of its optimizer; one that waits for a plateau is told the
loss of an epoch at its end instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau


def constant(optimizer: torch.optim.Optimizer, steps: int, *, warmup: float = 0.0) -> LRScheduler:
    """The learning rate as it is, after the share `warmup` of `steps`."""
    return _after(optimizer, steps, warmup, lambda _done: 1.0)


def cosine(optimizer: torch.optim.Optimizer, steps: int, *, warmup: float = 0.0) -> LRScheduler:
    """Half a cosine down to 0 (Loshchilov and Hutter, 2017), after the share `warmup`."""
    return _after(optimizer, steps, warmup, lambda done: (1 + math.cos(math.pi * done)) / 2)


def exponential(
    optimizer: torch.optim.Optimizer,
    steps: int,
    *,
    warmup: float = 0.0,
    final_lr_fraction: float = 0.01,
) -> LRScheduler:
    """The same share less each step, down to `final_lr_fraction` of the learning rate at the end."""
    return _after(optimizer, steps, warmup, lambda done: final_lr_fraction**done)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int, *, warmup: float = 0.3) -> LRScheduler:
    """Up to the learning rate in the share `warmup` of `steps`, then down (Smith, 2018).

    The momentum stays as it is: it is a hyperparameter of its own.
    """
    highest = [group["lr"] for group in optimizer.param_groups]
    # A rise of exactly one step is 0 divided by 0 in torch.
    rise = warmup if warmup * steps != 1 else warmup * (1 - 1e-6)
    return OneCycleLR(optimizer, highest, total_steps=steps, pct_start=rise, cycle_momentum=False)


def reduce_on_plateau(
    optimizer: torch.optim.Optimizer,
    steps: int,
    *,
    plateau_factor: float = 0.1,
    plateau_patience: int = 2,
) -> ReduceLROnPlateau:
    """`plateau_factor` of the learning rate after more than `plateau_patience` epochs no better.

    Better is a lower loss of the rows that are learned: those that judge do not steer a training.
    """
    del steps
    return ReduceLROnPlateau(optimizer, factor=plateau_factor, patience=plateau_patience)


def _after(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float, shape: Callable[[float], float]
) -> LRScheduler:
    """Linearly up in the share `warmup` of `steps`, then by `shape` of what is done, 0 to 1."""
    rise = warmup * steps

    def fraction(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return shape(min(1.0, (step - rise) / max(1.0, steps - rise)))

    return LambdaLR(optimizer, fraction)
