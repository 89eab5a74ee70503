"""Torchvision's nets, without weights.

VGG (Simonyan and Zisserman, 2015), ResNet (He et al., 2016), MobileNetV2 and V3 (Sandler et al.,
2018; Howard et al., 2019), EfficientNet and V2 (Tan and Le, 2019, 2021), MNASNet (Tan et al.,
2019), GoogLeNet and Inception v3 (Szegedy et al., 2015, 2016), DenseNet (Huang et al., 2017),
ConvNeXt (Liu et al., 2022), ViT (Dosovitskiy et al., 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torchvision import models as zoo

from raysearch.errors import SpaceError
from raysearch.models.patch_shape import Shape

# Without the further heads that they are trained with on ImageNet.
ONE_HEAD: dict[str, Any] = {"aux_logits": False, "init_weights": True}
INCEPTION_SIDE = 75


def plain(name: str, _shape: Shape, classes: int) -> nn.Module:
    """The net `name` as it is."""
    return _made(name, classes, {})


def dropping(
    name: str, _shape: Shape, classes: int, *, dropout: float | None = None, **more: Any
) -> nn.Module:
    """The net `name`, whose own `dropout` stays where none is given."""
    return _made(name, classes, more if dropout is None else {**more, "dropout": dropout})


def inception(name: str, shape: Shape, classes: int, *, dropout: float | None = None) -> nn.Module:
    """Inception v3, for patches of 75 pixels or more; SpaceError for smaller ones."""
    if min(shape[:2]) < INCEPTION_SIDE:
        raise SpaceError(
            f"architecture {name} cannot take patches of {shape[1]}x{shape[0]}: it halves them five"
            f" times and needs {INCEPTION_SIDE} or more; choose another, or shard larger patches"
        )
    return dropping(name, shape, classes, dropout=dropout, **ONE_HEAD)


def transformer(
    name: str, shape: Shape, classes: int, *, dropout: float | None = None
) -> nn.Module:
    """ViT-B/16, for square patches whose side is a multiple of 16; SpaceError for others."""
    height, width, _channels = shape
    if height != width or height % 16:
        raise SpaceError(
            f"architecture {name} cannot take patches of {width}x{height}: it cuts them in squares"
            " of 16; choose another, or shard patches of 48, 64, 96 or 224"
        )
    return dropping(name, shape, classes, dropout=dropout, image_size=height)


def _made(name: str, classes: int, more: dict[str, Any]) -> nn.Module:
    return zoo.get_model(name, weights=None, num_classes=classes, **more)


DROPPING = (
    *("vgg16", "vgg19", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"),
    *("efficientnet_v2_s", "mnasnet1_0"),
)
PLAIN = ("resnet18", "resnet50", "resnet101", "resnet152", "densenet121", "convnext_tiny")
ZOO: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(plain, name) for name in PLAIN},
    **{name: partial(dropping, name) for name in DROPPING},
    "googlenet": partial(dropping, "googlenet", **ONE_HEAD),
    "inception_v3": partial(inception, "inception_v3"),
    "vit_b_16": partial(transformer, "vit_b_16"),
}
