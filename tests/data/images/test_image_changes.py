"""Transparent pixels are white, and images stand upright, in every format."""

import io

import numpy as np
import pytest
from PIL import Image

from raysearch.data.images.decoding import RejectedImageError, decode, image_size
from support.source_images import noise_patch, png_bytes

FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF"}
# The corner of the stored image where the upper left corner of the upright one is.
TOP_LEFT = {
    1: "top left",
    2: "top right",
    3: "bottom right",
    4: "bottom left",
    5: "top left",
    6: "bottom left",
    7: "bottom right",
    8: "top right",
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("orientation", TOP_LEFT)
def test_the_orientation_is_applied_to_all_formats(suffix: str, orientation: int) -> None:
    """The stored image has a grey corner that is at the upper left after turning it."""
    stored = np.zeros((32, 48, 3), np.uint8)
    vertical, horizontal = TOP_LEFT[orientation].split()
    rows = slice(0, 16) if vertical == "top" else slice(16, 32)
    columns = slice(0, 16) if horizontal == "left" else slice(32, 48)
    stored[rows, columns] = 200
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = io.BytesIO()
    options = {"quality": 100} if suffix == "jpg" else {}
    Image.fromarray(stored).save(content, FORMATS[suffix], exif=exif, **options)
    size = (32, 48) if orientation > 4 else (48, 32)
    assert image_size(content.getvalue(), f"x.{suffix}") == size
    decoded = decode(content.getvalue(), f"x.{suffix}", size)
    assert decoded.resize_mode == "as is"
    assert decoded.changes == (() if orientation == 1 else ("EXIF orientation applied",))
    corner = decoded.pixels[:16, :16].astype(int)
    assert abs(corner - 200).max() < 4
    assert decoded.pixels.astype(int).sum() < 1.02 * corner.sum()


def test_malformed_metadata_is_no_orientation() -> None:
    content = io.BytesIO()
    Image.fromarray(noise_patch(1)).save(content, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(content.getvalue(), "x.jpg", (50, 50)).changes == ()


def test_transparent_pixels_are_white() -> None:
    pixels = noise_patch(1)
    clear = np.dstack([pixels, np.zeros((50, 50), np.uint8)])
    decoded = decode(png_bytes(clear), "x.png", (50, 50))
    assert (decoded.pixels == 255).all()
    assert decoded.changes == ("transparency replaced by white",)
    clear[..., 3] = 255
    decoded = decode(png_bytes(clear), "x.png", (50, 50))
    assert (decoded.pixels == pixels).all()
    assert decoded.changes == ()
    clear[..., 3] = 51
    blended = decode(png_bytes(clear), "x.png", (50, 50)).pixels
    assert abs(blended - (pixels * 0.2 + 255 * 0.8)).max() <= 1


def test_a_transparent_color_of_a_palette_or_of_rgb_is_white() -> None:
    pixels = np.zeros((50, 50), np.uint8)
    pixels[10:] = 7
    palette = Image.fromarray(pixels).convert("P")
    palette.putpalette([0, 0, 0, *[10, 20, 30] * 255])
    rgb = Image.fromarray(np.dstack([pixels] * 3))
    for image, transparent, opaque in ((palette, 0, (10, 20, 30)), (rgb, (0, 0, 0), (7, 7, 7))):
        content = io.BytesIO()
        image.save(content, "PNG", transparency=transparent)
        decoded = decode(content.getvalue(), "x.png", (50, 50))
        assert (decoded.pixels[:10] == 255).all()
        assert (decoded.pixels[10:] == opaque).all()
        assert decoded.changes == ("transparency replaced by white",)


def test_the_first_picture_of_a_camera_is_decoded() -> None:
    content = io.BytesIO()
    first, second = (Image.new("RGB", (50, 50), color) for color in ("white", "black"))
    first.save(content, "MPO", save_all=True, append_images=[second])
    decoded = decode(content.getvalue(), "x.jpg", (50, 50))
    assert (decoded.pixels == 255).all()
    assert decoded.changes == ("first of several pictures",)
    with pytest.raises(RejectedImageError, match="MPO under the extension of PNG"):
        decode(content.getvalue(), "x.png", (50, 50))
