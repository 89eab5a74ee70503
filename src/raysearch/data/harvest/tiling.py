"""An image cut into tiles that lie side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def tile_corners(height: int, width: int, size: int) -> Iterator[tuple[int, int]]:
    """The (x, y), from 0, of every whole tile of side `size`; what is left at the edges is not."""
    for y in range(0, height - size + 1, size):
        yield from ((x, y) for x in range(0, width - size + 1, size))


def purple_tiles(
    mask: NDArray[np.bool_], size: int, min_fraction: float
) -> Iterator[tuple[int, int]]:
    """The corners (x, y), from 0, of the tiles with enough purple in `mask`, bool (H, W)."""
    for x, y in tile_corners(mask.shape[0], mask.shape[1], size):
        if mask[y : y + size, x : x + size].mean() >= min_fraction:
            yield x, y


def write_tiles(
    folder: Path,
    stem: str,
    pixels: NDArray[np.uint8],
    corners: Iterator[tuple[int, int]],
    size: int,
) -> list[Path]:
    """Write the tiles of `pixels`, uint8 (H, W, 3), as `folder`/`stem`_x<X>_y<Y>.png; their paths.

    X and Y count from 1, as in the names of the invasive ductal carcinoma set.
    """
    paths = []
    for x, y in corners:
        folder.mkdir(parents=True, exist_ok=True)
        tile = Image.fromarray(pixels[y : y + size, x : x + size])
        paths.append(folder / f"{stem}_x{x + 1}_y{y + 1}.png")
        tile.save(paths[-1])
    return paths
