"""Draws the probabilities of the tiles of a slide: a pyramidal TIFF file, and an overlay."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.slides.slide_formats import open_slide
from raysearch.data.slides.tissue_mask import read_thumbnail
from raysearch.inference.image_rendering import Image, viridis
from raysearch.inference.tile_scores import TileScores

# The larger side of an overlay, in pixels.
MAX_SIDE = 1400
OVERLAY_OPACITY = 0.5
# The sides of a tile of the TIFF file, and the largest side of its last level, in pixels.
TIFF_TILE = 256
MICROMETRE = "\N{MICRO SIGN}m"


def probability_tiff(scores: TileScores, class_names: tuple[str, ...]) -> bytes:
    """Return the probabilities as a pyramidal OME-TIFF file.

    It has a channel of float32 for each class, named after the class, and one pixel for each cell
    of the grid; NaN where there is no tile. The levels are halved; a pixel of a level is the mean
    of the tiles below it. The size and the position of a pixel are in micrometres.

    Args:
        scores: The scores.
        class_names: Names of the C classes.
    """
    import tifffile

    levels = _levels(scores.probabilities)
    width, height = (side * scores.slide_mpp for side in scores.grid.stride)
    left, top = (offset * scores.slide_mpp for offset in scores.origin)
    num_classes = len(class_names)
    metadata = {
        "axes": "CYX",
        "Channel": {"Name": list(class_names)},
        "PhysicalSizeX": width,
        "PhysicalSizeXUnit": MICROMETRE,
        "PhysicalSizeY": height,
        "PhysicalSizeYUnit": MICROMETRE,
        "Plane": {
            "PositionX": [left] * num_classes,
            "PositionXUnit": [MICROMETRE] * num_classes,
            "PositionY": [top] * num_classes,
            "PositionYUnit": [MICROMETRE] * num_classes,
        },
    }
    content = io.BytesIO()
    with tifffile.TiffWriter(content, ome=True) as file:
        for number, level in enumerate(levels):
            file.write(
                level,
                tile=(TIFF_TILE, TIFF_TILE),
                photometric="minisblack",
                compression="deflate",
                subifds=len(levels) - 1 if number == 0 else None,
                subfiletype=0 if number == 0 else 1,
                metadata=metadata if number == 0 else None,
            )
    return content.getvalue()


def _levels(probabilities: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the levels of a pyramid, shape (C, rows, columns) each, the finest first."""
    levels = [probabilities]
    while max(levels[-1].shape[1:]) > TIFF_TILE:
        levels.append(_halved(levels[-1]))
    return levels


def _halved(level: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means of 2 x 2 pixels, of those that are no NaN."""
    num_classes, rows, columns = level.shape
    padded = np.pad(level, ((0, 0), (0, rows % 2), (0, columns % 2)), constant_values=np.nan)
    blocks = padded.reshape(num_classes, (rows + 1) // 2, 2, (columns + 1) // 2, 2)
    counts = np.isfinite(blocks).sum((2, 4))
    sums = np.nansum(blocks, (2, 4), dtype=np.float32)
    means = np.full(counts.shape, np.nan, np.float32)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def draw_overlay(path: str, scores: TileScores) -> Image:
    """Draw a slide with the probability that its tiles are not of the first class.

    Args:
        path: The file of the slide.
        scores: The scores of its tiles.

    Returns:
        RGB, shape (height, width, 3).

    Raises:
        RejectedImageError: If the slide is damaged.
        DataError: If its file cannot be read any more.
    """
    with open_slide(path) as slide:
        image, pixel_size = read_thumbnail(slide, 1.0, MAX_SIDE)
        bounds_left, bounds_top = slide.properties.bounds[:2]
    left, top = scores.origin
    stride_x, stride_y = scores.grid.stride
    # Of each pixel of the picture, the row and the column of its cell.
    rows, columns = (
        np.floor((bound + (np.arange(length) + 0.5) * pixel_size - first) / stride).astype(np.int64)
        for bound, length, first, stride in (
            (bounds_top, image.shape[0], top, stride_y),
            (bounds_left, image.shape[1], left, stride_x),
        )
    )
    num_rows, num_columns = scores.decided.shape
    is_inside = ((rows >= 0) & (rows < num_rows))[:, None] & (
        (columns >= 0) & (columns < num_columns)
    )
    cells = np.ix_(rows.clip(0, num_rows - 1), columns.clip(0, num_columns - 1))
    has_tile = is_inside & scores.is_tile[cells]
    values = np.nan_to_num(1 - scores.probabilities[0])[cells]
    blended = cv2.addWeighted(image, 1 - OVERLAY_OPACITY, viridis(values), OVERLAY_OPACITY, 0)
    return np.where(has_tile[..., None], blended, image).astype(np.uint8)
