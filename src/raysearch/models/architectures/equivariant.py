"""A small net of group convolutions: a flipped or turned patch gives the same answer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysearch.models.dihedral import turned
from raysearch.models.patch_shape import Shape

TURNS = 8
STAGES = 3


def _products() -> list[list[int]]:
    """The number of the turn that comes of two, one after the other: [second][first]."""
    square = torch.arange(9.0).view(1, 1, 3, 3)
    each = [turned(square, kind) for kind in range(TURNS)]
    return [
        [
            next(kind for kind in range(TURNS) if torch.equal(turned(one, second), each[kind]))
            for one in each
        ]
        for second in range(TURNS)
    ]


PRODUCTS = _products()
INVERSES = [row.index(0) for row in PRODUCTS]


class Lifting(nn.Module):
    """3x3 filters in all 8 flips and turns: (B, C, H, W) to (B, out, 8, H, W)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.out = out
        self.weight = nn.Parameter(torch.empty(out, channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, batch: Tensor) -> Tensor:
        """The answers of each filter in each turn."""
        bank = torch.stack([turned(self.weight, kind) for kind in range(TURNS)], dim=1)
        found = functional.conv2d(batch, bank.flatten(0, 1), padding=1)
        return torch.unflatten(found, 1, (self.out, TURNS))


class GroupConvolution(nn.Module):
    """3x3 filters over the 8 turns (Cohen and Welling, 2016): (B, C, 8, H, W) to (B, out, 8, H, W).

    Turned with the image, a filter reads the turns in the order that they then have.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.out = out
        # Four dimensions, and the turns among the channels: a channels-last net has no more.
        self.weight = nn.Parameter(torch.empty(out, channels * TURNS, 3, 3))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (channels * TURNS * 9)))

    def forward(self, batch: Tensor) -> Tensor:
        """The answers of each filter in each turn."""
        turns = []
        weight = torch.unflatten(self.weight, 1, (-1, TURNS))
        for kind in range(TURNS):
            order = [PRODUCTS[INVERSES[kind]][one] for one in range(TURNS)]
            filters = weight[:, :, order].flatten(1, 2)
            turns.append(turned(filters, kind))
        bank = torch.stack(turns, dim=1).flatten(0, 1)
        found = functional.conv2d(batch.flatten(1, 2), bank, padding=1)
        return torch.unflatten(found, 1, (self.out, TURNS))


def halved(batch: Tensor) -> Tensor:
    """The largest of each few pixels of (B, C, 8, H, W), alike from every side.

    Windows of 2 on an even side, of 3 around every second pixel on an odd one.
    """
    flat = batch.flatten(1, 2)
    odd = [side % 2 for side in flat.shape[2:]]
    kernel, padding = [2 + one for one in odd], odd
    found = functional.max_pool2d(flat, kernel, stride=2, padding=padding)
    return torch.unflatten(found, 1, batch.shape[1:3])


class P4M(nn.Module):
    """Three stages of two group convolutions, each stage halving the side; then means, and classes.

    The largest over the turns and the mean over the positions do not change with the patch's turn.
    """

    def __init__(self, channels: int, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for stage in range(STAGES):
            after = width * 2**stage
            first = Lifting(before, after) if stage == 0 else GroupConvolution(before, after)
            layers += [
                nn.Sequential(layer, nn.BatchNorm3d(after), nn.ReLU(inplace=True))
                for layer in (first, GroupConvolution(after, after))
            ]
            before = after
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(before, classes)

    def forward(self, batch: Tensor) -> Tensor:
        """The logits (B, classes) of a normalised batch (B, C, H, W)."""
        for number, layer in enumerate(self.layers):
            batch = layer(batch)
            if number % 2:
                batch = halved(batch)
        features = batch.amax(dim=2).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(features))
        return logits


def p4m(shape: Shape, classes: int, *, width: int = 8, dropout: float = 0.0) -> nn.Module:
    """A small net whose logits are the same for all 8 flips and turns of a square patch.

    Group convolutions over p4m, as the PCam anchor has them (Veeling et al., 2018); `width` is that
    of the first stage, in filters of 8 turns each.
    """
    return P4M(shape[2], classes, width, dropout)
