"""Reads what the header of an image file says, and names what cannot be read as a patch.

Pillow takes the high byte of 16-bit colors, decodes the first of several pages, and reports an
unknown compression as no image at all. The header decides before Pillow decodes the pixels.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

# Larger than any patch, and small enough to decode on every core at once.
MAX_PIXELS = 50_000_000
# A progressive JPEG file has ten; each costs the time of decoding the whole image.
MAX_JPEG_SCANS = 100
START_OF_SCAN = b"\xff\xda"
PAGES = "several pages that are not the levels of a pyramid; save each page as a file"
ANIMATION = "an animation of several pictures; save each picture as a file"
DEEP = "more than 8 bits a channel"

# Tags of TIFF files.
COMPRESSION, PHOTOMETRIC, SAMPLES = 259, 262, 277
BITS, SAMPLE_FORMAT, EXTRA_SAMPLES, PLANAR = 258, 339, 338, 284
TILE_WIDTH, TILE_HEIGHT = 322, 323
BIG_TIFF, BIG_HEADER_BYTES, HEADER_BYTES = 43, 16, 8
UNSIGNED = 1
UNREAD_COMPRESSIONS = {
    33003: "JPEG 2000 (Aperio)",
    33004: "JPEG 2000 (Aperio)",
    33005: "JPEG 2000 (Aperio)",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of a DNG file",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
# The compressions that Pillow decodes.
READ_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 34676, 34677, 34925, 50000)
# The markers of JPEG files that begin with the bits a channel, and those that no decoder here has.
FRAMES, UNREAD_FRAMES = range(0xC0, 0xD0), (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xD0))
NO_FRAMES = (0xC4, 0xC8, 0xCC)
# A level of a pyramid has at most this part of the width of the level before.
MAX_LEVEL_RATIO = 0.75
MALFORMED = (SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error)


def bits_per_channel(content: bytes, image: Image.Image) -> int:
    """The bits that the file stores for each channel of a pixel.

    Args:
        content: The bytes of the file.
        image: The file, opened by Pillow.
    """
    if image.format == "PNG":
        return content[24]
    if image.format == "TIFF":
        return max(_numbers(_tags(image), BITS, 1))
    return 8  # Pillow opens no other JPEG files


def header_error(content: bytes, image: Image.Image) -> str:
    """Why the pixels of an image must not be decoded; empty if they may.

    Args:
        content: The bytes of the file.
        image: The file, opened by Pillow; it stays at its first page.
    """
    if image.width * image.height > MAX_PIXELS:
        return f"more than {MAX_PIXELS:,} pixels"
    if min(image.size) < 1:
        return "no pixels"
    if image.format == "TIFF":
        return _compression_error(_tags(image)) or _tile_error(image) or _page_error(image)
    if image.format == "PNG":
        return ANIMATION if getattr(image, "is_animated", False) else ""
    if content.count(START_OF_SCAN) > MAX_JPEG_SCANS:
        return f"more than {MAX_JPEG_SCANS} scans"
    return _jpeg_error(content)


def unidentified_error(content: bytes, image_format: str) -> str:
    """Why Pillow does not open a file that has the suffix of `image_format`."""
    reason = ""
    if image_format == "TIFF":
        reason = _tiff_error(content)
    elif image_format == "JPEG":
        reason = _jpeg_error(content)
    return reason or "not an image"


def _tags(image: Image.Image) -> Mapping[int, object]:
    tags: Mapping[int, object] = getattr(image, "tag_v2", {})
    return tags


def _numbers(tags: Mapping[int, object], tag: int, default: int) -> tuple[int, ...]:
    value = tags.get(tag, default)
    values = value if isinstance(value, tuple) else (value,)
    return tuple(number for number in values if isinstance(number, int)) or (default,)


def is_unsigned_grey_or_rgb(image: Image.Image) -> bool:
    """Whether a TIFF file has unsigned grey or RGB values, and no other channel than alpha."""
    tags = _tags(image)
    return (
        set(_numbers(tags, SAMPLE_FORMAT, UNSIGNED)) == {UNSIGNED}
        and _numbers(tags, PHOTOMETRIC, 0)[0] in (1, 2)
        and _numbers(tags, PLANAR, 1)[0] == 1
        and _numbers(tags, EXTRA_SAMPLES, 2) == (2,)
    )


def _compression_error(tags: Mapping[int, object]) -> str:
    number = _numbers(tags, COMPRESSION, 1)[0]
    if number in READ_COMPRESSIONS:
        return ""
    name = UNREAD_COMPRESSIONS.get(number, f"number {number}")
    return f"TIFF compression {name} is not read; save it with LZW or Deflate compression"


def _tile_error(image: Image.Image) -> str:
    """Why the tiles are too large; a tile is decompressed as a whole."""
    tags = _tags(image)
    width, height = _numbers(tags, TILE_WIDTH, 1)[0], _numbers(tags, TILE_HEIGHT, 1)[0]
    if min(width, height) < 1:
        return "tiles without pixels"
    padded_width = -(-image.width // width) * width
    padded_height = -(-image.height // height) * height
    if padded_width * padded_height > MAX_PIXELS:
        return f"tiles of more than {MAX_PIXELS:,} pixels"
    return ""


def _page_error(image: Image.Image) -> str:
    """Why the pages of a TIFF file are more than one image; `image` stays at its first page."""
    first_size = level_size = image.size
    page = 0
    try:
        while True:
            page += 1
            image.seek(page)
            if not _is_level(image.size, level_size, first_size):
                return PAGES
            level_size = image.size
    except EOFError:
        return ""
    except MALFORMED:
        return PAGES
    finally:
        image.seek(0)


def _is_level(size: tuple[int, int], before: tuple[int, int], first: tuple[int, int]) -> bool:
    """Whether a page of `size` is a smaller level of the pyramid of `first`."""
    if size[0] > MAX_LEVEL_RATIO * before[0] or size[1] > before[1]:
        return False
    return abs(size[1] - first[1] * size[0] / first[0]) <= 1 + first[1] / first[0]


def _tiff_error(content: bytes) -> str:
    if content[:2] not in (b"II", b"MM"):
        return ""
    is_big = BIG_TIFF in content[2:4]
    try:
        directory = ImageFileDirectory_v2(content[: BIG_HEADER_BYTES if is_big else HEADER_BYTES])
        file = io.BytesIO(content)
        file.seek(directory.next)
        directory.load(file)
        tags = dict(directory)
    except MALFORMED:
        return ""
    reason = _compression_error(tags)
    if reason or BITS not in tags:
        return reason
    bits, samples = max(_numbers(tags, BITS, 1)), _numbers(tags, SAMPLES, 1)[0]
    if bits > 8:
        return f"{DEEP}: {samples} of {bits} bits; save it with 8 bits"
    photometric = _numbers(tags, PHOTOMETRIC, 0)[0]
    return f"{samples} channels of photometric interpretation {photometric} are not read"


def _jpeg_error(content: bytes) -> str:
    """Why the frame of a JPEG file is not decoded."""
    position = 2
    while content[:2] == b"\xff\xd8" and position + 5 <= len(content) and content[position] == 0xFF:
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4])
        if marker in FRAMES and marker not in NO_FRAMES:
            if content[position + 4] > 8:
                return f"{DEEP}: {content[position + 4]} bits; save it with 8 bits"
            unread = marker in UNREAD_FRAMES
            return "lossless or arithmetic JPEG compression is not read" if unread else ""
        position += 2 + max(2, length)
    return ""
