"""The models of torchvision as architectures, without weights.

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

from raysearch.errors import SpaceError
from raysearch.models import PatchShape
from raysearch.models.patch_limits import MIN_SIDES, VIT_PATCH_SIDE

# The auxiliary heads are for training on ImageNet only.
WITHOUT_AUXILIARY_HEADS: dict[str, Any] = {"aux_logits": False, "init_weights": True}
MIN_INCEPTION_SIDE = MIN_SIDES["inception_v3"]


def model_with_options(name: str, num_classes: int, **options: Any) -> nn.Module:
    """Build the torchvision model `name` without weights, with its builder's `options`."""
    from torchvision import models

    return models.get_model(name, weights=None, num_classes=num_classes, **options)


def model_without_dropout(name: str, _shape: PatchShape, num_classes: int) -> nn.Module:
    """Build the torchvision model `name`, which has no dropout to set."""
    return model_with_options(name, num_classes)


def model_with_dropout(
    name: str,
    _shape: PatchShape,
    num_classes: int,
    *,
    dropout: float | None,
    **options: Any,
) -> nn.Module:
    """Build the torchvision model `name`; its own dropout is used if `dropout` is None."""
    if dropout is not None:
        options["dropout"] = dropout
    return model_with_options(name, num_classes, **options)


def inception(
    name: str, shape: PatchShape, num_classes: int, *, dropout: float | None
) -> nn.Module:
    """Build Inception v3.

    Raises:
        SpaceError: If the patches are smaller than 75 pixels.
    """
    if min(shape[:2]) < MIN_INCEPTION_SIDE:
        raise SpaceError(
            f"architecture {name} cannot take patches of {shape[1]}x{shape[0]}: it halves them five"
            f" times and needs {MIN_INCEPTION_SIDE} or more; choose another, or `input_size`"
            f" {MIN_INCEPTION_SIDE} or more"
        )
    return model_with_dropout(name, shape, num_classes, dropout=dropout, **WITHOUT_AUXILIARY_HEADS)


def vision_transformer(
    name: str, shape: PatchShape, num_classes: int, *, dropout: float | None
) -> nn.Module:
    """Build ViT-B/16.

    Raises:
        SpaceError: If the patches are not square, or their side is not a multiple of 16.
    """
    height, width, _channels = shape
    if height != width or height % VIT_PATCH_SIDE:
        raise SpaceError(
            f"architecture {name} cannot take patches of {width}x{height}: it cuts them in squares"
            f" of {VIT_PATCH_SIDE}; choose another, or `input_size` 48, 64, 96 or 224"
        )
    return model_with_dropout(name, shape, num_classes, dropout=dropout, image_size=height)


WITH_DROPOUT = (
    *("vgg16", "vgg19", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"),
    *("efficientnet_v2_s", "mnasnet1_0"),
)
WITHOUT_DROPOUT = (
    "resnet18",
    "resnet50",
    "resnet101",
    "resnet152",
    "densenet121",
    "convnext_tiny",
)
TORCHVISION_MODELS: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(model_without_dropout, name) for name in WITHOUT_DROPOUT},
    **{name: partial(model_with_dropout, name) for name in WITH_DROPOUT},
    "googlenet": partial(model_with_dropout, "googlenet", **WITHOUT_AUXILIARY_HEADS),
    "inception_v3": partial(inception, "inception_v3"),
    "vit_b_16": partial(vision_transformer, "vit_b_16"),
}
