"""Small filters of uint8 patches (B, H, W, 3), as OpenCV computes them."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor


def sharpened(patches: Tensor) -> Tensor:
    """`patches` by the kernel [[0, -1, 0], [-1, 5, -1], [0, -1, 0]], cut off at 0 and 255.

    Outside is the reflection without the border pixel itself.
    """
    whole = padded(patches, 1, "reflect").to(torch.int16)
    middle = whole[:, 1:-1, 1:-1]
    beside = whole[:, :-2, 1:-1] + whole[:, 2:, 1:-1] + whole[:, 1:-1, :-2] + whole[:, 1:-1, 2:]
    return (5 * middle - beside).clamp(0, 255).to(torch.uint8)


def blurred(patches: Tensor, sigma: float) -> Tensor:
    """`patches` by a Gaussian of `sigma` pixels, cut off at 3 of these; outside is reflected."""
    radius = math.ceil(3 * sigma)
    curve = [math.exp(-0.5 * (place / sigma) ** 2) for place in range(-radius, radius + 1)]
    fractions = [one / sum(curve) for one in curve]
    values = padded(patches, radius, "reflect").float()
    for axis in (1, 2):
        side = patches.shape[axis]
        values = sum(
            (fraction * values.narrow(axis, at, side) for at, fraction in enumerate(fractions)),
            start=values.new_zeros(()),
        )
    return in_bytes(values)


def median(patches: Tensor) -> Tensor:
    """The median of each pixel's 3x3 neighbours and itself; outside is the border repeated."""
    whole = padded(patches, 1, "edge")
    low, middle, high = _sorted(whole[:, :-2], whole[:, 1:-1], whole[:, 2:])
    lows, middles, highs = (_beside(one) for one in (low, middle, high))
    # Of nine numbers in sorted columns (Paeth, 1990).
    return _sorted(_sorted(*lows)[2], _sorted(*middles)[1], _sorted(*highs)[0])[1]


def _beside(columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return columns[:, :, :-2], columns[:, :, 1:-1], columns[:, :, 2:]


def _sorted(one: Tensor, two: Tensor, three: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    less, more = torch.minimum(one, two), torch.maximum(one, two)
    rest = torch.maximum(less, three)
    return torch.minimum(less, three), torch.minimum(rest, more), torch.maximum(rest, more)


def padded(patches: Tensor, by: int, mode: Literal["reflect", "edge"]) -> Tensor:
    """`patches` (B, H, W, ...) with `by` more pixels on each side."""
    rows, columns = (np.pad(np.arange(side), by, mode=mode) for side in patches.shape[1:3])
    return taken(patches, rows.tolist(), columns.tolist())


def taken(patches: Tensor, rows: list[int], columns: list[int]) -> Tensor:
    """The `rows` and `columns` of `patches` (B, H, W, ...), in that order."""
    down = torch.tensor(rows, device=patches.device)
    across = torch.tensor(columns, device=patches.device)
    return patches.index_select(1, down).index_select(2, across)


def in_bytes(values: Tensor) -> Tensor:
    """`values` as the nearest uint8."""
    return values.round().clamp(0, 255).to(torch.uint8)
