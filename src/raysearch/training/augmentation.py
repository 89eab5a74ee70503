"""What a patch may look like as well, drawn anew in each epoch: on the device, on whole batches.

Every random number comes from a CPU generator, so that a draw is the same on every device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Optical densities of haematoxylin, eosin and the residual (Ruifrok and Johnston, 2001), rows.
STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))
# Of red, green and blue in what an eye calls bright (ITU-R BT.601).
BRIGHT = (0.299, 0.587, 0.114)
DARKEST = 1 / 255


AUGMENTATIONS = ("none", "dihedral")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The augmentations of a trial, each with its strength; 0 is none.

    `augment`: `dihedral` for one of the flips and quarter turns, or `none`. `shift` and `cutout`
    are shares of the side, `zoom` and `color_jitter` shares of the size and of brightness,
    contrast and saturation, `rotation` degrees, `stain_jitter` the share by which each stain's
    density varies.
    """

    augment: str = "dihedral"
    shift: float = 0.0
    zoom: float = 0.0
    rotation: float = 0.0
    color_jitter: float = 0.0
    stain_jitter: float = 0.0
    cutout: float = 0.0

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """`batch`, normalised float32 (B, 3, H, W), as drawn by `generator`, a CPU one.

        But for the flips and turns, which bytes have before they are normalised (`batch_of`).
        """
        if self.shift or self.zoom or self.rotation:
            batch = self.moved(batch, generator)
        if self.stain_jitter:
            batch = stain_jittered(batch, self.stain_jitter, generator)
        if self.color_jitter:
            batch = colour_jittered(batch, self.color_jitter, generator)
        if self.cutout:
            batch = cutout(batch, self.cutout, generator)
        return batch

    @property
    def turns(self) -> bool:
        """Whether patches are flipped and turned."""
        return self.augment == "dihedral"

    def moved(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Each patch turned, zoomed and shifted; what comes in from outside is its reflection."""
        shape = (len(batch),)
        angle = uniform(shape, math.radians(self.rotation), generator)
        zoom = torch.exp(uniform(shape, math.log1p(self.zoom), generator))
        # The grid counts from -1 to 1: a side is 2 long.
        shift = 2 * uniform((len(batch), 2), self.shift, generator)
        height, width = batch.shape[2:]
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        matrix = torch.stack(
            [
                torch.stack([cos, -sin * height / width, shift[:, 0]], dim=1),
                torch.stack([sin * width / height, cos, shift[:, 1]], dim=1),
            ],
            dim=1,
        )
        grid = functional.affine_grid(
            matrix.to(batch.device), list(batch.shape), align_corners=False
        )
        return functional.grid_sample(
            batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )


def uniform(shape: tuple[int, ...], most: float, generator: torch.Generator) -> Tensor:
    """Evenly drawn numbers from -`most` to `most`, float32, on the CPU."""
    return (torch.rand(shape, generator=generator) * 2 - 1) * most


def stain_jittered(batch: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Each patch with more or less of each stain (Tellez et al., 2018).

    A stain's density is multiplied by 1 +- `strength` at most, and a tenth of `strength` at most
    is added, in units of optical density.
    """
    stains = torch.tensor(STAINS)
    stains = stains / stains.norm(dim=1, keepdim=True)
    scale = 1 + uniform((len(batch), 3), strength, generator)
    offset = uniform((len(batch), 3), strength / 10, generator)
    # Densities as columns: colours = stains.T @ amounts, so amounts = inverse @ colours.
    columns = stains.T
    matrix = columns @ (scale[:, :, None] * torch.linalg.inv(columns))
    density = -torch.log(((batch + 1) / 2).clamp(min=DARKEST))
    changed = _coloured(density, matrix, offset @ stains)
    return torch.exp(-changed).clamp(0, 1) * 2 - 1


def colour_jittered(batch: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Each patch with its brightness, contrast and saturation 1 +- `strength` times, at most."""
    drawn = 1 + uniform((3, len(batch), 1), strength, generator)
    brightness, contrast, saturation = drawn.to(batch.device)
    grey = torch.tensor(BRIGHT, device=batch.device)
    saturating = saturation[:, :, None]
    matrix = saturating * torch.eye(3, device=batch.device) + (1 - saturating) * grey.expand(3, 3)
    # In units of 0 to 1; contrast is about each patch's mean brightness.
    middle = (batch.mean(dim=(2, 3)) + 1) / 2 @ grey
    offset = (brightness * (1 - contrast) * middle[:, None]).expand(-1, 3)
    scaled = (brightness * contrast)[:, :, None] * matrix
    return _coloured((batch + 1) / 2, scaled, offset).clamp(0, 1) * 2 - 1


def cutout(batch: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """Each patch with a grey square of `fraction` of its side somewhere (DeVries and Taylor, 2017)."""
    rows, columns = (_span(len(batch), side, fraction, generator) for side in batch.shape[2:])
    hole = rows[:, None, :, None] & columns[:, None, None, :]
    return batch.masked_fill(hole.to(batch.device), 0.0)


def _span(patches: int, side: int, fraction: float, generator: torch.Generator) -> Tensor:
    """For each patch which of its `side` pixels lie in a stretch of `fraction` of them, (B, side)."""
    centre = torch.rand((patches, 1), generator=generator) * side
    return (torch.arange(side) + 0.5 - centre).abs() <= fraction * side / 2


def _coloured(batch: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """The colours of `batch` (B, 3, H, W) by a matrix (B, 3, 3) and an offset (B, 3) a patch."""
    matrix, offset = matrix.to(batch.device), offset.to(batch.device)
    return torch.einsum("bij,bjhw->bihw", matrix, batch) + offset[:, :, None, None]
