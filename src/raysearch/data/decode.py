"""From an image file's bytes to the pixels of a patch, once."""

from __future__ import annotations

import io
import warnings
from posixpath import splitext

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

# Larger than any patch, and small enough to decode on every core at once.
MOST_PIXELS = 50_000_000
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
WHITE = (255, 255, 255)
# Pillow's names of 16-bit, 32-bit and floating-point grey.
DEEP = ("I", "F")
Size = tuple[int, int]


class RefusedImageError(Exception):
    """An image that cannot be used; the message is the reason, in a few words."""


def image_size(content: bytes, file: str) -> Size:
    """The (width, height) of an image by its header; RefusedImageError where it cannot be used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _opened(content, file).size


def decode(content: bytes, file: str, size: Size) -> tuple[NDArray[np.uint8], str]:
    """The pixels, uint8 (height, width, 3), of an image at `size` (width, height), and how it fits.

    A larger image is scaled by area, keeping its shape; a smaller one, or what is left beside a
    scaled one, is white. RefusedImageError, with the reason, for what is no usable image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata; the pixels are what counts
        image = _opened(content, file)
        try:
            image = image.convert("RGB")
        except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as fault:
            reason = "truncated" if "truncat" in str(fault) else "damaged"
            raise RefusedImageError(reason) from None
    return fit(image, size)


def fit(image: Image.Image, size: Size) -> tuple[NDArray[np.uint8], str]:
    """`image` at `size` (width, height) as uint8 (height, width, 3), and how it came to that."""
    if image.size == size:
        return np.asarray(image), "as is"
    ways = []
    if image.width > size[0] or image.height > size[1]:
        share = min(size[0] / image.width, size[1] / image.height)
        smaller = (max(1, round(image.width * share)), max(1, round(image.height * share)))
        image = image.resize(smaller, Image.Resampling.BOX)
        ways.append("scaled")
    if image.size != size:
        padded = Image.new("RGB", size, WHITE)
        padded.paste(image)
        image = padded
        ways.append("padded")
    return np.asarray(image), "+".join(ways)


def _opened(content: bytes, file: str) -> Image.Image:
    wanted = FORMATS.get(splitext(file)[1].lower())
    if wanted is None:
        raise RefusedImageError(f"not one of {', '.join(FORMATS)}")
    if not content:
        raise RefusedImageError("empty file")
    try:
        image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        raise RefusedImageError(f"more than {MOST_PIXELS:,} pixels") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError):
        raise RefusedImageError("not an image") from None
    if image.format != wanted:
        raise RefusedImageError(f"{image.format} under the extension of {wanted}")
    if image.width * image.height > MOST_PIXELS:
        raise RefusedImageError(f"more than {MOST_PIXELS:,} pixels")
    if image.mode.startswith(DEEP):
        # Pillow would cut these values off at 255, and the patch come out white or black.
        raise RefusedImageError("more than 8 bits a channel")
    if min(image.size) < 1:
        raise RefusedImageError("no pixels")
    return image
