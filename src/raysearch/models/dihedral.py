"""The flips and quarter turns of a patch: tissue has no up and no left."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def kinds(height: int, width: int) -> int:
    """How many flips and turns a patch has.

    8 where it is square (numbered 0, none, to 7), else 4: flips and half turns.
    """
    return 8 if height == width else 4


def turned(batch: Tensor, kind: int) -> Tensor:
    """Every patch of `batch` (B, C, H, W) in the flip or turn number `kind`."""
    flips = [axis for bit, axis in ((1, 2), (2, 3)) if kind & bit]
    batch = batch.transpose(2, 3) if kind & 4 else batch
    return batch.flip(flips) if flips else batch


class DihedralMean(nn.Module):
    """A net whose logits are the mean of those of all flips and turns of a patch."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Tensor) -> Tensor:
        """The mean logits (B, classes), float32, of a normalised batch (B, 3, H, W)."""
        logits = [self.net(turned(batch, kind)).float() for kind in range(kinds(*batch.shape[2:]))]
        return torch.stack(logits).mean(dim=0)


# Which model judges, by the hyperparameter `tta`: test-time averaging.
AVERAGES = {"none": lambda net: net, "dihedral": DihedralMean}
# How often its net then sees each patch, by its height and width.
VIEWS: dict[str, Callable[[int, int], int]] = {"none": lambda _height, _width: 1, "dihedral": kinds}
