"""Optimizers of torch and timm with their hyperparameters.

Fused implementations are used if torch has them: they take a fourth to an eighth of the time.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

import torch
from torch import nn

from raysearch.training.eager_execution import eager_optimizer

Parameters = Iterable[nn.Parameter]


def adamw(
    parameters: Parameters,
    *,
    learning_rate: float,
    weight_decay: float,
    beta1: float,
    beta2: float,
) -> torch.optim.Optimizer:
    """Create AdamW (Loshchilov and Hutter, 2019)."""
    betas = (beta1, beta2)
    return eager_optimizer(torch.optim.AdamW)(
        parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True
    )


def adam(
    parameters: Parameters,
    *,
    learning_rate: float,
    weight_decay: float,
    beta1: float,
    beta2: float,
) -> torch.optim.Optimizer:
    """Create Adam (Kingma and Ba, 2015); `weight_decay` is an L2 penalty, as in the paper."""
    betas = (beta1, beta2)
    return eager_optimizer(torch.optim.Adam)(
        parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True
    )


def rmsprop(
    parameters: Parameters,
    *,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    rho: float,
) -> torch.optim.Optimizer:
    """Create RMSprop (Tieleman and Hinton, 2012); `rho` is the decay of the mean square."""
    return eager_optimizer(torch.optim.RMSprop)(
        parameters, lr=learning_rate, alpha=rho, weight_decay=weight_decay, momentum=momentum
    )


def adadelta(
    parameters: Parameters,
    *,
    learning_rate: float,
    weight_decay: float,
    rho: float,
) -> torch.optim.Optimizer:
    """Create Adadelta (Zeiler, 2012); the learning rate of the paper is 1."""
    return eager_optimizer(torch.optim.Adadelta)(
        parameters, lr=learning_rate, rho=rho, weight_decay=weight_decay
    )


def muon(
    parameters: Parameters,
    *,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
) -> torch.optim.Optimizer:
    """Create timm's Muon (Jordan et al., 2024).

    It updates matrices and convolutions by Muon, and other parameters by AdamW. Torch's Muon
    accepts matrices only.
    """
    optim = importlib.import_module("timm.optim")
    optimizer: torch.optim.Optimizer = optim.Muon(
        list(parameters),
        lr=learning_rate,
        weight_decay=weight_decay,
        momentum=momentum,
        nesterov=nesterov,
    )
    return optimizer


def sgd(
    parameters: Parameters,
    *,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
) -> torch.optim.Optimizer:
    """Create stochastic gradient descent with momentum, or with that of Nesterov (1983).

    `nesterov` has no effect if `momentum` is 0.
    """
    return eager_optimizer(torch.optim.SGD)(
        parameters,
        lr=learning_rate,
        weight_decay=weight_decay,
        momentum=momentum,
        nesterov=nesterov and momentum > 0,
        fused=True,
    )
