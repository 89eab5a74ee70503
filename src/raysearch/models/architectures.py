"""Architectures, by name.

A builder takes the patch's shape (H, W, 3) and the number of classes; its keyword-only parameters
are the knobs that a search space may name. The net takes normalised float32 batches (B, 3, H, W)
and gives logits (B, classes).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torchvision import models as zoo

from raysearch.errors import SpaceError

Shape = tuple[int, int, int]
SMALLEST_SIDE = 8
STAGES = 3
HEADS = ("pooled", "flat")


def benchmark(shape: Shape, classes: int) -> nn.Module:
    """One 3x3 convolution of 32 filters with ReLU, then one dense layer.

    The Keras benchmark of "Rapid Diagnosis of IDC" (Levi-Raz, 2018), whose text leaves the
    number of filters and the kernel open; its softmax is in the loss here.
    """
    height, width, channels = shape
    features = 32 * (height - 2) * (width - 2)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(features, classes)
    )


def cnn(
    shape: Shape,
    classes: int,
    *,
    convolutions: int = 2,
    width: int = 32,
    head: str = "pooled",
    dense: int = 256,
    dropout: float = 0.0,
) -> nn.Module:
    """Three stages of `convolutions` 3x3 convolutions with batch norm, each stage halving the side.

    The stages are `width`, 2 `width` and 4 `width` wide. The head is `pooled` (global average) or
    `flat` (all positions, and a layer of `dense` units). Three convolutions of width 32 and a flat
    head are the nine-convolution net of "Breast-Cancer-Detection" for 50x50 IDC patches.
    SpaceError for values that are no net.
    """
    if convolutions not in (1, 2, 3):
        raise SpaceError(f"convolutions {convolutions!r} is not allowed; choose 1, 2 or 3")
    if width < 1:
        raise SpaceError(f"width {width!r} is not allowed; choose 1 or more")
    if head not in HEADS:
        raise SpaceError(f"head {head!r} is unknown; choose one of {', '.join(HEADS)}")
    if dense < 1:
        raise SpaceError(f"dense {dense!r} is not allowed; choose 1 or more")
    layers: list[nn.Module] = []
    before, side = shape[2], (shape[0], shape[1])
    for stage in range(STAGES):
        after = width * 2**stage
        for _ in range(convolutions):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
            before = after
        layers.append(nn.MaxPool2d(2))
        side = (side[0] // 2, side[1] // 2)
    if head == "pooled":
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    else:
        features = before * side[0] * side[1]
        layers += [nn.Flatten(), nn.Linear(features, dense), nn.ReLU(inplace=True)]
        before = dense
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(before, classes))


def mobilenet_v3_small(_shape: Shape, classes: int, *, dropout: float = 0.2) -> nn.Module:
    """Torchvision's MobileNetV3-small (Howard et al., 2019), without weights."""
    return zoo.mobilenet_v3_small(weights=None, num_classes=classes, dropout=dropout)


def efficientnet_b0(_shape: Shape, classes: int, *, dropout: float = 0.2) -> nn.Module:
    """Torchvision's EfficientNet-B0 (Tan and Le, 2019), without weights."""
    return zoo.efficientnet_b0(weights=None, num_classes=classes, dropout=dropout)


def resnet18(_shape: Shape, classes: int) -> nn.Module:
    """Torchvision's ResNet-18 (He et al., 2016), without weights."""
    return zoo.resnet18(weights=None, num_classes=classes)


def resnet50(_shape: Shape, classes: int) -> nn.Module:
    """Torchvision's ResNet-50 (He et al., 2016), without weights."""
    return zoo.resnet50(weights=None, num_classes=classes)


def vgg16(_shape: Shape, classes: int, *, dropout: float = 0.5) -> nn.Module:
    """Torchvision's VGG16 (Simonyan and Zisserman, 2015), without weights."""
    return zoo.vgg16(weights=None, num_classes=classes, dropout=dropout)


def vgg19(_shape: Shape, classes: int, *, dropout: float = 0.5) -> nn.Module:
    """Torchvision's VGG19 (Simonyan and Zisserman, 2015), without weights."""
    return zoo.vgg19(weights=None, num_classes=classes, dropout=dropout)


def refuse_unfit(name: str, shape: Shape, knobs: Mapping[str, Any]) -> None:
    """SpaceError where the architecture `name` with `knobs` cannot take patches of `shape`.

    Tried on torch's meta device: nothing is computed.
    """
    height, width, channels = shape
    try:
        with torch.device("meta"), torch.inference_mode():
            build(name, shape, 2, knobs).eval()(torch.empty(2, channels, height, width))
    except RuntimeError as fault:
        reason = str(fault).splitlines()[0][:200]
        raise SpaceError(
            f"architecture {name} cannot take patches of {width}x{height} ({reason}); choose"
            " another, or shard larger patches"
        ) from None


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "benchmark": benchmark,
    "cnn": cnn,
    "mobilenet_v3_small": mobilenet_v3_small,
    "efficientnet_b0": efficientnet_b0,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "vgg16": vgg16,
    "vgg19": vgg19,
}


def build(name: str, shape: Shape, classes: int, knobs: Mapping[str, Any]) -> nn.Module:
    """The architecture `name` with those of `knobs` that it reads.

    SpaceError for an unknown name, for a patch too small for three poolings and for values of
    knobs that are no net.
    """
    if name not in ARCHITECTURES:
        allowed = ", ".join(ARCHITECTURES)
        raise SpaceError(f"architecture {name!r} is unknown; choose one of {allowed}")
    if min(shape[:2]) < SMALLEST_SIDE:
        raise SpaceError(
            f"patches of {shape[1]}x{shape[0]} are too small for {name}; shard them with"
            f" --size {SMALLEST_SIDE} or more"
        )
    part = ARCHITECTURES[name]
    try:
        return part(shape, classes, **given(part, knobs))
    except ValueError as fault:  # torch's own, of a dropout outside 0 to 1
        raise SpaceError(f"{name}: {fault}") from fault


def knobs_of(part: Callable[..., Any]) -> frozenset[str]:
    """The keyword-only parameters of `part`: the knobs that it reads."""
    parameters = inspect.signature(part).parameters.values()
    return frozenset(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)


def given(part: Callable[..., Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `knobs` that `part` reads."""
    return {name: value for name, value in knobs.items() if name in knobs_of(part)}
