"""Decodes plain PNG files with ISA-L and OpenCV, in half of the time that Pillow takes.

Pillow decodes all other PNG files, and reports what is wrong with them.
"""

from __future__ import annotations

import cv2
import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
START = SIGNATURE + b"\x00\x00\x00\x0dIHDR"
# 8 bits a channel, RGB, and the only compression and filter method; not interlaced.
PLAIN = b"\x08\x02\x00\x00\x00"
# None of these chunks changes a pixel.
ALLOWED_CHUNKS = (b"IHDR", b"IDAT", b"IEND", b"tIME", b"pHYs", b"tEXt")
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
HEADER_BYTES = 33
# Each scanline begins with the number of its filter.
LAST_FILTER = 4
# The zlib header of uncompressed data, and the maximum length of an uncompressed block.
STORED, BLOCK_BYTES = b"\x78\x01", 0xFFFF


def decode_plain_png(content: bytes, width: int, height: int) -> NDArray[np.uint8] | None:
    """Decode a plain PNG file of a given size.

    A plain file is complete, 8-bit RGB and not interlaced; its checksums are right, and it has only
    the chunks `ALLOWED_CHUNKS`.

    Returns:
        The pixels, uint8, shape (height, width, 3); None for any other file.
    """
    shape = width.to_bytes(4, "big") + height.to_bytes(4, "big") + PLAIN
    if content[:16] != START or content[16:29] != shape:
        return None
    compressed = _image_data(content)
    line_bytes = 1 + 3 * width
    lines = None if compressed is None else _decompress(compressed, height * line_bytes)
    if lines is None or max(lines[::line_bytes]) > LAST_FILTER:
        return None
    # OpenCV's own zlib takes twice as long as ISA-L, so it gets the scanlines uncompressed.
    plain = np.frombuffer(content[:HEADER_BYTES] + _idat_chunk(_store(lines)) + END, np.uint8)
    pixels = cv2.imdecode(plain, cv2.IMREAD_COLOR_RGB)
    if pixels is None or pixels.shape != (height, width, 3):
        return None
    return pixels.astype(np.uint8, copy=False)


def _image_data(content: bytes) -> bytes | None:
    """The content of the file's IDAT chunks.

    None if there is a chunk that is not in `ALLOWED_CHUNKS`, a checksum is wrong, or the file does
    not end with the last chunk.
    """
    start, name, blocks = len(SIGNATURE), b"", []
    while start < len(content) and name != b"IEND":
        name = content[start + 4 : start + 8]
        stop = start + 8 + int.from_bytes(content[start : start + 4], "big")
        checksum = int.from_bytes(content[stop : stop + 4], "big")
        if name not in ALLOWED_CHUNKS or isal_zlib.crc32(content[start + 4 : stop]) != checksum:
            return None
        if name == b"IDAT":
            blocks.append(content[start + 8 : stop])
        start = stop + 4
    is_complete = name == b"IEND" and start == len(content)
    return b"".join(blocks) if is_complete else None


def _decompress(compressed: bytes, size_bytes: int) -> bytes | None:
    """Decompress to exactly `size_bytes`; None for another size, or damaged data."""
    stream = isal_zlib.decompressobj()
    try:
        content = stream.decompress(compressed, size_bytes + 1)
    except igzip_lib.IsalError:  # type: ignore[misc]
        return None
    return content if len(content) == size_bytes and stream.eof else None


def _store(content: bytes) -> bytes:
    """`content` as a zlib stream without compression."""
    blocks = [STORED]
    for start in range(0, len(content), BLOCK_BYTES):
        block = content[start : start + BLOCK_BYTES]
        is_last = start + BLOCK_BYTES >= len(content)
        length = len(block)
        blocks += (
            bytes([is_last]),
            length.to_bytes(2, "little"),
            (length ^ BLOCK_BYTES).to_bytes(2, "little"),
            block,
        )
    blocks.append(isal_zlib.adler32(content).to_bytes(4, "big"))
    return b"".join(blocks)


def _idat_chunk(data: bytes) -> bytes:
    content = b"IDAT" + data
    return len(data).to_bytes(4, "big") + content + isal_zlib.crc32(content).to_bytes(4, "big")
