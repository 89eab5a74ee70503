"""A small group-equivariant CNN: its logits do not depend on the orientation of a patch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysearch.models import PatchShape
from raysearch.models.dihedral import dihedral_transform

GROUP_ORDER = 8  # flips and quarter turns of a square
NUM_STAGES = 3


def _cayley_table() -> list[list[int]]:
    """Return the transform that two transforms compose to, as table[second][first]."""
    square = torch.arange(9.0).view(1, 1, 3, 3)
    images = [dihedral_transform(square, index) for index in range(GROUP_ORDER)]
    return [
        [
            next(
                index
                for index in range(GROUP_ORDER)
                if torch.equal(dihedral_transform(image, second), images[index])
            )
            for image in images
        ]
        for second in range(GROUP_ORDER)
    ]


CAYLEY_TABLE = _cayley_table()
INVERSES = [row.index(0) for row in CAYLEY_TABLE]


class LiftingConvolution(nn.Module):
    """Convolve an image with 3x3 filters in all 8 orientations.

    Maps (B, C, H, W) to (B, out_channels, 8, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, batch: Tensor) -> Tensor:
        """Return the response of each filter in each orientation."""
        filters = torch.stack(
            [dihedral_transform(self.weight, index) for index in range(GROUP_ORDER)], dim=1
        )
        responses = functional.conv2d(batch, filters.flatten(0, 1), padding=1)
        return torch.unflatten(responses, 1, (self.out_channels, GROUP_ORDER))


class GroupConvolution(nn.Module):
    """Convolve over positions and orientations with 3x3 filters (Cohen and Welling, 2016).

    Maps (B, C, 8, H, W) to (B, out_channels, 8, H, W). A transformed filter reads the orientations
    in the order to which the transform permutes them.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        # The orientations are part of the channels: channels-last needs four dimensions.
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels * GROUP_ORDER, 3, 3))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (in_channels * GROUP_ORDER * 9)))

    def forward(self, batch: Tensor) -> Tensor:
        """Return the response of each filter in each orientation."""
        transformed = []
        weight = torch.unflatten(self.weight, 1, (-1, GROUP_ORDER))
        for index in range(GROUP_ORDER):
            inverse = INVERSES[index]
            order = [CAYLEY_TABLE[inverse][orientation] for orientation in range(GROUP_ORDER)]
            transformed.append(dihedral_transform(weight[:, :, order].flatten(1, 2), index))
        filters = torch.stack(transformed, dim=1).flatten(0, 1)
        responses = functional.conv2d(batch.flatten(1, 2), filters, padding=1)
        return torch.unflatten(responses, 1, (self.out_channels, GROUP_ORDER))


def symmetric_max_pool(batch: Tensor) -> Tensor:
    """Halve the sides of (B, C, 8, H, W) by a max pooling that commutes with the transforms.

    The window is 2 on an even side, and 3 around every second pixel on an odd side.
    """
    flat = batch.flatten(1, 2)
    padding = [side % 2 for side in flat.shape[2:]]
    kernel_size = [2 + pad for pad in padding]
    pooled = functional.max_pool2d(flat, kernel_size, stride=2, padding=padding)
    return torch.unflatten(pooled, 1, batch.shape[1:3])


class P4M(nn.Module):
    """Three stages of two group convolutions and a pooling, then a linear layer.

    The maximum over the orientations and the mean over the positions are invariant.
    """

    def __init__(self, in_channels: int, num_classes: int, width: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in range(NUM_STAGES):
            out_channels = width * 2**stage
            convolutions = (
                LiftingConvolution(in_channels, out_channels)
                if stage == 0
                else GroupConvolution(in_channels, out_channels),
                GroupConvolution(out_channels, out_channels),
            )
            layers += [
                nn.Sequential(convolution, nn.BatchNorm3d(out_channels), nn.ReLU(inplace=True))
                for convolution in convolutions
            ]
            in_channels = out_channels
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(in_channels, num_classes)

    def forward(self, batch: Tensor) -> Tensor:
        """Return the logits (B, classes) of a normalized batch (B, C, H, W)."""
        for number, layer in enumerate(self.layers):
            batch = layer(batch)
            if number % 2:
                batch = symmetric_max_pool(batch)
        features = batch.amax(dim=2).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(features))
        return logits


def p4m(shape: PatchShape, num_classes: int, *, width: int, dropout: float) -> nn.Module:
    """Build a CNN that is invariant to the flips and quarter turns of a square patch.

    It has group convolutions over p4m, as in Veeling et al. (2018).

    Args:
        shape: The patch shape (H, W, 3).
        num_classes: The number of logits.
        width: The number of filters of the first stage, each in 8 orientations.
        dropout: The dropout before the linear layer.
    """
    return P4M(shape[2], num_classes, width, dropout)
