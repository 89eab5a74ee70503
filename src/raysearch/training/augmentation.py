"""Random augmentation of whole batches on the device of the batch.

All random numbers come from a CPU generator: they are the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from raysearch.config.custom_components import custom_component
from raysearch.config.hyperparameters import TrialParams

# Optical densities of hematoxylin, eosin and the residual in red, green and blue (Ruifrok and
# Johnston, 2001).
STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))
# The weights of red, green and blue in the luma (ITU-R BT.601).
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
MIN_INTENSITY = 1 / 255


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The augmentations of a trial; a strength of 0 disables one.

    Attributes:
        augment: `dihedral` for random flips and quarter turns, `none`, or an import path.
        shift: The maximum translation, as a fraction of the side.
        zoom: The maximum change of the scale: the factor is between 1 / (1 + zoom) and 1 + zoom.
        rotation: The maximum rotation in degrees.
        color_jitter: The maximum relative change of brightness, contrast and saturation.
        stain_jitter: The maximum relative change of the density of each stain.
        cutout: The side of the erased square, as a fraction of the side of the patch.
        custom: The augmentation of the user's that `augment` names; None if it names none.
    """

    augment: str
    shift: float
    zoom: float
    rotation: float
    color_jitter: float
    stain_jitter: float
    cutout: float
    custom: Callable[[Tensor, torch.Generator], Tensor] | None = None

    @classmethod
    def from_params(cls, params: TrialParams) -> Augmentation:
        """Return the augmentations of a trial."""
        return cls(
            augment=params.augment,
            shift=params.shift,
            zoom=params.zoom,
            rotation=params.rotation,
            color_jitter=params.color_jitter,
            stain_jitter=params.stain_jitter,
            cutout=params.cutout,
            custom=custom_component("augment", params),
        )

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Augment `batch`, normalized float32 (B, 3, H, W), with a CPU generator.

        The dihedral transforms are not part of it: `normalized_batch` applies them to bytes.
        """
        if self.shift or self.zoom or self.rotation:
            batch = self.random_affine(batch, generator)
        if self.stain_jitter:
            batch = jitter_stains(batch, self.stain_jitter, generator)
        if self.color_jitter:
            batch = jitter_colors(batch, self.color_jitter, generator)
        if self.cutout:
            batch = cutout(batch, self.cutout, generator)
        if self.custom is None:
            return batch
        augmented = self.custom(batch, generator)
        if augmented.shape != batch.shape:
            raise ValueError(
                f"{self.augment} returns shape {tuple(augmented.shape)} for {tuple(batch.shape)};"
                " return patches of the same shape"
            )
        return augmented

    @property
    def has_dihedral(self) -> bool:
        """Whether patches get random dihedral transforms."""
        return self.augment == "dihedral"

    def random_affine(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Rotate, scale and translate each patch; its reflection fills the border."""
        shape = (len(batch),)
        angle = uniform(shape, math.radians(self.rotation), generator)
        scale = torch.exp(uniform(shape, math.log1p(self.zoom), generator))
        # The coordinates of the grid are from -1 to 1: a side has length 2.
        shift = 2 * uniform((len(batch), 2), self.shift, generator)
        height, width = batch.shape[2:]
        cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
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


def uniform(shape: tuple[int, ...], limit: float, generator: torch.Generator) -> Tensor:
    """Sample uniformly from [-limit, limit], float32, on the CPU."""
    return (torch.rand(shape, generator=generator) * 2 - 1) * limit


def jitter_stains(batch: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change the density of each stain of each patch at random (Tellez et al., 2018).

    The density is multiplied by 1 +- `strength`, and changed by +- `strength` / 10 in units of
    optical density.
    """
    stains = torch.tensor(STAINS)
    stains = stains / stains.norm(dim=1, keepdim=True)
    scale = 1 + uniform((len(batch), 3), strength, generator)
    offset = uniform((len(batch), 3), strength / 10, generator)
    # Densities are columns: density = stains.T @ concentrations, so the concentrations are
    # inverse(stains.T) @ density.
    columns = stains.T
    matrix = columns @ (scale[:, :, None] * torch.linalg.inv(columns))
    density = -torch.log(((batch + 1) / 2).clamp(min=MIN_INTENSITY))
    jittered = _transform_colors(density, matrix, offset @ stains)
    return torch.exp(-jittered).clamp(0, 1) * 2 - 1


def jitter_colors(batch: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Multiply brightness, contrast and saturation of each patch by 1 +- `strength`."""
    factors = 1 + uniform((3, len(batch), 1), strength, generator)
    brightness, contrast, saturation = factors.to(batch.device)
    luma_weights = torch.tensor(LUMA_WEIGHTS, device=batch.device)
    saturation = saturation[:, :, None]
    identity = torch.eye(3, device=batch.device)
    matrix = saturation * identity + (1 - saturation) * luma_weights.expand(3, 3)
    # Contrast is relative to the mean luma of the patch, in [0, 1].
    mean_luma = (batch.mean(dim=(2, 3)) + 1) / 2 @ luma_weights
    offset = (brightness * (1 - contrast) * mean_luma[:, None]).expand(-1, 3)
    matrix = (brightness * contrast)[:, :, None] * matrix
    return _transform_colors((batch + 1) / 2, matrix, offset).clamp(0, 1) * 2 - 1


def cutout(batch: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """Set a random square of each patch to gray (DeVries and Taylor, 2017).

    The side of the square is `fraction` of the side of the patch.
    """
    rows, columns = (
        _random_interval(len(batch), side, fraction, generator) for side in batch.shape[2:]
    )
    mask = rows[:, None, :, None] & columns[:, None, None, :]
    return batch.masked_fill(mask.to(batch.device), 0.0)


def _random_interval(
    num_patches: int, side: int, fraction: float, generator: torch.Generator
) -> Tensor:
    """Return whether each pixel of a side is in a random interval, bool (B, side)."""
    center = torch.rand((num_patches, 1), generator=generator) * side
    return (torch.arange(side) + 0.5 - center).abs() <= fraction * side / 2


def _transform_colors(batch: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Apply a matrix (B, 3, 3) and an offset (B, 3) to the colors of `batch` (B, 3, H, W)."""
    matrix, offset = matrix.to(batch.device), offset.to(batch.device)
    return torch.einsum("bij,bjhw->bihw", matrix, batch) + offset[:, :, None, None]
