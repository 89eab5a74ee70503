"""TIFF files, written tag by tag, also such as no library writes."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

SHORT, LONG = 3, 4
# Tags, and values of the photometric interpretation.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSET, SAMPLES = (
    256,
    257,
    258,
    259,
    262,
    273,
    277,
)
ROWS_PER_STRIP, STRIP_BYTES, SUBFILE, EXTRA_SAMPLES = 278, 279, 254, 338
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSET, TILE_BYTES = 322, 323, 324, 325
GREY, RGB, CMYK = 1, 2, 5


def tiff_bytes(
    *pages: NDArray[np.uint8] | NDArray[np.uint16],
    photometric: int = RGB,
    big_endian: bool = False,
    compression: int = 1,
    tile: tuple[int, int] | None = None,
) -> bytes:
    """Return a TIFF file with the pages, each of shape (height, width, channels).

    Args:
        *pages: The pixels of each page; they are not compressed, whatever `compression` is.
        photometric: The photometric interpretation; a channel more than its own is alpha.
        big_endian: The order of the bytes.
        compression: The number of the compression that the file names.
        tile: (width, height) of the only tile that the file names; None for a strip.
    """
    order = ">" if big_endian else "<"
    content = bytearray(b"MM\0*" if big_endian else b"II*\0") + bytearray(4)
    link = 4
    for page in pages:
        height, width, channels = page.shape
        start = len(content)
        content += page.astype(f"{order}u{page.dtype.itemsize}").tobytes()
        bits_at = len(content)
        content += struct.pack(f"{order}{channels}H", *[page.dtype.itemsize * 8] * channels)
        num_bytes = bits_at - start
        tags = {
            WIDTH: (LONG, width),
            HEIGHT: (LONG, height),
            BITS: (SHORT, bits_at if channels > 2 else page.dtype.itemsize * 8),
            COMPRESSION: (SHORT, compression),
            PHOTOMETRIC: (SHORT, photometric),
            SAMPLES: (SHORT, channels),
        }
        if tile is None:
            tags |= {STRIP_OFFSET: (LONG, start), STRIP_BYTES: (LONG, num_bytes)}
            tags |= {ROWS_PER_STRIP: (LONG, height)}
        else:
            tags |= {TILE_WIDTH: (LONG, tile[0]), TILE_HEIGHT: (LONG, tile[1])}
            tags |= {TILE_OFFSET: (LONG, start), TILE_BYTES: (LONG, num_bytes)}
        if photometric == RGB and channels == 4:
            tags[EXTRA_SAMPLES] = (SHORT, 2)
        content[link : link + 4] = struct.pack(f"{order}I", len(content))
        content += struct.pack(f"{order}H", len(tags))
        for tag, (kind, value) in sorted(tags.items()):
            count = channels if tag == BITS else 1
            if kind == SHORT and count <= 2:
                packed = struct.pack(f"{order}H", value) * count
                content += struct.pack(f"{order}HHI", tag, kind, count) + packed.ljust(4, b"\0")
            else:
                content += struct.pack(f"{order}HHII", tag, kind, count, value)
        link = len(content)
        content += bytes(4)
    return bytes(content)
