"""Small CNNs that are trained from random weights."""

from __future__ import annotations

from torch import nn

from raysearch.errors import SpaceError
from raysearch.models import PatchShape, is_bag_shape
from raysearch.models.architectures.bag_networks import MeanClassifier


def benchmark(shape: PatchShape, num_classes: int) -> nn.Module:
    """Build one 3x3 convolution of 32 filters with ReLU, followed by one linear layer.

    It is the Keras benchmark of "Rapid Diagnosis of IDC" (Levi-Raz, 2018). Its description does not
    specify the number of filters and the kernel size. The softmax is part of the loss here.
    Of bags, it is a linear classifier of the mean features of a slide.
    """
    if is_bag_shape(shape):
        return MeanClassifier(shape[1], num_classes)
    height, width, channels = shape
    num_features = 32 * (height - 2) * (width - 2)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(num_features, num_classes),
    )


def cnn(
    shape: PatchShape,
    num_classes: int,
    *,
    stages: int,
    convolutions: int,
    width: int,
    kernel_size: int,
    pooling: str,
    stage_dropout: float,
    head: str,
    hidden_units: int,
    hidden_layers: int,
    dropout: float,
) -> nn.Module:
    """Build a VGG-style CNN with batch normalization.

    Three convolutions, width 32 and a flat head make the nine-convolution network of
    "Breast-Cancer-Detection" for 50x50 IDC patches; its description does not specify the dropout.

    Args:
        shape: The patch shape (H, W, 3).
        num_classes: The number of logits.
        stages: The number of stages; each halves the side and doubles the width.
        convolutions: The number of convolutions of a stage.
        width: The number of filters of the first stage.
        kernel_size: The kernel size of the convolutions.
        pooling: How a stage halves the side: `max`, `average`, or `strided` (a convolution).
        stage_dropout: The dropout after each stage.
        head: `pooled` (global average pooling) or `flat` (all positions, and hidden layers).
        hidden_units: The number of units of each hidden layer of a flat head.
        hidden_layers: The number of hidden layers of a flat head.
        dropout: The dropout between the hidden layers and before the logits.

    Raises:
        SpaceError: If the patch is too small for the stages.
    """
    patch_height, patch_width, channels = shape
    if min(patch_height, patch_width) < 2**stages:
        raise SpaceError(
            f"stages {stages} is too many for patches of {patch_width}x{patch_height}: each halves"
            " them; choose fewer"
        )
    layers: list[nn.Module] = []
    for stage in range(stages):
        out_channels = width * 2**stage
        for _ in range(convolutions):
            layers += _convolution(channels, out_channels, kernel_size)
            channels = out_channels
        if pooling == "strided":
            layers += _convolution(channels, channels, kernel_size, stride=2)
        else:
            layers.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
        if stage_dropout:
            layers.append(nn.Dropout(stage_dropout))
    if head == "pooled":
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        num_features = channels
    else:
        layers.append(nn.Flatten())
        # Pooling drops the last pixel of an odd side; a strided convolution keeps it.
        round_up = (1 << stages) - 1 if pooling == "strided" else 0
        rows, columns = ((side + round_up) >> stages for side in (patch_height, patch_width))
        num_features = channels * rows * columns
        for number in range(hidden_layers):
            layers += [nn.Dropout(dropout)] if number else []
            layers += [nn.Linear(num_features, hidden_units), nn.ReLU(inplace=True)]
            num_features = hidden_units
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(num_features, num_classes))


def _convolution(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> list[nn.Module]:
    total_padding = kernel_size - 1
    # An even kernel has no center: the second side is padded by one pixel more than the first.
    before, after = total_padding // 2, total_padding - total_padding // 2
    is_symmetric = before == after
    return [
        *([] if is_symmetric else [nn.ZeroPad2d((before, after) * 2)]),
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            before if is_symmetric else 0,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]
