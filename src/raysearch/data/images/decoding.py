"""Decodes an image file to the pixels of a patch."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from posixpath import splitext
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from raysearch.data.images.image_changes import (
    FIRST_PICTURE,
    ORIENTED,
    SCALED,
    TRANSPARENT,
    UPRIGHT,
    WHITE,
    decode_16_bits,
    has_png_metadata,
    orientation,
    to_rgb,
    to_upright,
    upright_size,
)
from raysearch.data.images.image_headers import (
    DEEP,
    MAX_PIXELS,
    bits_per_channel,
    header_error,
    is_unsigned_grey_or_rgb,
    unidentified_error,
)
from raysearch.data.images.png import decode_plain_png

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
NO_IMAGE = f"not one of {', '.join(FORMATS)}"
# The bits a channel that `--depth` can declare.
MIN_DEPTH, MAX_DEPTH = 9, 16
# A camera's JPEG file of several pictures.
MULTI_PICTURE = "MPO"
# The modes of Pillow that it converts to RGB as a viewer shows them.
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
# Scanners photograph a slide's label, with the patient's name, and the whole slide ("macro"). The
# description of such a page of a TIFF file begins with the word, or has it at the start of a line.
DESCRIPTION_TAG = 270
LABEL_PAGE = re.compile(r"^\s*(label|macro)\b", re.IGNORECASE | re.MULTILINE)
Size = tuple[int, int]


class RejectedImageError(Exception):
    """An image that cannot be used; the message is the reason, in a few words."""


class DecodedImage(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8, shape (height, width, 3).
        resize_mode: How the image was brought to its size, see `resize`.
        changes: What else was changed, such as `TRANSPARENT`.
    """

    pixels: NDArray[np.uint8]
    resize_mode: str
    changes: tuple[str, ...] = ()


def image_size(content: bytes, file: str, depth: int | None = None) -> Size:
    """Read the (width, height) of an image from its header.

    Args:
        content: The bytes of the file.
        file: Its name, whose suffix must match the format.
        depth: See `decode`.

    Raises:
        RejectedImageError: If the image cannot be used.
    """
    with no_warnings():
        return upright_size(content, _open(content, file, depth))


def decode(content: bytes, file: str, size: Size, depth: int | None = None) -> DecodedImage:
    """Decode an image and resize it.

    Transparent pixels become white, as the background of a slide is. The EXIF orientation is
    applied. Of a camera's file of several pictures, the first is decoded.

    Args:
        content: The bytes of the file.
        file: Its name, whose suffix must match the format.
        size: (width, height) of the result.
        depth: The number of bits that images of 16 bits a channel use; None rejects these images.

    Raises:
        RejectedImageError: If the image cannot be used.
    """
    with no_warnings():
        return decode_image(content, file, size, depth)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings about unusual metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode_image(content: bytes, file: str, size: Size, depth: int | None) -> DecodedImage:
    """Do what `decode` does, inside `no_warnings`."""
    if file.lower().endswith(".png") and not has_png_metadata(content):
        pixels = decode_plain_png(content, *size)
        if pixels is not None:
            return DecodedImage(pixels, "as is")
    image = _open(content, file, depth)
    changes = [FIRST_PICTURE] if image.format == MULTI_PICTURE else []
    try:
        turned = orientation(content, image)
        if bits_per_channel(content, image) > 8:
            image = _scale_depth(content, depth or MAX_DEPTH)
            changes.append(SCALED.format(depth=depth))
            remaining = turned
        else:
            image.load()
            remaining = orientation(content, image)  # Pillow turns a TIFF file while it decodes it
        image, is_transparent = to_rgb(image)
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        reason = "truncated" if "truncat" in str(error) else "damaged"
        raise RejectedImageError(reason) from None
    changes += [ORIENTED] * (turned != UPRIGHT) + [TRANSPARENT] * is_transparent
    return DecodedImage(*resize(to_upright(image, remaining), size), tuple(changes))


def _scale_depth(content: bytes, depth: int) -> Image.Image:
    image = decode_16_bits(content, depth)
    if isinstance(image, str):
        raise RejectedImageError(image)
    return image


def resize(image: Image.Image, size: Size) -> tuple[NDArray[np.uint8], str]:
    """Resize an image to `size`, keeping its aspect ratio.

    A larger image is downscaled by area averaging; what it does not cover is white.

    Args:
        image: An RGB image.
        size: (width, height) of the result.

    Returns:
        The pixels, uint8, shape (height, width, 3), and the resize mode: "as is", "scaled",
        "padded" or "scaled+padded".
    """
    if image.size == size:
        return np.asarray(image), "as is"
    modes = []
    if image.width > size[0] or image.height > size[1]:
        scale = min(size[0] / image.width, size[1] / image.height)
        scaled_size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(scaled_size, Image.Resampling.BOX)
        modes.append("scaled")
    if image.size != size:
        padded = Image.new("RGB", size, WHITE)
        padded.paste(image)
        image = padded
        modes.append("padded")
    return np.asarray(image), "+".join(modes)


def _open(content: bytes, file: str, depth: int | None) -> Image.Image:
    expected_format = format_of(file)
    if not content:
        raise RejectedImageError("empty file")
    try:
        image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        raise RejectedImageError(f"more than {MAX_PIXELS:,} pixels") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError):
        raise RejectedImageError(unidentified_error(content, expected_format)) from None
    if (image.format == MULTI_PICTURE and expected_format != "JPEG") or (
        image.format not in (expected_format, MULTI_PICTURE)
    ):
        raise RejectedImageError(f"{image.format} under the extension of {expected_format}")
    reason = header_error(content, image) or _depth_error(content, image, depth)
    if reason:
        raise RejectedImageError(reason)
    if _is_label_page(image):
        raise RejectedImageError("the label or macro image of a slide, which may show a name")
    return image


def _depth_error(content: bytes, image: Image.Image, depth: int | None) -> str:
    """Why the values of the pixels cannot be brought to 8 bits; empty if they can."""
    bits = bits_per_channel(content, image)
    if bits <= 8:
        return "" if image.mode in MODES else f"pixels of type {image.mode}; convert it to RGB"
    if bits != MAX_DEPTH:
        return f"{DEEP} ({bits}); save it with 8 or 16 bits"
    if depth is None:
        # Pillow would clip gray at 255, and drop the low byte of colors.
        return f"{DEEP} ({bits}); declare how many are used with `--depth`"
    is_read = is_unsigned_grey_or_rgb(image) if image.format == "TIFF" else True
    if not is_read or "transparency" in image.info:
        return f"{DEEP} ({bits}), and not gray, RGB or RGBA; save it with 8 bits"
    return ""


def _is_label_page(image: Image.Image) -> bool:
    """Whether the first page of a TIFF file is the label or the macro image of a slide."""
    if not isinstance(image, TiffImageFile):
        return False
    description = str(image.tag_v2.get(DESCRIPTION_TAG, "")).replace("\r", "\n")
    return LABEL_PAGE.search(description) is not None


def is_image(file: str) -> bool:
    """Whether the file's name has the suffix of an image format."""
    return splitext(file)[1].lower() in FORMATS


def format_of(file: str) -> str:
    """The format that the suffix of a file names; RejectedImageError if it names none."""
    image_format = FORMATS.get(splitext(file)[1].lower())
    if image_format is None:
        raise RejectedImageError(NO_IMAGE)
    return image_format
