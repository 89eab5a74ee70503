"""The tiles of a slide: their level, their positions, and their pixels at an exact resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.images.decoding import RejectedImageError, Size
from raysearch.data.slides.slide_options import SlideOptions
from raysearch.data.slides.slide_reader import MAX_MPP, MIN_MPP, Pixels, SlideReader, check_area
from raysearch.data.slides.tissue_mask import nearest_finer_level

# Level 0 may be coarser than the tiles by this part, and another level by the second one.
MAX_ENLARGEMENT, LEVEL_TOLERANCE = 0.05, 0.01
# A slide may have so many tiles.
MAX_TILES = 5_000_000
# Scales that differ by less are equal.
EQUAL_SCALE = 1e-6
# The magnification of an objective for a pixel of one micrometre, by convention.
MAGNIFICATION_MPP = 10.0


@dataclass(frozen=True)
class TileGrid:
    """The grid of the tiles of a slide.

    A tile of `size` pixels covers `side` pixels of level 0, which are not whole numbers. The tiles
    begin at multiples of the strides, which are whole numbers of pixels of the level, so the grid
    is regular; the distance differs from the exact one by less than a pixel of the level.

    Attributes:
        mpp: The side of a pixel of the tiles, in micrometres.
        size: (width, height) of a tile in its pixels.
        level: The level that is read.
        downsample: The side of its pixel, in pixels of level 0.
        scale: The side of a pixel of the tiles, in pixels of the level.
        stride: (horizontal, vertical) distance of neighboring tiles in pixels of level 0.
        left: The left side of the first tile in pixels of level 0.
        top: Its top side in pixels of level 0.
        num_columns: The number of tiles in a row.
        num_rows: The number of rows.
    """

    mpp: float
    size: Size
    level: int
    downsample: float
    scale: float
    stride: tuple[int, int]
    left: int
    top: int
    num_columns: int
    num_rows: int

    @property
    def pixel_size(self) -> float:
        """The side of a pixel of the tiles, in pixels of level 0."""
        return self.scale * self.downsample

    @property
    def side(self) -> tuple[float, float]:
        """(width, height) of a tile in pixels of level 0."""
        width, height = self.size
        return width * self.pixel_size, height * self.pixel_size

    @property
    def magnification(self) -> int:
        """The magnification of the tiles, rounded: 20 at .5 micrometres a pixel."""
        return max(1, round(MAGNIFICATION_MPP / self.mpp))

    def positions(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the left and the top side of each tile in pixels of level 0, row by row."""
        rows, columns = np.divmod(
            np.arange(self.num_rows * self.num_columns), max(1, self.num_columns)
        )
        return self.left + columns * self.stride[0], self.top + rows * self.stride[1]


def slide_mpp(slide: SlideReader, assumed_mpp: float | None) -> float:
    """Return the side of a pixel of level 0 in micrometres.

    Args:
        slide: The slide.
        assumed_mpp: That of a slide that does not say it, or says an impossible one.

    Raises:
        RejectedImageError: If it is unknown.
    """
    mpp = slide.properties.mpp
    if mpp is not None and MIN_MPP <= mpp <= MAX_MPP:
        return mpp
    if assumed_mpp is not None:
        return assumed_mpp
    reason = (
        "it does not say the size of its pixels"
        if mpp is None
        else f"its pixels are of {mpp:.4g} micrometres, not {MIN_MPP:g} to {MAX_MPP:g}"
    )
    raise RejectedImageError(f"{reason}; give --assume-mpp if you know it")


def tile_grid(slide: SlideReader, options: SlideOptions) -> TileGrid:
    """Return the grid of the tiles that lie completely in the scanned area of a slide.

    Raises:
        RejectedImageError: If the resolution of the slide is unknown or too coarse, or the slide
            is smaller than a tile, or has too many tiles.
    """
    mpp = slide_mpp(slide, options.assumed_mpp)
    factor = options.mpp / mpp  # the side of a pixel of the tiles, in pixels of level 0
    if factor < 1 - MAX_ENLARGEMENT:
        raise RejectedImageError(
            f"its finest pixels are of {mpp:.4g} micrometres, coarser than --mpp {options.mpp:g}"
        )
    level = nearest_finer_level(slide, factor, LEVEL_TOLERANCE)
    downsample = slide.properties.levels[level].downsample
    step = max(1, round(downsample))
    # A stride is a whole number of pixels of the level.
    stride_x, stride_y = (
        max(1, round((side - options.overlap) * factor / step)) * step for side in options.size
    )
    bounds_left, bounds_top, width, height = slide.properties.bounds
    right, bottom = bounds_left + width, bounds_top + height
    left, top = (-(-side // step) * step for side in (bounds_left, bounds_top))
    num_columns = _count(right - left, options.size[0] * factor, stride_x)
    num_rows = _count(bottom - top, options.size[1] * factor, stride_y)
    if not num_columns or not num_rows:
        side_x, side_y = (math.ceil(side * factor) for side in options.size)
        raise RejectedImageError(
            f"{width:,} x {height:,} pixels, smaller than a tile of {side_x:,} x {side_y:,}"
        )
    if num_columns * num_rows > MAX_TILES:
        raise RejectedImageError(
            f"{num_columns * num_rows:,} tiles, at most {MAX_TILES:,} a slide are allowed"
        )
    scale = factor / downsample
    check_area(*(math.ceil(side * scale) for side in options.size))
    scale = 1.0 if abs(scale - 1) < EQUAL_SCALE else scale
    return TileGrid(
        options.mpp,
        options.size,
        level,
        downsample,
        scale,
        (stride_x, stride_y),
        left,
        top,
        num_columns,
        num_rows,
    )


def _count(length: int, side: float, stride: int) -> int:
    """Return how many tiles of `side` fit into `length`; a part of a pixel does not count."""
    return max(0, math.floor((length + 1 - side) / stride) + 1) if side < length + 1 else 0


def read_tile(slide: SlideReader, grid: TileGrid, left: int, top: int) -> Pixels:
    """Read a tile at its resolution.

    A tile of a finer level is scaled down by area: each of its pixels is the mean of the area that
    it covers. One of a level that is slightly coarser is interpolated.

    Args:
        slide: The slide.
        grid: The grid of the tiles.
        left: The left side of the tile in pixels of level 0.
        top: Its top side in pixels of level 0.

    Returns:
        RGB, shape (height, width, 3).

    Raises:
        RejectedImageError: If the slide is damaged there.
        DataError: If its file cannot be read any more.
    """
    width, height = grid.size
    x, y = round(left / grid.downsample), round(top / grid.downsample)
    if grid.scale == 1.0:
        return slide.read(grid.level, x, y, width, height)
    read_width, read_height = (math.ceil(side * grid.scale - 1e-9) for side in grid.size)
    pixels = slide.read(grid.level, x, y, read_width, read_height)
    method = cv2.INTER_AREA if grid.scale > 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(pixels, None, fx=1 / grid.scale, fy=1 / grid.scale, interpolation=method)
    return np.ascontiguousarray(scaled[:height, :width])
