"""Stitches the patches of a slide to maps, and exports them as GeoJSON tiles for QuPath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.errors import DataError
from raysearch.inference.image_rendering import Floats, Image, viridis
from raysearch.inference.tile_geojson import tile_geojson

# The largest side of a map, in pixels.
MAX_SIDE = 1400
BACKGROUND = 255
# In the resize mode of a patch whose pixels are not those of the slide, unlike its position.
SCALED = "scaled"
OVERLAY_OPACITY = 0.5
# A diagonal distinguishes false negatives, also for readers with a color vision deficiency.
FALSE_NEGATIVE_COLOR, FALSE_POSITIVE_COLOR = (200, 30, 30), (20, 80, 200)
FRAME_WIDTH = 2
# A frame in a smaller patch of a map would cover its neighbors.
MIN_FRAMED_SIDE = 6
# Stands out from hematoxylin and eosin, and from the colors of errors.
POSITIVE_COLOR = (0, 170, 60)


@dataclass(frozen=True)
class SlideMap:
    """A slide that is stitched from N patches.

    Attributes:
        image: The map, uint8 (H, W, 3).
        lefts: Left side of each patch in the map, shape (N,).
        tops: Top side of each patch in the map, shape (N,).
        side: Height and width of a patch in the map.
        scale: How many pixels of the slide are one pixel of the map.
    """

    image: Image
    lefts: NDArray[np.int64]
    tops: NDArray[np.int64]
    side: tuple[int, int]
    scale: int


def stitch_slide(pixels: Image, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> SlideMap:
    """Stitch patches at their positions on white; a large slide is downscaled.

    Args:
        pixels: The patches, uint8 (N, H, W, 3).
        xs: Left side of each patch in pixels, shape (N,); the smallest one is at the edge.
        ys: Top side of each patch in pixels, shape (N,); the smallest one is at the edge.

    Raises:
        DataError: If a position is unknown, or there is no patch.
    """
    if not len(xs) or not (np.isfinite(xs) & np.isfinite(ys)).all():
        raise DataError("a slide map requires the position of every patch; some x or y is unknown")
    height, width = pixels.shape[1:3]
    lefts, tops = ((values - values.min()).astype(np.int64) for values in (xs, ys))
    slide_side = max(int(lefts.max()) + width, int(tops.max()) + height)
    scale = min(max(1, -(-slide_side // MAX_SIDE)), height, width)
    side = (max(1, height // scale), max(1, width // scale))
    lefts, tops = lefts * side[1] // width, tops * side[0] // height
    shape = (int(tops.max()) + side[0], int(lefts.max()) + side[1], 3)
    image = np.full(shape, BACKGROUND, np.uint8)
    for patch, left, top in zip(pixels, lefts.tolist(), tops.tolist(), strict=True):
        small = cv2.resize(patch, (side[1], side[0]), interpolation=cv2.INTER_AREA)
        image[top : top + side[0], left : left + side[1]] = small
    return SlideMap(image, lefts, tops, side, scale)


def draw_heatmap(slide_map: SlideMap, values: Floats) -> Image:
    """Return the map, overlaid with colors for values from 0 to 1.

    Args:
        slide_map: The map of N patches.
        values: A value of each patch, shape (N,), or a heatmap of each patch, shape (N, h, w).
    """
    image = slide_map.image.copy()
    height, width = slide_map.side
    positions = zip(slide_map.lefts.tolist(), slide_map.tops.tolist(), strict=True)
    for index, (left, top) in enumerate(positions):
        region = image[top : top + height, left : left + width]
        patch_values = np.asarray(values[index], np.float32)
        if patch_values.ndim == 0:
            resized = np.full((height, width), patch_values)
        else:
            resized = _resize(patch_values, (width, height))
        colors = viridis(resized)
        region[:] = cv2.addWeighted(region, 1 - OVERLAY_OPACITY, colors, OVERLAY_OPACITY, 0)
    return image


def _resize(values: Floats, size: tuple[int, int]) -> Floats:
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)


def draw_errors(
    slide_map: SlideMap, labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> Image:
    """Return the map with a frame around each error; false negatives also have a diagonal.

    A patch that is too small for a frame is filled.

    Args:
        slide_map: The map of N patches.
        labels: True class of each patch, shape (N,).
        predicted: Predicted class of each patch, shape (N,); an error is a false negative if its
            number is below that of the true class.
    """
    image = slide_map.image.copy()
    for index in np.flatnonzero(labels != predicted).tolist():
        is_false_negative = labels[index] > predicted[index]
        color = FALSE_NEGATIVE_COLOR if is_false_negative else FALSE_POSITIVE_COLOR
        if _draw_frame(image, slide_map, index, color) and is_false_negative:
            cv2.line(image, *_corners(slide_map, index), color, FRAME_WIDTH)
    return image


def draw_frames(slide_map: SlideMap, is_framed: NDArray[np.bool_]) -> Image:
    """Return the map with a frame around each patch that is predicted to be positive.

    A patch that is too small for a frame is filled.

    Args:
        slide_map: The map of N patches.
        is_framed: Whether each patch gets a frame, shape (N,).
    """
    image = slide_map.image.copy()
    for index in np.flatnonzero(is_framed).tolist():
        _draw_frame(image, slide_map, index, POSITIVE_COLOR)
    return image


def _draw_frame(image: Image, slide_map: SlideMap, index: int, color: tuple[int, int, int]) -> bool:
    """Draw the frame of a patch, or fill the patch if it is too small; return if it is framed."""
    height, width = slide_map.side
    if min(height, width) >= MIN_FRAMED_SIDE:
        cv2.rectangle(image, *_corners(slide_map, index), color, FRAME_WIDTH)
        return True
    left, top = int(slide_map.lefts[index]), int(slide_map.tops[index])
    image[top : top + height, left : left + width] = color
    return False


def _corners(slide_map: SlideMap, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return two corners (x, y) of the frame of a patch, which lies inside the patch.

    A line of two pixels extends by one pixel to each side of its position.
    """
    height, width = slide_map.side
    left, top = int(slide_map.lefts[index]) + 1, int(slide_map.tops[index]) + 1
    return (left, top), (left + width - 3, top + height - 3)


def tiles_geojson(
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    side: tuple[float, float],
    probabilities: NDArray[np.float64],
    decided: NDArray[np.int64],
    labels: Sequence[str | None],
    class_names: Sequence[str],
) -> bytes:
    """Return the patches as GeoJSON tiles for QuPath.

    Positions that count from 1 are moved to 0. See `tile_geojson`.

    Args:
        xs: Left side of each patch in pixels of the slide, shape (N,).
        ys: Top side of each patch in pixels of the slide, shape (N,).
        side: Height and width of a patch in pixels of the slide.
        probabilities: Probability of each class, shape (N, C).
        decided: Number of the decided class of each patch, shape (N,).
        labels: Name of the true class of each patch; None if it is unknown.
        class_names: Names of the C classes.
    """
    left, top = xs - _origin(xs, side[1]), ys - _origin(ys, side[0])
    return tile_geojson(left, top, side, probabilities, decided, labels, class_names)


def _origin(positions: NDArray[np.float64], side: float) -> float:
    """Return 1 if the positions count from 1, as in file names of IDC; else 0."""
    return 1.0 if len(positions) and not ((positions - 1) % side).any() else 0.0
