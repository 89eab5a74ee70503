"""Steps of optimizers and counts of operations that do not import `torch._dynamo`.

Torch imports the compiler TorchDynamo when an optimizer steps or an operation is counted, only to
tell it that this is not compiled. The import takes about as long as that of torch itself, in each
worker. Nothing here is compiled. timm imports the compiler itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import torch

Optimizer = TypeVar("Optimizer", bound=torch.optim.Optimizer)
# Functions that torch hides from the compiler; besides these, the step.
HIDDEN_FUNCTIONS = ("state_dict", "load_state_dict", "zero_grad", "add_param_group")
# `torch._disable_dynamo` keeps the hidden function in this attribute of the decorated one.
HIDDEN = "__dynamo_disable"


def eager_optimizer(optimizer: type[Optimizer]) -> type[Optimizer]:
    """Derive an optimizer that computes the same without importing `torch._dynamo`.

    Args:
        optimizer: An optimizer of torch. Its steps are not differentiable.

    Returns:
        A class of the same name, whose states are those of `optimizer`. Its objects cannot be
        pickled; their states can.
    """
    # mypy rejects a class of torch as the argument of a cached function.
    derived: type[Optimizer] = _derived_class(cast("Any", optimizer))
    return derived


@cache
def _derived_class(optimizer: Any) -> Any:
    functions = {name: inspect.unwrap(getattr(optimizer, name)) for name in HIDDEN_FUNCTIONS}
    functions["step"] = torch.no_grad()(inspect.unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), functions)


def mark_eager(decorated: Callable[..., Any]) -> None:
    """Let a function that torch hides from the compiler run without importing `torch._dynamo`.

    A later `torch.compile` in this process would compile the function.

    Args:
        decorated: A function with the decorator `torch._disable_dynamo`.
    """
    function = inspect.unwrap(decorated)
    setattr(function, HIDDEN, function)
