"""The plain PNG of which this field's sets consist, by OpenCV, in three quarters of Pillow's time.

Whatever is odd about a file is left to Pillow, which says what is wrong with it.
"""

from __future__ import annotations

import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
START = SIGNATURE + b"\x00\x00\x00\x0dIHDR"
# 8 bits a channel, red-green-blue, and the only compression, filter and order of a plain file.
PLAIN = b"\x08\x02\x00\x00\x00"
# None of these changes a pixel.
KNOWN = (b"IHDR", b"IDAT", b"IEND", b"tIME", b"pHYs", b"tEXt")


def decode_plain(content: bytes, width: int, height: int) -> NDArray[np.uint8] | None:
    """The pixels, uint8 (height, width, 3), of a plain PNG of that size; None for anything else.

    Plain: 8-bit RGB, not interlaced, whole, its checksums right, and no chunk but `KNOWN`.
    """
    shape = width.to_bytes(4, "big") + height.to_bytes(4, "big") + PLAIN
    if content[:16] != START or content[16:29] != shape or not _is_whole(content):
        return None
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if found is None or found.shape != (height, width, 3):
        return None
    return found.astype(np.uint8, copy=False)


def _is_whole(content: bytes) -> bool:
    """Whether the chunks, all `KNOWN`, fill the file up to its end, each with its checksum."""
    start, name = len(SIGNATURE), b""
    while start < len(content) and name != b"IEND":
        name = content[start + 4 : start + 8]
        stop = start + 8 + int.from_bytes(content[start : start + 4], "big")
        told = int.from_bytes(content[stop : stop + 4], "big")
        if name not in KNOWN or zlib.crc32(content[start + 4 : stop]) != told:
            return False
        start = stop + 4
    return name == b"IEND" and start == len(content)
