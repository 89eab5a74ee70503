"""Optimizers, by torch's own; fused where torch has that, a fourth to an eighth of the time."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

import torch
from torch import nn

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
    betas = (beta1, beta2)
    return torch.optim.AdamW(
        parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True
    )


def adam(
    parameters: Parameters,
    *,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba, 2015); `weight_decay` is an L2 penalty, as in its paper."""
    betas = (beta1, beta2)
    return torch.optim.Adam(
        parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True
    )


def rmsprop(
    parameters: Parameters,
    *,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    rho: float = 0.9,
) -> torch.optim.Optimizer:
    """RMSprop (Tieleman and Hinton, 2012); `rho` is how much of the mean square is kept."""
    return torch.optim.RMSprop(
        parameters, lr=learning_rate, alpha=rho, weight_decay=weight_decay, momentum=momentum
    )


def adadelta(
    parameters: Parameters,
    *,
    learning_rate: float = 1.0,
    weight_decay: float = 0.0,
    rho: float = 0.9,
) -> torch.optim.Optimizer:
    """Adadelta (Zeiler, 2012); 1 is the learning rate of its paper."""
    return torch.optim.Adadelta(parameters, lr=learning_rate, rho=rho, weight_decay=weight_decay)


def muon(
    parameters: Parameters,
    *,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.0,
    momentum: float = 0.95,
    nesterov: bool = True,
) -> torch.optim.Optimizer:
    """Muon (Jordan et al., 2024), timm's: AdamW for what is neither a matrix nor a convolution.

    Torch's own takes matrices alone.
    """
    optim = importlib.import_module("timm.optim")
    found: torch.optim.Optimizer = optim.Muon(
        list(parameters),
        lr=learning_rate,
        weight_decay=weight_decay,
        momentum=momentum,
        nesterov=nesterov,
    )
    return found


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
        fused=True,
    )
