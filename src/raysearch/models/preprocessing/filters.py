"""Image filters that reproduce OpenCV: sharpening, blurs, and CLAHE, of uint8 (B, H, W, 3)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from raysearch.models.preprocessing.lab import MAX_LIGHTNESS, float64, from_lab, to_lab, to_uint8

NUM_LEVELS = 256


def sharpen(patches: Tensor) -> Tensor:
    """Convolve with the kernel [[0, -1, 0], [-1, 5, -1], [0, -1, 0]], and clip to [0, 255].

    The border is reflected without the border pixel itself.
    """
    # Not int16, for which ONNX Runtime has no kernel.
    padded = _pad(patches, 1, "reflect").to(torch.int32)
    center = padded[:, 1:-1, 1:-1]
    vertical = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
    horizontal = padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return (5 * center - vertical - horizontal).clamp(0, 255).to(torch.uint8)


def gaussian_blur(patches: Tensor, sigma: float) -> Tensor:
    """Blur with a Gaussian of `sigma` pixels, truncated at 3 sigma; the border is reflected."""
    radius = math.ceil(3 * sigma)
    kernel = [math.exp(-0.5 * (x / sigma) ** 2) for x in range(-radius, radius + 1)]
    weights = [value / sum(kernel) for value in kernel]
    values = _pad(patches, radius, "reflect").float()
    for axis in (1, 2):
        side = patches.shape[axis]
        values = sum(
            (weight * values.narrow(axis, offset, side) for offset, weight in enumerate(weights)),
            start=values.new_zeros(()),
        )
    return to_uint8(values)


def median_blur(patches: Tensor) -> Tensor:
    """Replace each pixel by the median of its 3x3 neighborhood; the border is repeated."""
    padded = _pad(patches, 1, "edge")
    low, middle, high = _sort3(padded[:, :-2], padded[:, 1:-1], padded[:, 2:])
    # The median of nine values in sorted columns (Paeth, 1990).
    max_low = _sort3(*_three_columns(low))[2]
    median_middle = _sort3(*_three_columns(middle))[1]
    min_high = _sort3(*_three_columns(high))[0]
    return _sort3(max_low, median_middle, min_high)[1]


def _three_columns(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return values[:, :, :-2], values[:, :, 1:-1], values[:, :, 2:]


def _sort3(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sort three tensors element by element."""
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    middle = torch.maximum(low, c)
    return torch.minimum(low, c), torch.minimum(middle, high), torch.maximum(middle, high)


def _pad(patches: Tensor, width: int, mode: Literal["reflect", "edge"]) -> Tensor:
    """Pad `patches` (B, H, W, ...) by `width` pixels on each side."""
    rows, columns = (np.pad(np.arange(side), width, mode=mode) for side in patches.shape[1:3])
    return _take_pixels(patches, rows.tolist(), columns.tolist())


def _take_pixels(patches: Tensor, rows: list[int], columns: list[int]) -> Tensor:
    """Return the `rows` and `columns` of `patches` (B, H, W, ...), in that order."""
    row_indices = torch.tensor(rows, device=patches.device)
    column_indices = torch.tensor(columns, device=patches.device)
    return patches.index_select(1, row_indices).index_select(2, column_indices)


def clahe(patches: Tensor, clip_limit: float, tile_grid: int) -> Tensor:
    """Equalize the lightness (Lab) of `patches` by `equalize_levels`."""
    lab = to_lab(patches)
    levels = (lab[..., 0] * float64(255 / MAX_LIGHTNESS)).round().clamp(0, 255).long()
    lightness = equalize_levels(levels, clip_limit, tile_grid) * float64(MAX_LIGHTNESS / 255)
    return from_lab(torch.cat([lightness[..., None], lab[..., 1:]], dim=-1))


def equalize_levels(levels: Tensor, clip_limit: float, tile_grid: int) -> Tensor:
    """Contrast-limited adaptive histogram equalization, CLAHE (Zuiderveld, 1994).

    Each of `tile_grid` x `tile_grid` tiles is equalized by its own clipped histogram. The result is
    interpolated between the centers of the tiles. It equals OpenCV's CLAHE, except that OpenCV adds
    a tile to both sides if only one side is not a multiple of its tiles.

    Args:
        levels: int64 from 0 to 255, shape (B, H, W).
        clip_limit: The maximum count of a level, relative to a uniform histogram.
        tile_grid: The number of tiles a side.

    Returns:
        float64 whole numbers, shape (B, H, W).
    """
    height, width = levels.shape[1:]
    tile_height, tile_width = -(-height // tile_grid), -(-width // tile_grid)
    rows, columns = (
        np.pad(np.arange(side), (0, tile_side * tile_grid - side), mode="reflect").tolist()
        for side, tile_side in ((height, tile_height), (width, tile_width))
    )
    padded = _take_pixels(levels, rows, columns)
    tiles = padded.view(-1, tile_grid, tile_height, tile_grid, tile_width).transpose(2, 3)
    tiles = tiles.reshape(-1, tile_grid * tile_grid, tile_height * tile_width)
    histograms = tiles.new_zeros((*tiles.shape[:2], NUM_LEVELS))
    histograms = histograms.scatter_add(2, tiles, torch.ones_like(tiles))
    max_count = max(int(clip_limit * tile_height * tile_width / NUM_LEVELS), 1)
    scale = 255 / (tile_height * tile_width)
    mapping = _clip_histograms(histograms, max_count).cumsum(dim=2).float() * scale
    mapping = mapping.round().clamp(0, 255).reshape(-1, tile_grid * tile_grid * NUM_LEVELS)
    top, bottom, row_weight = _interpolation(height, tile_height, tile_grid, levels)
    left, right, column_weight = _interpolation(width, tile_width, tile_grid, levels)

    def mapped_by(tile_rows: Tensor, tile_columns: Tensor) -> Tensor:
        positions = (tile_rows[:, None] * tile_grid + tile_columns) * NUM_LEVELS + levels
        return mapping.gather(1, positions.flatten(1)).view_as(levels)

    upper = mapped_by(top, left) * (1 - column_weight) + mapped_by(top, right) * column_weight
    lower = mapped_by(bottom, left) * (1 - column_weight) + mapped_by(bottom, right) * column_weight
    return (upper * (1 - row_weight[:, None]) + lower * row_weight[:, None]).round().double()


def _clip_histograms(counts: Tensor, max_count: int) -> Tensor:
    """Clip histograms (..., 256) at `max_count`, and distribute the excess evenly."""
    excess = (counts - max_count).clamp(min=0).sum(dim=-1, keepdim=True)
    increment, remainder = excess // NUM_LEVELS, excess % NUM_LEVELS
    # A number divided by a tensor is no operation of ONNX.
    step = (torch.full_like(remainder, NUM_LEVELS) // remainder.clamp(min=1)).clamp(min=1)
    level = torch.arange(NUM_LEVELS, device=counts.device)
    gets_remainder = (level % step == 0) & (level // step < remainder)
    return counts.clamp(max=max_count) + increment + gets_remainder


def _interpolation(
    side: int, tile_side: int, tile_grid: int, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `side` pixels, return the tiles before and after it, and the second's weight."""
    pixels = torch.arange(side, dtype=torch.float32, device=like.device)
    position = pixels * (1 / tile_side) - 0.5
    first = position.floor()
    before, after = first.clamp(min=0), (first + 1).clamp(max=tile_grid - 1)
    return before.long(), after.long(), position - first
