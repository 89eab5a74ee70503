"""How much of an image is the purple of stained tissue."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.harvest.settings import Purple, Span


def purple_mask(pixels: NDArray[np.uint8], purple: Purple) -> NDArray[np.bool_]:
    """Which of `pixels`, uint8 (H, W, 3), are purple: bool (H, W).

    A pixel is where its hue, saturation and value (OpenCV's HSV, the hue in steps of two degrees)
    all lie within their spans.
    """
    colours = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    spans = (_scaled(purple.hue_deg, 0.5), _scaled(purple.saturation, 255.0))
    hue, saturation, value = *spans, _scaled(purple.value, 255.0)
    low, high = np.array([hue, saturation, value]).T
    return np.asarray(cv2.inRange(colours, low, high) != 0)


def _scaled(span: Span, scale: float) -> tuple[int, int]:
    """The whole steps within `span`."""
    return math.ceil(span[0] * scale), math.floor(span[1] * scale)


def shortcoming(shape: tuple[int, ...], purple_pixels: int, size: int, purple: Purple) -> str:
    """Why an image of (H, W) with so many purple pixels is not kept; empty where it is.

    An image that is smaller than a tile of side `size` is of no use.
    """
    height, width = shape[:2]
    pixels = height * width
    fraction = purple_pixels / pixels
    if min(height, width) < size:
        return f"{width}x{height}, smaller than a tile of {size}x{size}"
    if pixels < purple.min_pixels:
        return f"{pixels:,} pixels, fewer than {purple.min_pixels:,}"
    if fraction < purple.min_fraction:
        return f"{fraction:.1%} purple, less than {purple.min_fraction:.0%}"
    if purple_pixels < purple.min_purple_pixels:
        return f"{purple_pixels:,} purple pixels, fewer than {purple.min_purple_pixels:,}"
    return ""
