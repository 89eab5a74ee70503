"""Learning-rate schedules over the steps of a fold.

A schedule is stepped after each step of its optimizer; a plateau schedule is stepped with the
training loss after each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau


def constant(
    optimizer: torch.optim.Optimizer, num_steps: int, *, warmup_fraction: float
) -> LRScheduler:
    """Keep the learning rate after a linear warmup.

    The warmup takes the fraction `warmup_fraction` of the steps.
    """
    return _with_warmup(optimizer, num_steps, warmup_fraction, lambda _progress: 1.0)


def cosine(
    optimizer: torch.optim.Optimizer, num_steps: int, *, warmup_fraction: float
) -> LRScheduler:
    """Anneal the learning rate to 0 by half a cosine (Loshchilov and Hutter, 2017)."""
    return _with_warmup(
        optimizer,
        num_steps,
        warmup_fraction,
        lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    )


def exponential(
    optimizer: torch.optim.Optimizer,
    num_steps: int,
    *,
    warmup_fraction: float,
    final_lr_fraction: float,
) -> LRScheduler:
    """Decay the learning rate exponentially, to `final_lr_fraction` of it at the end."""
    return _with_warmup(
        optimizer, num_steps, warmup_fraction, lambda progress: final_lr_fraction**progress
    )


def one_cycle(
    optimizer: torch.optim.Optimizer, num_steps: int, *, warmup_fraction: float
) -> LRScheduler:
    """Raise the learning rate, then anneal it (Smith, 2018).

    The rise takes the fraction `warmup_fraction` of the steps.
    The momentum does not change: it is a hyperparameter of the optimizer.
    """
    max_lr = [group["lr"] for group in optimizer.param_groups]
    # torch divides 0 by 0 if the warmup is exactly one step.
    pct_start = (
        warmup_fraction if warmup_fraction * num_steps != 1 else warmup_fraction * (1 - 1e-6)
    )
    return OneCycleLR(
        optimizer, max_lr, total_steps=num_steps, pct_start=pct_start, cycle_momentum=False
    )


def reduce_on_plateau(
    optimizer: torch.optim.Optimizer,
    num_steps: int,
    *,
    plateau_factor: float,
    plateau_patience: int,
) -> ReduceLROnPlateau:
    """Multiply the learning rate by `plateau_factor` if the loss does not improve.

    It is the training loss, not improved for more than `plateau_patience` epochs: validation rows
    do not influence a training.
    """
    del num_steps
    return ReduceLROnPlateau(optimizer, factor=plateau_factor, patience=plateau_patience)


def _with_warmup(
    optimizer: torch.optim.Optimizer,
    num_steps: int,
    warmup_fraction: float,
    decay: Callable[[float], float],
) -> LRScheduler:
    """Warm up linearly, then multiply the learning rate by `decay` of the progress, 0 to 1."""
    warmup_steps = warmup_fraction * num_steps

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return decay(min(1.0, (step - warmup_steps) / max(1.0, num_steps - warmup_steps)))

    return LambdaLR(optimizer, factor)
