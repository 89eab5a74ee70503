"""Stain normalisation by two stain vectors (Macenko et al., 2009).

"A method for normalizing histology slides for quantitative analysis", ISBI 2009. A patch's stains
are the extreme directions of its densities in the plane that these mostly lie in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raysearch.models.preprocessing.filters import in_bytes
from raysearch.models.preprocessing.tissue import densities, enough, tissue_of

# The densities of haematoxylin and of eosin in red, green and blue, and the most there is of each.
SIZE = 8
# The extremes are robust: so many of all pixels lie beyond each.
BEYOND = 0.01
# The square of the sine between two stains; below it they are one.
NARROWEST = 1e-3
# Units of density; of a stain there is at least as much at its most.
MIN_STAIN = 0.05


def measured(patches: Tensor) -> Tensor:
    """The stains (B, 8) of uint8 `patches` (B, H, W, 3).

    NaN where there is too little tissue, or only one stain.
    """
    return _measured(densities(patches.flatten(1, 2)))[0]


def normalised(patches: Tensor, target: Tensor) -> Tensor:
    """uint8 `patches` (B, H, W, 3) with their two stains exchanged for those of `target` (8,)."""
    density = densities(patches.flatten(1, 2))
    own, amounts = _measured(density)
    stains = torch.nn.functional.normalize(target[:6].view(2, 3), dim=1)
    changed = (amounts * (target[6:] / own[:, None, 6:])) @ stains
    known = changed.isfinite().all(dim=-1)[..., None]
    found = in_bytes(255 * torch.exp(-changed.nan_to_num()))
    return torch.where(known, found, patches.flatten(1, 2)).view_as(patches)


def _measured(density: Tensor) -> tuple[Tensor, Tensor]:
    """The stains (B, 8), and how much of each there is at each pixel, (B, P, 2)."""
    tissue = tissue_of(density)
    stains = _stains(density, tissue)
    cosine = (stains[:, 0] * stains[:, 1]).sum(dim=1)
    apart = (1 - cosine**2).clamp(min=NARROWEST / 2)
    # Least squares, by the inverse of [[1, cosine], [cosine, 1]].
    shades = density @ stains.transpose(1, 2)
    amounts = (shades - cosine[:, None, None] * shades.flip(-1)) / apart[:, None, None]
    most = [_quantile(amounts[..., one], tissue, 1 - BEYOND) for one in range(2)]
    found = torch.cat([stains.flatten(1), torch.stack(most, dim=1)], dim=1)
    told = enough(tissue) & (apart > NARROWEST) & (found[:, 6:] > MIN_STAIN).all(dim=1)
    return torch.where(told[:, None], found, torch.nan), amounts


def _stains(density: Tensor, tissue: Tensor) -> Tensor:
    """The unit densities (B, 2, 3) of haematoxylin, which takes more of the red, and of eosin.

    The plane is that of the densities themselves and not of how they vary about their mean, as in
    the paper: its first direction is then the mean one, whatever its sign, and no angle to it
    reaches a right one.
    """
    inside = density * tissue.double()[..., None]
    _values, directions = torch.linalg.eigh(inside.transpose(1, 2) @ inside)
    first, second = directions[:, :, 2], directions[:, :, 1]
    first = first * torch.where(first.sum(dim=1) < 0, -1.0, 1.0)[:, None]
    along, across = ((density @ one[:, :, None]).squeeze(-1) for one in (first, second))
    angle = torch.atan2(across, along)
    ends = []
    for fraction in (BEYOND, 1 - BEYOND):
        turned = _quantile(angle, tissue, fraction)[:, None].nan_to_num()
        ends.append(torch.cos(turned) * first + torch.sin(turned) * second)
    one, other = ends
    swapped = (one[:, 0] < other[:, 0])[:, None]
    return torch.stack([torch.where(swapped, other, one), torch.where(swapped, one, other)], dim=1)


def _quantile(values: Tensor, within: Tensor, fraction: float) -> Tensor:
    """The quantile `fraction` (B,) of those `values` (B, P) that are `within` (B, P); NaN of none."""
    ordered = values.masked_fill(~within, torch.inf).sort(dim=1).values
    place = fraction * (within.sum(dim=1, keepdim=True) - 1).clamp(min=0).double()
    low = ordered.gather(1, place.floor().long())
    high = ordered.gather(1, place.ceil().long())
    found = torch.where(low == high, low, low + (high - low) * (place - place.floor()))
    return torch.where(within.any(dim=1), found.squeeze(1), torch.nan)
