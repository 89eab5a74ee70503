"""The fast PNG decoder returns the pixels that Pillow returns, or None."""

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.images.png import SIGNATURE, decode_plain_png


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """Return noise and flat areas, so that an encoder uses several filters."""
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, channels))
    pixels[: height // 2] = np.arange(width)[:, None] * 5 % 256
    return pixels.astype(np.uint8)


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


GOOD = png(Image.fromarray(noise(50, 40)))
HEADER = len(SIGNATURE) + 25  # the start of the second chunk


@pytest.mark.parametrize(("height", "width"), [(50, 50), (1, 1), (96, 96), (460, 700)])
def test_a_plain_file_has_the_same_pixels_as_with_pillow(height: int, width: int) -> None:
    pixels = noise(height, width)
    decoded = decode_plain_png(png(Image.fromarray(pixels)), width, height)
    assert decoded is not None
    assert (decoded == pixels).all()


def test_a_chunk_with_a_time_changes_no_pixel() -> None:
    with_time = GOOD[:HEADER] + chunk(b"tIME", bytes(7)) + GOOD[HEADER:]
    decoded = decode_plain_png(with_time, 40, 50)
    assert decoded is not None
    assert (decoded == noise(50, 40)).all()


@pytest.mark.parametrize(
    "content",
    [
        png(Image.fromarray(noise(50, 40)[..., 0])),
        png(Image.fromarray(noise(50, 40, 4))),
        png(Image.fromarray(noise(50, 40)).quantize(16)),
        png(Image.fromarray(noise(50, 40)), icc_profile=bytes(200)),
        png(Image.fromarray(noise(40, 50))),
        GOOD[:HEADER] + chunk(b"tRNS", bytes(6)) + GOOD[HEADER:],
        GOOD[:HEADER] + chunk(b"gAMA", bytes(4)) + GOOD[HEADER:],
        GOOD[:-12],
        GOOD + b"more",
        GOOD[:20],
        b"",
        SIGNATURE,
        b"\xff\xd8\xff" + GOOD[3:],
    ],
)
def test_any_other_file_is_not_decoded(content: bytes) -> None:
    assert decode_plain_png(content, 40, 50) is None


def test_a_damaged_file_is_not_decoded(capfd: pytest.CaptureFixture[str]) -> None:
    for position in range(len(GOOD)):
        assert (
            decode_plain_png(
                GOOD[:position] + bytes([GOOD[position] ^ 4]) + GOOD[position + 1 :], 40, 50
            )
            is None
        )
        assert decode_plain_png(GOOD[:position], 40, 50) is None
    assert capfd.readouterr().err == ""


def test_damaged_data_with_a_right_checksum_is_not_decoded() -> None:
    """Decompression, or the checksum of the compressed data, detects each changed byte."""
    start = GOOD.index(b"IDAT") + 4
    stop = start + int.from_bytes(GOOD[start - 8 : start - 4], "big")
    compressed = GOOD[start:stop]
    for position in range(len(compressed)):
        damaged = (
            compressed[:position] + bytes([compressed[position] ^ 4]) + compressed[position + 1 :]
        )
        content = GOOD[: start - 8] + chunk(b"IDAT", damaged) + GOOD[stop + 4 :]
        decoded = decode_plain_png(content, 40, 50)
        assert decoded is None or (decoded == noise(50, 40)).all()


def test_a_decompression_bomb_is_not_decompressed() -> None:
    compressed = zlib.compress(bytes(50_000_000))
    content = GOOD[:HEADER] + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")
    assert decode_plain_png(content, 40, 50) is None
