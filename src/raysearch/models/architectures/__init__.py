"""The registry of network architectures.

An architecture is a function of the patch shape (H, W, 3), the number of classes, and keyword-only
hyperparameters. Its network maps normalized float32 batches (B, 3, H, W) to logits (B, classes).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from torch import nn

from raysearch.config.names import ENCODER_NAMES, HUB_PREFIX, TIMM_PREFIX, is_encoder
from raysearch.errors import SpaceError
from raysearch.models import PatchShape
from raysearch.models.architectures.bag_networks import (
    abmil,
    max_pooling,
    mean_pooling,
    transformer_mil,
)
from raysearch.models.architectures.equivariant import p4m
from raysearch.models.architectures.small_cnns import benchmark, cnn
from raysearch.models.architectures.torchvision_models import TORCHVISION_MODELS
from raysearch.models.encoders.encoder import Encoder, TokenPooling
from raysearch.models.encoders.encoder_network import encoder_network
from raysearch.models.encoders.snapshots import encoder_of
from raysearch.models.timm_models import timm_model


class Architectures(dict[str, Callable[..., nn.Module]]):
    """Builders by architecture name.

    Every name `timm:NAME` is a model of timm. The names of pretrained encoders are those of their
    table, `hf-hub:OWNER/NAME`, and the paths of folders.
    """

    def __missing__(self, name: str) -> Callable[..., nn.Module]:
        if name.startswith(TIMM_PREFIX):
            return partial(timm_model, name)
        if is_encoder(name):
            return partial(pretrained_encoder, encoder_of(name))
        names = ", ".join(self)
        raise SpaceError(
            f"architecture {name!r} is unknown; choose one of {names}, {TIMM_PREFIX}NAME,"
            f" {', '.join(ENCODER_NAMES)}, {HUB_PREFIX}OWNER/NAME, the folder of an encoder, or"
            " MODULE:FUNCTION"
        )


def pretrained_encoder(
    encoder: Encoder, shape: PatchShape, num_classes: int, *, token_pooling: str
) -> nn.Module:
    """Build the network of a pretrained encoder with random weights.

    Args:
        encoder: Its description.
        shape: The shape of its input (H, W, 3).
        num_classes: The number of logits.
        token_pooling: How an embedding is made from its tokens; `auto` as its authors recommend.

    Raises:
        SpaceError: If it cannot be built, or does not take an input of that shape.
    """
    is_default = token_pooling == "auto"  # noqa: S105 the tokens of a transformer
    pooling = None if is_default else cast("TokenPooling", token_pooling)
    return encoder_network(encoder, shape, num_classes, pooling)


ARCHITECTURES = Architectures(
    benchmark=benchmark,
    cnn=cnn,
    p4m=p4m,
    **TORCHVISION_MODELS,
    mean_pooling=mean_pooling,
    max_pooling=max_pooling,
    abmil=abmil,
    transformer_mil=transformer_mil,
)
