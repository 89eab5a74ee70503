"""Encodes images as PNG files or data URIs, and renders maps of values as images."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

# Multiples of the golden ratio give each class number another color.
GOLDEN_RATIO = 0.618
Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


def encode_png(image: Image) -> bytes:
    """Encode an RGB image (H, W, 3) as a PNG file."""
    return _encode(image, "png")


def data_uri(image: Image, image_format: str = "png") -> str:
    """Encode an RGB image (H, W, 3) as a data URI, which an HTML page can embed.

    Args:
        image: The image.
        image_format: `png` or `jpeg`.
    """
    content = base64.b64encode(_encode(image, image_format)).decode()
    return f"data:image/{image_format};base64,{content}"


def _encode(image: Image, image_format: str) -> bytes:
    # OpenCV expects blue, green, red.
    return bytes(cv2.imencode(f".{image_format}", image[:, :, ::-1])[1])


def viridis(values: Floats) -> Image:
    """Map values from 0 to 1 to the viridis colormap, uint8 (..., 3).

    Its brightness rises with the value, also for readers with a color vision deficiency.
    """
    levels = np.clip(np.round(255 * values), 0, 255).astype(np.uint8)
    colors = cv2.applyColorMap(levels.reshape(-1, 1), cv2.COLORMAP_VIRIDIS)
    return np.asarray(colors[:, 0, ::-1], np.uint8).reshape(*levels.shape, 3)


def class_color(number: int) -> list[int]:
    """Return the color (red, green, blue) of the class with that number."""
    color = viridis(np.array([(number * GOLDEN_RATIO) % 1.0], np.float32))[0]
    return [int(channel) for channel in color]
