"""Finds the tissue of a slide: Otsu's threshold on the saturation of a thumbnail.

Source: Otsu, A threshold selection method from gray-level histograms, IEEE Transactions on Systems,
Man, and Cybernetics 9 (1979).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.slides.slide_reader import SlideReader

# Otsu's threshold parts any slide in two. Glass of scanners has a saturation of at most the first
# number, of 255, and stained tissue of at least the second one.
MIN_SATURATION, MAX_SATURATION = 12, 40
# Darker pixels are marks of pens, or not scanned; their saturation is noise.
MIN_VALUE = 30
MEDIAN_SIDE = 3
# A pixel of the mask is at most this part of a tile, and the mask at most so many pixels a side.
PIXELS_PER_TILE, MAX_MASK_SIDE = 16, 4096
# The pixels of a level that are read at once.
BLOCK_PIXELS = 16 * 2**20


@dataclass(frozen=True)
class TissueMask:
    """Where a slide has tissue.

    Attributes:
        is_tissue: Whether each pixel of the mask is tissue, shape (height, width).
        thumbnail: The slide in pixels of the mask, RGB, shape (height, width, 3).
        pixel_size: The side of a pixel of the mask, in pixels of level 0.
        left: The left side of the mask in pixels of level 0.
        top: Its top side in pixels of level 0.
        threshold: The smallest saturation of tissue, of 255.
    """

    is_tissue: NDArray[np.bool_]
    thumbnail: NDArray[np.uint8]
    pixel_size: float
    left: int
    top: int
    threshold: int

    @property
    def fraction(self) -> float:
        """The fraction of the mask that is tissue."""
        return float(self.is_tissue.mean())

    def fractions(
        self, left: NDArray[np.int64], top: NDArray[np.int64], width: float, height: float
    ) -> NDArray[np.float64]:
        """Return the fraction of tissue in each tile, exact for the pixels of the mask.

        Args:
            left: The left side of each tile in pixels of level 0, shape (n,).
            top: The top side of each, shape (n,).
            width: The width of the tiles in pixels of level 0.
            height: Their height.
        """
        integral = np.pad(self.is_tissue.cumsum(0, np.int64).cumsum(1), ((1, 0), (1, 0)))
        x = np.asarray((left - self.left) / self.pixel_size, np.float64)
        y = np.asarray((top - self.top) / self.pixel_size, np.float64)
        right, bottom = x + width / self.pixel_size, y + height / self.pixel_size
        sums = _interpolated(integral, bottom, right) - _interpolated(integral, y, right)
        sums -= _interpolated(integral, bottom, x) - _interpolated(integral, y, x)
        return np.clip(sums * self.pixel_size**2 / (width * height), 0.0, 1.0)


def _interpolated(
    integral: NDArray[np.int64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the integral of the mask at positions between its pixels: it is bilinear there."""
    rows = np.clip(rows, 0, integral.shape[0] - 1)
    columns = np.clip(columns, 0, integral.shape[1] - 1)
    y = np.minimum(rows.astype(np.int64), integral.shape[0] - 2)
    x = np.minimum(columns.astype(np.int64), integral.shape[1] - 2)
    down, right = rows - y, columns - x
    upper = integral[y, x] * (1 - right) + integral[y, x + 1] * right
    lower = integral[y + 1, x] * (1 - right) + integral[y + 1, x + 1] * right
    result: NDArray[np.float64] = upper * (1 - down) + lower * down
    return result


def find_tissue(slide: SlideReader, tile_side: float) -> TissueMask:
    """Find the tissue of a slide.

    Args:
        slide: The slide.
        tile_side: The smaller side of a tile in pixels of level 0.

    Raises:
        RejectedImageError: If the slide is damaged.
        DataError: If its file cannot be read any more.
    """
    thumbnail, pixel_size = read_thumbnail(slide, tile_side / PIXELS_PER_TILE, MAX_MASK_SIDE)
    hsv = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2HSV)
    saturation = cv2.medianBlur(np.ascontiguousarray(hsv[..., 1]), MEDIAN_SIDE)
    otsu, _ = cv2.threshold(saturation, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    threshold = int(np.clip(otsu + 1, MIN_SATURATION, MAX_SATURATION))
    is_tissue = (saturation >= threshold) & (hsv[..., 2] >= MIN_VALUE)
    left, top = slide.properties.bounds[:2]
    return TissueMask(is_tissue, thumbnail, pixel_size, left, top, threshold)


def read_thumbnail(
    slide: SlideReader, pixel_size: float, max_side: int
) -> tuple[NDArray[np.uint8], float]:
    """Read the scanned area of a slide, scaled down by area.

    Args:
        slide: The slide.
        pixel_size: The desired side of a pixel in pixels of level 0.
        max_side: The largest side of the result in pixels.

    Returns:
        RGB, shape (height, width, 3), and the side of its pixel in pixels of level 0, which is a
        multiple of that of a level.
    """
    left, top, width, height = slide.properties.bounds
    pixel_size = max(1.0, pixel_size, max(width, height) / max_side)
    level = nearest_finer_level(slide, pixel_size)
    downsample = slide.properties.levels[level].downsample
    factor = max(1, int(pixel_size / downsample))
    while max(width, height) / (factor * downsample) > max_side:
        factor += 1
    pixel_size = factor * downsample
    columns, rows = (math.ceil(side / pixel_size) for side in (width, height))
    x, y = round(left / downsample), round(top / downsample)
    thumbnail = np.empty((rows, columns, 3), np.uint8)
    # Blocks as wide as the slide, if its rows are not too long.
    block_columns = min(columns, max(1, BLOCK_PIXELS // factor**2))
    block_rows = max(1, BLOCK_PIXELS // (block_columns * factor**2))
    for top_row in range(0, rows, block_rows):
        for first_column in range(0, columns, block_columns):
            area = thumbnail[top_row : top_row + block_rows, first_column:][:, :block_columns]
            size = (area.shape[1], area.shape[0])
            corner = (x + first_column * factor, y + top_row * factor)
            block = slide.read(level, *corner, size[0] * factor, size[1] * factor)
            area[:] = cv2.resize(block, size, interpolation=cv2.INTER_AREA)
    return thumbnail, pixel_size


def nearest_finer_level(slide: SlideReader, pixel_size: float, tolerance: float = 0.0) -> int:
    """Return the number of the coarsest level that is not coarser than `pixel_size`.

    Args:
        slide: The slide.
        pixel_size: The side of a pixel in pixels of level 0.
        tolerance: By which part of `pixel_size` a level may be coarser.
    """
    levels = slide.properties.levels
    numbers = [
        number
        for number, level in enumerate(levels)
        if level.downsample <= pixel_size * (1 + tolerance)
    ]
    return max(numbers, key=lambda number: levels[number].downsample, default=0)
