"""Logistic regression: a linear layer trained to convergence by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from raysearch.training.eager_execution import eager_optimizer

MAX_ITERATIONS = 500
# The largest entry of the gradient, and the change of the loss, at which it has converged.
GRADIENT_TOLERANCE, CHANGE_TOLERANCE = 1e-5, 1e-9


def fit_logistic_regression(
    layer: nn.Linear, features: Tensor, mean_loss: Callable[[Tensor], Tensor], l2_penalty: float
) -> None:
    """Minimize the mean loss plus the L2 penalty of the weights, from weights of 0.

    Args:
        layer: The linear layer.
        features: Standardized features, float32, shape (N, D).
        mean_loss: Returns the mean loss of logits (N, classes).
        l2_penalty: The factor of half the sum of the squared weights. The bias is not penalized.
    """
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = eager_optimizer(torch.optim.LBFGS)(
        layer.parameters(),
        max_iter=MAX_ITERATIONS,
        max_eval=2 * MAX_ITERATIONS,
        tolerance_grad=GRADIENT_TOLERANCE,
        tolerance_change=CHANGE_TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        # For a few classes, the layer itself takes three times as long on a CPU.
        logits = (layer.weight @ features.T).T + layer.bias
        loss = mean_loss(logits) + l2_penalty / 2 * layer.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
