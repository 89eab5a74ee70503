"""Optimizers, schedules and the knobs that each part of a training reads.

A part is one function and one line in a table; its keyword-only parameters are the knobs that it
reads, so a knob that nothing reads can be told before anything starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from raysearch.models.architectures import ARCHITECTURES, knobs_of
from raysearch.models.dihedral import AVERAGES

Parameters = Iterable[nn.Parameter]


def adamw(
    parameters: Parameters,
    *,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, 2019)."""
    return torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(beta1, beta2), weight_decay=weight_decay
    )


def sgd(
    parameters: Parameters,
    *,
    learning_rate: float = 1e-2,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum, Nesterov's (1983) where that is above 0."""
    return torch.optim.SGD(
        parameters,
        lr=learning_rate,
        weight_decay=weight_decay,
        momentum=momentum,
        nesterov=nesterov and momentum > 0,
    )


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


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adamw": adamw, "sgd": sgd}
SCHEDULES: dict[str, Callable[..., LRScheduler]] = {"constant": constant, "one_cycle": one_cycle}


def recipe(
    *,
    batch_size: int = 64,
    class_weights: bool = True,
    augment: str = "dihedral",
    tta: str = "none",
    folds: int = 3,
    patients: float = 1.0,
    auxiliary_weight: float = 1.0,
) -> None:
    """The knobs that the loop itself reads, whatever the parts are."""


AUGMENTATIONS = ("none", "dihedral")
# A selector's value names the part, and the part's knobs.
SELECTORS: dict[str, Mapping[str, Callable[..., Any]]] = {
    "architecture": ARCHITECTURES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
DEFAULTS = {"architecture": "cnn", "optimizer": "adamw", "schedule": "one_cycle"}
# A knob that a part reads only beside one value of another knob.
ONLY_WITH = {"dense": ("head", "flat")}


@dataclass(frozen=True)
class Limits:
    """What a knob's value may be: its type, and the range or the names allowed."""

    kind: type
    low: float = float("-inf")
    high: float = float("inf")
    names: tuple[str, ...] = ()

    def fault(self, value: object) -> str | None:
        """Why `value` is not allowed, or None where it is."""
        if self.kind is str:
            if value in self.names:
                return None
            return f"{value!r} is unknown: one of {', '.join(self.names)}"
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind is bool:
            return None if isinstance(value, bool) else f"{value!r} is neither true nor false"
        if not number or (self.kind is int and not isinstance(value, int)):
            return f"{value!r} is not {'a whole number' if self.kind is int else 'a number'}"
        if not self.low <= float(str(value)) <= self.high:
            return f"{value!r} is outside {self.low:g} to {self.high:g}"
        return None


LIMITS: dict[str, Limits] = {
    "architecture": Limits(str, names=tuple(ARCHITECTURES)),
    "optimizer": Limits(str, names=tuple(OPTIMIZERS)),
    "schedule": Limits(str, names=tuple(SCHEDULES)),
    "augment": Limits(str, names=AUGMENTATIONS),
    "tta": Limits(str, names=tuple(AVERAGES)),
    "head": Limits(str, names=("pooled", "flat")),
    "class_weights": Limits(bool),
    "batch_size": Limits(int, 2, 65536),
    "folds": Limits(int, 2, 1000),
    "patients": Limits(float, 0.01, 1.0),
    "auxiliary_weight": Limits(float, 0.0, 100.0),
    "convolutions": Limits(int, 1, 3),
    "width": Limits(int, 1, 1024),
    "dense": Limits(int, 1, 16384),
    "dropout": Limits(float, 0.0, 0.95),
    "learning_rate": Limits(float, 1e-12, 100.0),
    "weight_decay": Limits(float, 0.0, 10.0),
    "momentum": Limits(float, 0.0, 0.9999),
    "nesterov": Limits(bool),
    "beta1": Limits(float, 0.0, 0.9999),
    "beta2": Limits(float, 0.0, 0.99999),
    "warmup": Limits(float, 0.001, 0.999),
}


def knobs_read(selected: Mapping[str, str]) -> frozenset[str]:
    """Every knob that a training reads whose selectors have the values `selected`."""
    names = set(SELECTORS) | knobs_of(recipe)
    for selector, parts in SELECTORS.items():
        names |= knobs_of(parts[selected.get(selector, DEFAULTS[selector])])
    return frozenset(names)
