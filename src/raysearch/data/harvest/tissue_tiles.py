"""Selects images by the color of stained tissue, and cuts them into adjacent tiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.harvest.harvest_settings import Purple, Span

# OpenCV stores the hue in steps of two degrees, saturation and value from 0 to 255.
HUE_SCALE, BYTE_SCALE = 0.5, 255.0


def purple_mask(pixels: NDArray[np.uint8], purple: Purple) -> NDArray[np.bool_]:
    """Return which pixels have the hue, saturation and value of stained tissue.

    Args:
        pixels: RGB, uint8, shape (H, W, 3).
        purple: The accepted spans.

    Returns:
        Mask, shape (H, W).
    """
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    spans = [
        _integer_span(purple.hue_deg, HUE_SCALE),
        _integer_span(purple.saturation, BYTE_SCALE),
        _integer_span(purple.value, BYTE_SCALE),
    ]
    low, high = np.array(spans).T
    return np.asarray(cv2.inRange(hsv, low, high) != 0)


def _integer_span(span: Span, scale: float) -> tuple[int, int]:
    """Return the smallest and the largest integer within the scaled span."""
    return math.ceil(span[0] * scale), math.floor(span[1] * scale)


def rejection_reason(
    shape: tuple[int, ...], num_purple_pixels: int, size: int, purple: Purple
) -> str:
    """Return why an image is not selected; empty if it is.

    Args:
        shape: (H, W) of the image.
        num_purple_pixels: Number of its purple pixels.
        size: Side of a tile; a smaller image has no tile.
        purple: The criteria.
    """
    height, width = shape[:2]
    num_pixels = height * width
    fraction = num_purple_pixels / num_pixels
    if min(height, width) < size:
        return f"{width}x{height}, smaller than a tile of {size}x{size}"
    if num_pixels < purple.min_pixels:
        return f"{num_pixels:,} pixels, fewer than {purple.min_pixels:,}"
    if fraction < purple.min_fraction:
        return f"{fraction:.1%} purple, less than {purple.min_fraction:.0%}"
    if num_purple_pixels < purple.min_purple_pixels:
        return f"{num_purple_pixels:,} purple pixels, fewer than {purple.min_purple_pixels:,}"
    return ""


def tile_corners(height: int, width: int, size: int) -> Iterator[tuple[int, int]]:
    """Iterate over the (x, y) corners, from 0, of adjacent tiles that fit into an image.

    Pixels at the right and the bottom that do not fill a tile are skipped.
    """
    for y in range(0, height - size + 1, size):
        yield from ((x, y) for x in range(0, width - size + 1, size))


def purple_tile_corners(
    mask: NDArray[np.bool_], size: int, min_fraction: float
) -> Iterator[tuple[int, int]]:
    """Iterate over the (x, y) corners, from 0, of the tiles with enough purple pixels.

    Args:
        mask: Purple pixels, shape (H, W).
        size: Side of a tile.
        min_fraction: Smallest fraction of purple pixels in a tile.
    """
    for x, y in tile_corners(mask.shape[0], mask.shape[1], size):
        if mask[y : y + size, x : x + size].mean() >= min_fraction:
            yield x, y


def write_tiles(
    folder: Path,
    stem: str,
    pixels: NDArray[np.uint8],
    corners: Iterable[tuple[int, int]],
    size: int,
) -> list[Path]:
    """Write tiles as `folder`/`stem`_x<X>_y<Y>.png and return their paths.

    X and Y count from 1, as in the file names of the IDC (invasive ductal carcinoma) set.

    Args:
        folder: Folder of the tiles; it is created with the first tile.
        stem: Start of the file names.
        pixels: The image, uint8, shape (H, W, 3).
        corners: (x, y) of each tile, from 0.
        size: Side of a tile.
    """
    paths = []
    for x, y in corners:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}_x{x + 1}_y{y + 1}.png"
        Image.fromarray(pixels[y : y + size, x : x + size]).save(path)
        paths.append(path)
    return paths
