"""The small nets that this field trains from scratch."""

from __future__ import annotations

from torch import nn

from raysearch.errors import SpaceError
from raysearch.models.architectures.shape import Shape

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
