"""The components of a training: optimizers, learning rate schedules and losses.

A component is a function; its keyword-only parameters are the hyperparameters that it reads, as the
table in `raysearch.config.hyperparameters` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from raysearch.config.custom_components import custom_component
from raysearch.config.hyperparameters import TrialParams
from raysearch.training.components import losses, optimizers, schedules

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": optimizers.adamw,
    "sgd": optimizers.sgd,
    "adam": optimizers.adam,
    "rmsprop": optimizers.rmsprop,
    "adadelta": optimizers.adadelta,
    "muon": optimizers.muon,
}
SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "constant": schedules.constant,
    "one_cycle": schedules.one_cycle,
    "cosine": schedules.cosine,
    "exponential": schedules.exponential,
    "reduce_on_plateau": schedules.reduce_on_plateau,
}
LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": losses.cross_entropy,
    "binary_cross_entropy": losses.binary_cross_entropy,
    "focal": losses.focal,
}
REGISTRIES: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
}


def component(part: str, params: TrialParams) -> Callable[..., Any]:
    """Return a component of a trial, with its hyperparameters as keyword arguments.

    Args:
        part: `optimizer`, `schedule` or `loss`.
        params: The parameters of the trial.

    Raises:
        SpaceError: If it is one of the user's, and cannot be imported.
    """
    custom = custom_component(part, params)
    if custom is not None:
        return custom
    return partial(REGISTRIES[part][getattr(params, part)], **params.arguments_of(part))
