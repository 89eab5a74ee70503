"""The dihedral group of flips and quarter turns: tissue has no preferred orientation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def num_dihedral_transforms(height: int, width: int) -> int:
    """Return the number of transforms that keep the shape of a patch.

    A square patch has 8: flips and quarter turns. Any other patch has 4: flips and half turns.
    Transform 0 is the identity.
    """
    return 8 if height == width else 4


def dihedral_transform(batch: Tensor, index: int) -> Tensor:
    """Apply the transform number `index` to every patch of `batch` (B, C, H, W)."""
    axes = [axis for bit, axis in ((1, 2), (2, 3)) if index & bit]
    batch = batch.transpose(2, 3) if index & 4 else batch
    return batch.flip(axes) if axes else batch


class DihedralMean(nn.Module):
    """Test-time augmentation: the mean of the logits of all dihedral transforms of a patch."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Tensor) -> Tensor:
        """Return the mean logits (B, classes), float32, of a normalized batch (B, 3, H, W)."""
        num_transforms = num_dihedral_transforms(*batch.shape[2:])
        logits = [
            self.net(dihedral_transform(batch, index)).float() for index in range(num_transforms)
        ]
        return torch.stack(logits).mean(dim=0)


# The wrapper of the network at validation, by the value of the hyperparameter `tta`.
TEST_TIME_AUGMENTATIONS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "none": lambda net: net,
    "dihedral": DihedralMean,
}
# The number of views of a patch (height, width) that the wrapped network computes.
NUM_VIEWS: dict[str, Callable[[int, int], int]] = {
    "none": lambda _height, _width: 1,
    "dihedral": num_dihedral_transforms,
}
