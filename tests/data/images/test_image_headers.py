"""The header of a file decides whether its pixels can be read as they were stored."""

import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.images.decoding import RejectedImageError, decode, image_size
from support.source_images import noise_patch, png_bytes
from support.tiff_files import CMYK, GREY, RGB, tiff_bytes

SIZE = (32, 32)


def deep_pixels(channels: int, bits: int = 16) -> NDArray[np.uint16]:
    values = np.random.default_rng(bits).integers(0, 2**bits, (32, 32, channels))
    values[0, 0] = 2**bits - 1
    return values.astype(np.uint16)


def deep_png(pixels: NDArray[np.uint16]) -> bytes:
    """Return RGB, RGBA or grey pixels as a PNG file of 16 bits a channel."""
    order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.shape[2] > 1 else [0]
    return cv2.imencode(".png", pixels[..., order])[1].tobytes()


def deep_lzw(pixels: NDArray[np.uint16]) -> bytes:
    return cv2.imencode(".tif", pixels[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()


DEEP_FILES = {
    "rgb.png": deep_png(deep_pixels(3)),
    "rgba.png": deep_png(deep_pixels(4)),
    "grey.png": deep_png(deep_pixels(1)),
    "lzw.tif": deep_lzw(deep_pixels(3)),
    "little.tif": tiff_bytes(deep_pixels(3)),
    "big.tif": tiff_bytes(deep_pixels(3), big_endian=True),
    "rgba.tif": tiff_bytes(deep_pixels(4)),
    "cmyk.tif": tiff_bytes(deep_pixels(4), photometric=CMYK),
    "grey.tif": tiff_bytes(deep_pixels(1), photometric=GREY),
}


@pytest.mark.parametrize("file", DEEP_FILES)
def test_images_of_16_bits_are_rejected_by_their_header(file: str) -> None:
    with pytest.raises(RejectedImageError, match="more than 8 bits a channel"):
        decode(DEEP_FILES[file], file, SIZE)
    with pytest.raises(RejectedImageError, match="more than 8 bits a channel"):
        image_size(DEEP_FILES[file], file)


@pytest.mark.parametrize(
    "file", ["rgb.png", "grey.png", "lzw.tif", "little.tif", "big.tif", "grey.tif"]
)
def test_images_of_16_bits_are_scaled_to_8_if_their_depth_is_declared(file: str) -> None:
    stored = deep_pixels(1 if "grey" in file else 3).astype(np.float64)
    decoded = decode(DEEP_FILES[file], file, SIZE, depth=16)
    assert decoded.changes == ("scaled from 16 to 8 bits",)
    assert (decoded.pixels == np.floor(stored * 255 / 65535 + 0.5)).all()


def test_12_bits_in_16_become_the_whole_range_of_8() -> None:
    stored = deep_pixels(3, 12)
    for content, file in ((deep_png(stored), "x.png"), (deep_lzw(stored), "x.tif")):
        decoded = decode(content, file, SIZE, depth=12)
        assert (decoded.pixels == np.floor(stored * 255.0 / 4095 + 0.5)).all()
        assert decoded.pixels.max() == 255
        with pytest.raises(RejectedImageError, match="more than the 11 bits of --depth"):
            decode(content, file, SIZE, depth=11)


@pytest.mark.parametrize("opaque", [65535, 4095])
@pytest.mark.parametrize("file", ["x.png", "x.tif"])
def test_transparent_pixels_of_12_bits_are_white(file: str, opaque: int) -> None:
    stored = deep_pixels(4, 12)
    stored[..., 3] = opaque
    stored[:16, :, 3] = 0
    content = deep_png(stored) if file == "x.png" else tiff_bytes(stored)
    decoded = decode(content, file, SIZE, depth=12)
    assert (decoded.pixels[:16] == 255).all()
    assert (decoded.pixels[16:] == np.floor(stored[16:, :, :3] * 255.0 / 4095 + 0.5)).all()


def test_other_pixels_than_grey_and_rgb_are_rejected_whatever_the_depth() -> None:
    with pytest.raises(RejectedImageError, match="and not gray, RGB or RGBA"):
        decode(DEEP_FILES["cmyk.tif"], "cmyk.tif", SIZE, depth=16)
    floats = io.BytesIO()
    Image.fromarray(np.full(SIZE, 0.5, np.float32)).save(floats, "TIFF")
    with pytest.raises(RejectedImageError, match="more than 8 bits a channel"):
        decode(floats.getvalue(), "x.tif", SIZE, depth=16)
    lab = io.BytesIO()
    Image.new("LAB", SIZE).save(lab, "TIFF")
    with pytest.raises(RejectedImageError, match="pixels of type LAB; convert it to RGB"):
        decode(lab.getvalue(), "x.tif", SIZE)


def test_a_jpeg_file_of_12_bits_is_named() -> None:
    content = io.BytesIO()
    Image.fromarray(noise_patch(1)).save(content, "JPEG")
    frame = content.getvalue().index(b"\xff\xc0")
    deep = bytearray(content.getvalue())
    deep[frame + 4] = 12
    with pytest.raises(RejectedImageError, match="more than 8 bits a channel: 12 bits"):
        decode(bytes(deep), "x.jpg", SIZE)
    lossless = bytearray(content.getvalue())
    lossless[frame + 1] = 0xC3
    with pytest.raises(RejectedImageError, match="lossless or arithmetic JPEG compression"):
        decode(bytes(lossless), "x.jpg", SIZE)


def test_several_pages_are_rejected_and_the_levels_of_a_pyramid_are_not() -> None:
    first = noise_patch(1, 64, 48)
    levels = [first, first[::2, ::2], first[::4, ::4]]
    decoded = decode(tiff_bytes(*levels), "x.tif", (48, 64))
    assert (decoded.pixels == first).all()
    for pages in ([first, first], [first, first[::2]], [*levels, levels[-1]], [levels[1], first]):
        with pytest.raises(RejectedImageError, match="several pages that are not the levels"):
            decode(tiff_bytes(*pages), "x.tif", (48, 64))


def test_a_file_of_very_many_pages_is_rejected_at_the_second() -> None:
    page = noise_patch(1, 2, 2)
    content = tiff_bytes(*[page] * 20_000)
    with pytest.raises(RejectedImageError, match="several pages"):
        decode(content, "x.tif", (2, 2))


def test_an_animation_is_rejected() -> None:
    content = io.BytesIO()
    frames = [Image.fromarray(noise_patch(seed)) for seed in (1, 2)]
    frames[0].save(content, "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(RejectedImageError, match="an animation of several pictures"):
        decode(content.getvalue(), "x.png", (50, 50))


@pytest.mark.parametrize(
    ("number", "name"),
    [(33003, "JPEG 2000"), (34712, "JPEG 2000"), (34887, "LERC"), (50002, "JPEG XL"), (99, "99")],
)
@pytest.mark.parametrize("big_endian", [False, True])
def test_a_compression_that_is_not_read_is_named(
    number: int, name: str, big_endian: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    content = tiff_bytes(noise_patch(1), compression=number, big_endian=big_endian)
    with pytest.raises(RejectedImageError, match=f"TIFF compression .*{re.escape(name)}"):
        decode(content, "x.tif", (50, 50))
    assert capfd.readouterr().err == ""


def test_tiles_that_are_far_larger_than_the_image_are_rejected() -> None:
    for tile in ((60_000, 60_000), (16, 4_000_000)):
        content = tiff_bytes(noise_patch(1), tile=tile)
        with pytest.raises(RejectedImageError, match="tiles of more than 50,000,000 pixels"):
            decode(content, "x.tif", (50, 50))


def test_a_jpeg_file_of_very_many_scans_is_rejected() -> None:
    content = io.BytesIO()
    Image.fromarray(noise_patch(1)).save(content, "JPEG", progressive=True)
    good = content.getvalue()
    assert decode(good, "x.jpg", (50, 50)).resize_mode == "as is"
    start = good.rindex(b"\xff\xda")
    last_scan = good[start:-2]
    with pytest.raises(RejectedImageError, match="more than 100 scans"):
        decode(good[:-2] + last_scan * 200 + b"\xff\xd9", "x.jpg", (50, 50))


def test_a_png_file_of_huge_metadata_is_not_decompressed() -> None:
    content = png_bytes(noise_patch(1))
    text = b"zTXt" + b"a\0\0" + zlib.compress(bytes(80_000_000))
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    with pytest.raises(RejectedImageError):
        decode(content[:33] + chunk + content[33:], "x.png", (50, 50))


def test_rgb_of_8_bits_is_read_as_it_was_stored() -> None:
    pixels = noise_patch(1)
    for big_endian in (False, True):
        content = tiff_bytes(pixels, photometric=RGB, big_endian=big_endian)
        decoded = decode(content, "x.tif", (50, 50))
        assert (decoded.pixels == pixels).all()
        assert decoded.changes == ()
