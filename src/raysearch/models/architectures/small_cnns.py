"""The small nets that this field trains from scratch."""

from __future__ import annotations

from torch import nn

from raysearch.errors import SpaceError
from raysearch.models.patch_shape import Shape

HEADS = ("pooled", "flat")
POOLINGS = ("max", "average", "strided")


def benchmark(shape: Shape, classes: int) -> nn.Module:
    """One 3x3 convolution of 32 filters with ReLU, then one dense layer.

    The Keras benchmark of "Rapid Diagnosis of IDC" (Levi-Raz, 2018), whose text leaves the
    number of filters and the kernel open; its softmax is in the loss here.
    """
    height, width, channels = shape
    features = 32 * (height - 2) * (width - 2)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(features, classes),
    )


def cnn(
    shape: Shape,
    classes: int,
    *,
    stages: int = 3,
    convolutions: int = 2,
    width: int = 32,
    kernel: int = 3,
    pooling: str = "max",
    stage_dropout: float = 0.0,
    head: str = "pooled",
    dense: int = 256,
    hidden_layers: int = 1,
    dropout: float = 0.0,
) -> nn.Module:
    """`stages` of `convolutions` convolutions with batch norm, each stage halving the side.

    A stage is twice as wide as the one before it; the first is `width` wide. `pooling` halves by
    the `max`, the `average`, or a further convolution (`strided`); `stage_dropout` follows. The
    head is `pooled` (global average) or `flat` (all positions, and `hidden_layers` of `dense`
    units); `dropout` stands before each layer of it but the first, and before the classes. Three
    convolutions of width 32 and a flat head are the nine-convolution net of
    "Breast-Cancer-Detection" for 50x50 IDC patches; how much it drops out it does not say.
    SpaceError for values that are no net, and for more stages than the patch can be halved.
    """
    _reject_values(convolutions, width, kernel, pooling, head, dense)
    if hidden_layers < 1:
        raise SpaceError(f"hidden_layers {hidden_layers!r} is not allowed; choose 1 or more")
    height, across, before = shape
    if min(height, across) < 2**stages:
        raise SpaceError(
            f"stages {stages} is too many for patches of {across}x{height}: each halves them;"
            " choose fewer"
        )
    layers: list[nn.Module] = []
    for stage in range(stages):
        after = width * 2**stage
        for _ in range(convolutions):
            layers += _convolution(before, after, kernel)
            before = after
        if pooling == "strided":
            layers += _convolution(before, before, kernel, stride=2)
        else:
            layers.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
        if stage_dropout:
            layers.append(nn.Dropout(stage_dropout))
    # Pooling drops the last of an odd number; a convolution keeps it.
    up = (1 << stages) - 1 if pooling == "strided" else 0
    side = [(one + up) >> stages for one in (height, across)]
    if head == "pooled":
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    else:
        layers.append(nn.Flatten())
        before *= side[0] * side[1]
        for number in range(hidden_layers):
            layers += [nn.Dropout(dropout)] if number else []
            layers += [nn.Linear(before, dense), nn.ReLU(inplace=True)]
            before = dense
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(before, classes))


def _convolution(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    pad = kernel - 1
    # An even kernel has no middle: one pixel more is padded after it than before.
    uneven = [nn.ZeroPad2d((pad // 2, pad - pad // 2) * 2)] if pad % 2 else []
    padding = 0 if uneven else pad // 2
    return [
        *uneven,
        nn.Conv2d(before, after, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]


def _reject_values(
    convolutions: int, width: int, kernel: int, pooling: str, head: str, dense: int
) -> None:
    if convolutions not in (1, 2, 3):
        raise SpaceError(f"convolutions {convolutions!r} is not allowed; choose 1, 2 or 3")
    if kernel < 1:
        raise SpaceError(f"kernel {kernel!r} is not allowed; choose 1 or more")
    if width < 1:
        raise SpaceError(f"width {width!r} is not allowed; choose 1 or more")
    if pooling not in POOLINGS:
        raise SpaceError(f"pooling {pooling!r} is unknown; choose one of {', '.join(POOLINGS)}")
    if head not in HEADS:
        raise SpaceError(f"head {head!r} is unknown; choose one of {', '.join(HEADS)}")
    if dense < 1:
        raise SpaceError(f"dense {dense!r} is not allowed; choose 1 or more")
