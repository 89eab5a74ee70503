"""Brings the pixels of an opened image to upright 8-bit RGB, and names what it changed."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

WHITE = (255, 255, 255)
TRANSPARENT = "transparency replaced by white"
ORIENTED = "EXIF orientation applied"
FIRST_PICTURE = "first of several pictures"
SCALED = "scaled from {depth} to 8 bits"

OPAQUE = 255
ORIENTATION, UPRIGHT = 0x0112, 1
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPS_SIDES = (5, 6, 7, 8)
# A PNG file has one of these if it has an orientation; without, Pillow decodes it to find out.
PNG_METADATA = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type")
MALFORMED = (SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error)


def has_png_metadata(content: bytes) -> bool:
    """Whether a PNG file may have an orientation."""
    return any(name in content for name in PNG_METADATA)


def orientation(content: bytes, image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 if it has none, or its metadata is malformed.

    Args:
        content: The bytes of the file.
        image: The file, opened by Pillow.
    """
    if image.format == "PNG" and not has_png_metadata(content):
        return UPRIGHT
    try:
        value = image.getexif().get(ORIENTATION, UPRIGHT)
    except MALFORMED:
        return UPRIGHT
    return value if value in TRANSPOSITIONS else UPRIGHT


def upright_size(content: bytes, image: Image.Image) -> tuple[int, int]:
    """The (width, height) of an image after its EXIF orientation is applied."""
    width, height = image.size
    # Pillow swaps the sides of a TIFF file itself.
    if image.format != "TIFF" and orientation(content, image) in SWAPS_SIDES:
        return height, width
    return width, height


def to_upright(image: Image.Image, value: int) -> Image.Image:
    """Apply the EXIF orientation `value` to an image."""
    return image if value == UPRIGHT else image.transpose(TRANSPOSITIONS[value])


def to_rgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """Convert an image to RGB on a white background.

    Returns:
        The image, and whether any pixel is transparent.

    Raises:
        ValueError: If Pillow cannot convert its mode.
    """
    if not image.has_transparency_data:
        return (image if image.mode == "RGB" else image.convert("RGB")), False
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema()[0] == OPAQUE:
        return image.convert("RGB"), False
    background = Image.new("RGBA", image.size, (*WHITE, OPAQUE))
    return Image.alpha_composite(background, image).convert("RGB"), True


def decode_16_bits(content: bytes, depth: int) -> Image.Image | str:
    """Decode an image of 16 bits a channel, and scale its values to 8 bits.

    Args:
        content: The bytes of a PNG or TIFF file with grey, RGB or RGBA values.
        depth: The number of bits that are used; 2**depth - 1 becomes 255.

    Returns:
        The image, or the reason why it cannot be used.
    """
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        return "damaged"
    values = np.asarray(pixels, np.uint16)
    values = values[..., None] if values.ndim == 2 else values
    colors, alpha = values[..., :3][..., ::-1], values[..., 3:]  # OpenCV's order is BGRA
    allowed = 2**depth - 1
    if colors.max() > allowed:
        return f"values of more than the {depth} bits of --depth"
    # Some encoders write alpha in as many bits as the colors, others always in 16.
    opaque = allowed if alpha.max(initial=0) <= allowed else 2**16 - 1
    scaled = np.concatenate([_to_8_bits(colors, allowed), _to_8_bits(alpha, opaque)], axis=-1)
    return Image.fromarray(scaled.squeeze(-1) if scaled.shape[-1] == 1 else scaled)


def _to_8_bits(values: NDArray[np.uint16], largest: int) -> NDArray[np.uint8]:
    return ((values.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8)
