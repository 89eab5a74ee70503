"""Contrast-limited adaptive histogram equalisation of lightness (Zuiderveld, 1994)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raysearch.models.preprocessing.filters import taken
from raysearch.models.preprocessing.lab import LIGHTEST, from_lab, to_lab

LEVELS = 256


def equalised(patches: Tensor, clip: float, tiles: int) -> Tensor:
    """uint8 `patches` (B, H, W, 3) with the lightness of Lab equalised by `equalised_levels`."""
    colours = to_lab(patches)
    levels = (colours[..., 0] * (255 / LIGHTEST)).round().clamp(0, 255).long()
    changed = equalised_levels(levels, clip, tiles) * (LIGHTEST / 255)
    return from_lab(torch.cat([changed[..., None], colours[..., 1:]], dim=-1))


def equalised_levels(levels: Tensor, clip: float, tiles: int) -> Tensor:
    """`levels` (B, H, W), int64 from 0 to 255, as OpenCV's CLAHE gives them; float64, whole.

    Each of `tiles` x `tiles` is equalised by its own histogram, of which no level has more than
    `clip` times the even share, or one pixel; between the tiles' centres it is blended. (Where
    only one side is no multiple of its tiles, OpenCV adds a tile to the other one, too.)
    """
    height, width = levels.shape[1:]
    down, across = -(-height // tiles), -(-width // tiles)
    rows, columns = (
        np.pad(np.arange(side), (0, one * tiles - side), mode="reflect").tolist()
        for side, one in ((height, down), (width, across))
    )
    whole = taken(levels, rows, columns).view(-1, tiles, down, tiles, across)
    inside = whole.transpose(2, 3).reshape(-1, tiles * tiles, down * across)
    counts = inside.new_zeros((*inside.shape[:2], LEVELS))
    counts = counts.scatter_add(2, inside, torch.ones_like(inside))
    most = max(int(clip * down * across / LEVELS), 1)
    fractions = _limited(counts, most).cumsum(dim=2).float() * (255 / (down * across))
    curves = fractions.round().clamp(0, 255).reshape(-1, tiles * tiles * LEVELS)
    top, bottom, below = _between(height, down, tiles, levels)
    left, right, beside = _between(width, across, tiles, levels)

    def read(rows: Tensor, columns: Tensor) -> Tensor:
        places = (rows[:, None] * tiles + columns) * LEVELS + levels
        return curves.gather(1, places.flatten(1)).view_as(levels)

    upper = read(top, left) * (1 - beside) + read(top, right) * beside
    lower = read(bottom, left) * (1 - beside) + read(bottom, right) * beside
    return (upper * (1 - below[:, None]) + lower * below[:, None]).round().double()


def _limited(counts: Tensor, most: int) -> Tensor:
    """Histograms (..., 256) of which no level has above `most`; the rest is spread evenly."""
    above = (counts - most).clamp(min=0).sum(dim=-1, keepdim=True)
    even, left = above // LEVELS, above % LEVELS
    step = (LEVELS // left.clamp(min=1)).clamp(min=1)
    place = torch.arange(LEVELS, device=counts.device)
    more = (place % step == 0) & (place // step < left)
    return counts.clamp(max=most) + even + more


def _between(side: int, tile: int, tiles: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `side` pixels the tiles before and after it, and how far it is from the first."""
    place = torch.arange(side, dtype=torch.float32, device=like.device) * (1 / tile) - 0.5
    first = place.floor()
    before, after = first.clamp(min=0), (first + 1).clamp(max=tiles - 1)
    return before.long(), after.long(), place - first
