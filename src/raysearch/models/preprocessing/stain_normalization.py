"""Stain normalization: gives the stain of a reference to each patch (Reinhard, Macenko)."""

from __future__ import annotations

import torch
from torch import Tensor

from raysearch.models.preprocessing.lab import from_lab, to_lab, to_uint8

# An optical density (natural logarithm) below this is glass (Macenko et al., 2009). It is the mean
# of the three colors: eosin alone transmits nearly all red light.
MIN_OPTICAL_DENSITY = 0.15
# The stain of a patch with a smaller fraction of tissue cannot be estimated.
MIN_TISSUE_FRACTION = 0.1
# The mean and the standard deviation of L, a and b.
REINHARD_SIZE = 6
# In units of Lab. Scaling a patch that varies less would amplify its noise.
MIN_DEVIATION = 0.1
# The optical densities of hematoxylin and of eosin in red, green and blue, and the maximum
# concentration of each.
MACENKO_SIZE = 8
# The fraction of pixels beyond each robust extreme.
TAIL_FRACTION = 0.01
# The minimum square of the sine between two stain vectors.
MIN_SINE_SQUARED = 1e-3
# In units of optical density.
MIN_CONCENTRATION = 0.05


def optical_density(pixels: Tensor) -> Tensor:
    """Return the optical density, float64 (B, P, 3), of uint8 `pixels` (B, P, 3)."""
    return -torch.log(pixels.double().clamp(min=1) / 255)


def tissue_mask(density: Tensor) -> Tensor:
    """Return whether each pixel of `density` (B, P, 3) is tissue, bool (B, P)."""
    return density.mean(dim=-1) > MIN_OPTICAL_DENSITY


def _has_enough_tissue(tissue: Tensor) -> Tensor:
    """Return whether the stain of each patch can be estimated, bool (B,), from `tissue` (B, P)."""
    return tissue.double().mean(dim=1) >= MIN_TISSUE_FRACTION


def reinhard_statistics(patches: Tensor) -> Tensor:
    """Return the mean and standard deviation of the tissue in Lab.

    "Color Transfer between Images" (Reinhard et al., 2001), in Lab instead of l-alpha-beta, and of
    tissue only: glass stays white.

    Args:
        patches: uint8, shape (B, H, W, 3).

    Returns:
        float64, shape (B, 6); NaN for a patch with too little tissue or variation.
    """
    pixels = patches.flatten(1, 2)
    return _lab_statistics(to_lab(pixels), tissue_mask(optical_density(pixels)))


def reinhard_normalize(patches: Tensor, target: Tensor) -> Tensor:
    """Give the Lab statistics `target` (6,) to the tissue of uint8 `patches` (B, H, W, 3)."""
    pixels = patches.flatten(1, 2)
    lab, tissue = to_lab(pixels), tissue_mask(optical_density(pixels))
    source = _lab_statistics(lab, tissue)[:, None]
    normalized = (lab - source[..., :3]) / source[..., 3:] * target[3:] + target[:3]
    is_changed = tissue[..., None] & normalized.isfinite().all(dim=-1, keepdim=True)
    normalized = from_lab(torch.where(is_changed, normalized, lab))
    return torch.where(is_changed, normalized, pixels).view_as(patches)


def _lab_statistics(lab: Tensor, tissue: Tensor) -> Tensor:
    weight = tissue.double()[..., None]
    count = weight.sum(dim=1).clamp(min=1)
    mean = (lab * weight).sum(dim=1) / count
    squares = ((lab - mean[:, None]) ** 2 * weight).sum(dim=1)
    deviation = (squares / count).sqrt()
    is_valid = _has_enough_tissue(tissue) & (deviation > MIN_DEVIATION).all(dim=1)
    return torch.where(is_valid[:, None], torch.cat([mean, deviation], dim=1), torch.nan)


def macenko_stains(patches: Tensor) -> Tensor:
    """Estimate the two stain vectors and the maximum concentrations of each patch.

    "A method for normalizing histology slides for quantitative analysis" (Macenko et al., 2009).
    The stain vectors are the extreme directions of the optical densities in their principal plane.

    Args:
        patches: uint8, shape (B, H, W, 3).

    Returns:
        float64, shape (B, 8); NaN for a patch with too little tissue, or with only one stain.
    """
    return _unmix(optical_density(patches.flatten(1, 2)))[0]


def macenko_normalize(patches: Tensor, target: Tensor) -> Tensor:
    """Replace the two stains of uint8 `patches` (B, H, W, 3) by those of `target` (8,)."""
    density = optical_density(patches.flatten(1, 2))
    source, concentrations = _unmix(density)
    stains = torch.nn.functional.normalize(target[:6].view(2, 3), dim=1)
    normalized = (concentrations * (target[6:] / source[:, None, 6:])) @ stains
    is_valid = normalized.isfinite().all(dim=-1)[..., None]
    pixels = to_uint8(255 * torch.exp(-normalized.nan_to_num()))
    return torch.where(is_valid, pixels, patches.flatten(1, 2)).view_as(patches)


def _unmix(density: Tensor) -> tuple[Tensor, Tensor]:
    """Return the stains (B, 8), and the concentration of each at each pixel, (B, P, 2)."""
    tissue = tissue_mask(density)
    stains = _stain_vectors(density, tissue)
    cosine = (stains[:, 0] * stains[:, 1]).sum(dim=1)
    sine_squared = (1 - cosine**2).clamp(min=MIN_SINE_SQUARED / 2)
    # Least squares, by the inverse of [[1, cosine], [cosine, 1]].
    projections = density @ stains.transpose(1, 2)
    concentrations = (projections - cosine[:, None, None] * projections.flip(-1)) / sine_squared[
        :, None, None
    ]
    maxima = [
        _masked_quantile(concentrations[..., stain], tissue, 1 - TAIL_FRACTION)
        for stain in range(2)
    ]
    parameters = torch.cat([stains.flatten(1), torch.stack(maxima, dim=1)], dim=1)
    is_valid = (
        _has_enough_tissue(tissue)
        & (sine_squared > MIN_SINE_SQUARED)
        & (parameters[:, 6:] > MIN_CONCENTRATION).all(dim=1)
    )
    return torch.where(is_valid[:, None], parameters, torch.nan), concentrations


def _stain_vectors(density: Tensor, tissue: Tensor) -> Tensor:
    """Return the unit optical densities (B, 2, 3) of hematoxylin and eosin.

    Hematoxylin absorbs more red light. As in the paper, the plane is that of the densities
    themselves, not of their deviations from the mean. Its first direction is therefore the mean
    direction up to its sign, and no angle to it reaches 90 degrees.
    """
    tissue_density = density * tissue.double()[..., None]
    _values, directions = torch.linalg.eigh(tissue_density.transpose(1, 2) @ tissue_density)
    first, second = directions[:, :, 2], directions[:, :, 1]
    first = first * torch.where(first.sum(dim=1) < 0, -1.0, 1.0)[:, None]
    x, y = ((density @ direction[:, :, None]).squeeze(-1) for direction in (first, second))
    angle = torch.atan2(y, x)
    extremes = []
    for fraction in (TAIL_FRACTION, 1 - TAIL_FRACTION):
        extreme = _masked_quantile(angle, tissue, fraction)[:, None].nan_to_num()
        extremes.append(torch.cos(extreme) * first + torch.sin(extreme) * second)
    low, high = extremes
    is_swapped = (low[:, 0] < high[:, 0])[:, None]
    return torch.stack(
        [torch.where(is_swapped, high, low), torch.where(is_swapped, low, high)], dim=1
    )


def _masked_quantile(values: Tensor, mask: Tensor, fraction: float) -> Tensor:
    """Return the quantile `fraction` (B,) of the `values` (B, P) in `mask`; NaN if it is empty."""
    ordered = values.masked_fill(~mask, torch.inf).sort(dim=1).values
    position = fraction * (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0).double()
    low = ordered.gather(1, position.floor().long())
    high = ordered.gather(1, position.ceil().long())
    quantile = torch.where(low == high, low, low + (high - low) * (position - position.floor()))
    return torch.where(mask.any(dim=1), quantile.squeeze(1), torch.nan)
