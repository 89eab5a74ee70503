"""The fast way to a PNG's pixels gives what Pillow gives, or leaves the file to it."""

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.shards.png import SIGNATURE, decode_plain


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """Noise beside flat parts, so that an encoder uses several filters."""
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, channels))
    pixels[: height // 2] = np.arange(width)[:, None] * 5 % 256
    return pixels.astype(np.uint8)


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    end = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + end


GOOD = png(Image.fromarray(noise(50, 40)))
HEADER = len(SIGNATURE) + 25  # where the chunks after the first begin


@pytest.mark.parametrize(("height", "width"), [(50, 50), (1, 1), (96, 96), (460, 700)])
def test_a_plain_file_has_the_pixels_that_pillow_finds(height: int, width: int) -> None:
    pixels = noise(height, width)
    found = decode_plain(png(Image.fromarray(pixels)), width, height)
    assert found is not None
    assert (found == pixels).all()


def test_a_note_in_the_file_changes_nothing() -> None:
    noted = GOOD[:HEADER] + chunk(b"tIME", bytes(7)) + GOOD[HEADER:]
    found = decode_plain(noted, 40, 50)
    assert found is not None
    assert (found == noise(50, 40)).all()


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
def test_anything_else_is_left_to_pillow(content: bytes) -> None:
    assert decode_plain(content, 40, 50) is None


def test_a_damaged_file_is_never_taken_for_a_good_one(capfd: pytest.CaptureFixture[str]) -> None:
    for place in range(len(GOOD)):
        assert (
            decode_plain(GOOD[:place] + bytes([GOOD[place] ^ 4]) + GOOD[place + 1 :], 40, 50)
            is None
        )
        assert decode_plain(GOOD[:place], 40, 50) is None
    assert capfd.readouterr().err == ""


def test_damage_under_a_right_checksum_is_left_to_pillow() -> None:
    """Whatever byte of the packed pixels is wrong: unpacking, or its own checksum, tells."""
    start = GOOD.index(b"IDAT") + 4
    stop = start + int.from_bytes(GOOD[start - 8 : start - 4], "big")
    packed = GOOD[start:stop]
    for place in range(len(packed)):
        spoilt = packed[:place] + bytes([packed[place] ^ 4]) + packed[place + 1 :]
        content = GOOD[: start - 8] + chunk(b"IDAT", spoilt) + GOOD[stop + 4 :]
        found = decode_plain(content, 40, 50)
        assert found is None or (found == noise(50, 40)).all()


def test_a_bomb_is_not_unpacked() -> None:
    packed = zlib.compress(bytes(50_000_000))
    content = GOOD[:HEADER] + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    assert decode_plain(content, 40, 50) is None
