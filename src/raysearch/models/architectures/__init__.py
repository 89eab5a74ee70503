"""The registry of network architectures.

An architecture is a function of the patch shape (H, W, 3), the number of classes, and keyword-only
hyperparameters. Its network maps normalized float32 batches (B, 3, H, W) to logits (B, classes).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from raysearch.config.names import TIMM_PREFIX
from raysearch.errors import SpaceError
from raysearch.models.architectures.equivariant import p4m
from raysearch.models.architectures.small_cnns import benchmark, cnn
from raysearch.models.architectures.torchvision_models import TORCHVISION_MODELS
from raysearch.models.timm_models import timm_model


class Architectures(dict[str, Callable[..., nn.Module]]):
    """Builders by architecture name; every name `timm:NAME` is a model of timm."""

    def __missing__(self, name: str) -> Callable[..., nn.Module]:
        if name.startswith(TIMM_PREFIX):
            return partial(timm_model, name)
        names = ", ".join(self)
        raise SpaceError(
            f"architecture {name!r} is unknown; choose one of {names}, {TIMM_PREFIX}NAME"
        )


ARCHITECTURES = Architectures(benchmark=benchmark, cnn=cnn, p4m=p4m, **TORCHVISION_MODELS)
