"""The plain PNG of which this field's sets consist, by ISA-L and OpenCV, in half of Pillow's time.

Whatever is odd about a file is left to Pillow, which says what is wrong with it.
"""

from __future__ import annotations

import cv2
import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
START = SIGNATURE + b"\x00\x00\x00\x0dIHDR"
# 8 bits a channel, red-green-blue, and the only compression, filter and order of a plain file.
PLAIN = b"\x08\x02\x00\x00\x00"
# None of these changes a pixel.
KNOWN = (b"IHDR", b"IDAT", b"IEND", b"tIME", b"pHYs", b"tEXt")
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
HEADER_BYTES = 33
# Each line begins with the number of its filter.
LAST_FILTER = 4
# The zlib header of uncompressed data, and the most that one block of it holds.
STORED, BLOCK_BYTES = b"\x78\x01", 0xFFFF


def decode_plain(content: bytes, width: int, height: int) -> NDArray[np.uint8] | None:
    """The pixels, uint8 (height, width, 3), of a plain PNG of that size; None for anything else.

    Plain: 8-bit RGB, not interlaced, whole, its checksums right, and no chunk but `KNOWN`.
    """
    shape = width.to_bytes(4, "big") + height.to_bytes(4, "big") + PLAIN
    if content[:16] != START or content[16:29] != shape:
        return None
    packed = _packed(content)
    line = 1 + 3 * width
    lines = None if packed is None else _unpacked(packed, height * line)
    if lines is None or max(lines[::line]) > LAST_FILTER:
        return None
    # OpenCV would unpack by zlib, which takes twice as long: it gets the lines unpacked.
    plain = np.frombuffer(content[:HEADER_BYTES] + _chunk(_stored(lines)) + END, np.uint8)
    found = cv2.imdecode(plain, cv2.IMREAD_COLOR_RGB)
    if found is None or found.shape != (height, width, 3):
        return None
    return found.astype(np.uint8, copy=False)


def _packed(content: bytes) -> bytes | None:
    """What the file's IDAT chunks hold.

    None unless its chunks, all `KNOWN`, fill it up to its end, each with its checksum.
    """
    start, name, parts = len(SIGNATURE), b"", []
    while start < len(content) and name != b"IEND":
        name = content[start + 4 : start + 8]
        stop = start + 8 + int.from_bytes(content[start : start + 4], "big")
        told = int.from_bytes(content[stop : stop + 4], "big")
        if name not in KNOWN or isal_zlib.crc32(content[start + 4 : stop]) != told:
            return None
        if name == b"IDAT":
            parts.append(content[start + 8 : stop])
        start = stop + 4
    whole = name == b"IEND" and start == len(content)
    return b"".join(parts) if whole else None


def _unpacked(packed: bytes, size: int) -> bytes | None:
    """The `size` bytes that were packed; None where it was more, less, or is damaged."""
    stream = isal_zlib.decompressobj()
    try:
        found = stream.decompress(packed, size + 1)
    except igzip_lib.IsalError:  # type: ignore[misc]
        return None
    return found if len(found) == size and stream.eof else None


def _stored(content: bytes) -> bytes:
    """`content` as a zlib stream that is not compressed."""
    parts = [STORED]
    for start in range(0, len(content), BLOCK_BYTES):
        block = content[start : start + BLOCK_BYTES]
        last = start + BLOCK_BYTES >= len(content)
        length = len(block)
        parts += (
            bytes([last]),
            length.to_bytes(2, "little"),
            (length ^ BLOCK_BYTES).to_bytes(2, "little"),
            block,
        )
    parts.append(isal_zlib.adler32(content).to_bytes(4, "big"))
    return b"".join(parts)


def _chunk(data: bytes) -> bytes:
    """The IDAT chunk of `data`."""
    named = b"IDAT" + data
    return len(data).to_bytes(4, "big") + named + isal_zlib.crc32(named).to_bytes(4, "big")
