"""Optical densities of stained tissue, and where there is tissue at all."""

from __future__ import annotations

import torch
from torch import Tensor

# Natural logarithms; what is thinner than this is glass (Macenko et al., 2009). On the mean of the
# three colours: eosin alone lets nearly all of the red through, and is tissue.
THINNEST = 0.15
# Of a patch's pixels; with less, its stain is not told.
MIN_TISSUE = 0.1


def densities(pixels: Tensor) -> Tensor:
    """The optical density, float64 (B, P, 3), of uint8 `pixels` (B, P, 3)."""
    return -torch.log(pixels.double().clamp(min=1) / 255)


def tissue_of(density: Tensor) -> Tensor:
    """Which pixels of `density` (B, P, 3) are tissue, (B, P)."""
    return density.mean(dim=-1) > THINNEST


def enough(tissue: Tensor) -> Tensor:
    """Which patches have tissue enough to tell their stain by, (B,), of `tissue` (B, P)."""
    return tissue.double().mean(dim=1) >= MIN_TISSUE
