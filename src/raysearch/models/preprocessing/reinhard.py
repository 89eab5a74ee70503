"""Stain normalisation by means and deviations (Reinhard et al., "Color Transfer", 2001).

In Lab where the paper has l-alpha-beta, and of tissue alone: glass stays white.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raysearch.models.preprocessing.lab import from_lab, to_lab
from raysearch.models.preprocessing.tissue import densities, enough, tissue_of

# The means and the deviations of L, a and b.
SIZE = 6
# Units of Lab; what varies less is a flat patch, whose noise would be blown up.
FLAT = 0.1


def measured(patches: Tensor) -> Tensor:
    """The stain (B, 6) of uint8 `patches` (B, H, W, 3); NaN with too little tissue, or flat."""
    pixels = patches.flatten(1, 2)
    return _measured(to_lab(pixels), tissue_of(densities(pixels)))


def normalised(patches: Tensor, target: Tensor) -> Tensor:
    """The tissue of uint8 `patches` (B, H, W, 3) with the stain `target` (6,)."""
    pixels = patches.flatten(1, 2)
    colours, tissue = to_lab(pixels), tissue_of(densities(pixels))
    own = _measured(colours, tissue)[:, None]
    changed = (colours - own[..., :3]) / own[..., 3:] * target[3:] + target[:3]
    known = tissue[..., None] & changed.isfinite().all(dim=-1, keepdim=True)
    changed = from_lab(torch.where(known, changed, colours))
    return torch.where(known, changed, pixels).view_as(patches)


def _measured(colours: Tensor, tissue: Tensor) -> Tensor:
    weight = tissue.double()[..., None]
    count = weight.sum(dim=1).clamp(min=1)
    mean = (colours * weight).sum(dim=1) / count
    squares = ((colours - mean[:, None]) ** 2 * weight).sum(dim=1)
    deviation = (squares / count).sqrt()
    told = enough(tissue) & (deviation > FLAT).all(dim=1)
    return torch.where(told[:, None], torch.cat([mean, deviation], dim=1), torch.nan)
