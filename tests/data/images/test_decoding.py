"""Images are resized as documented, and images that would mislead are rejected."""

import io

import numpy as np
import pytest
from PIL import Image

from raysearch.data.images.decoding import RejectedImageError, decode, image_size
from support.source_images import decompression_bomb, png_bytes


def test_a_larger_image_is_scaled_by_area() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:, ::2] = 200
    decoded, resize_mode, _changes = decode(png_bytes(pixels), "x.png", (50, 50))
    assert resize_mode == "scaled"
    assert (decoded == 100).all()
    decoded, resize_mode, _changes = decode(png_bytes(pixels), "x.png", (50, 80))
    assert resize_mode == "scaled+padded"
    assert decoded.shape == (80, 50, 3)
    assert (decoded[50:] == 255).all()


def test_a_decompression_bomb_is_rejected_by_its_header() -> None:
    with pytest.raises(RejectedImageError, match="more than 50,000,000 pixels"):
        image_size(decompression_bomb(), "x.png")
    with pytest.raises(RejectedImageError, match="more than 50,000,000 pixels"):
        decode(decompression_bomb(10_000, 9_000), "x.png", (50, 50))


@pytest.mark.parametrize(("kind", "file"), [(np.uint16, "x.png"), (np.float32, "x.tif")])
def test_grey_of_more_than_8_bits_is_rejected_instead_of_clipped(
    kind: type[np.uint16] | type[np.float32], file: str
) -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(np.full((50, 50), 1000, kind))
    image.save(buffer, "PNG" if file.endswith("png") else "TIFF")
    with pytest.raises(RejectedImageError, match="more than 8 bits a channel"):
        decode(buffer.getvalue(), file, (50, 50))
