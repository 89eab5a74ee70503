"""The color filter selects stained tissue, and tiles are adjacent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raysearch.data.harvest.harvest_settings import Purple
from raysearch.data.harvest.tissue_tiles import (
    purple_mask,
    purple_tile_corners,
    rejection_reason,
    tile_corners,
)
from support.harvest_services import Pixels


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(0, 2**32),
    st.floats(0, 1),
)
def test_tiles_are_adjacent_and_have_enough_purple(
    height: int, width: int, size: int, seed: int, min_fraction: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < min_fraction
    corners = list(tile_corners(height, width, size))
    assert len(corners) == (height // size) * (width // size)
    num_tiles = np.zeros((height, width), int)
    for x, y in corners:
        num_tiles[y : y + size, x : x + size] += 1
    assert num_tiles.max(initial=0) <= 1
    assert num_tiles.sum() == len(corners) * size * size
    purple_corners = list(purple_tile_corners(mask, size, min_fraction))
    assert set(purple_corners) <= set(corners)
    for x, y in corners:
        is_purple = mask[y : y + size, x : x + size].sum() >= min_fraction * size * size
        assert ((x, y) in purple_corners) == is_purple


@given(arrays.arrays(np.uint8, (6, 9, 3)))
def test_each_pixel_is_classified_independently(pixels: Pixels) -> None:
    mask = purple_mask(pixels, Purple())
    rotated = purple_mask(np.ascontiguousarray(pixels[::-1, ::-1]), Purple())
    assert (rotated[::-1, ::-1] == mask).all()
    for (y, x), is_purple in np.ndenumerate(mask):
        pixel = pixels[y : y + 1, x : x + 1].copy()
        assert purple_mask(pixel, Purple())[0, 0] == is_purple


@pytest.mark.parametrize(
    ("color", "is_purple"),
    [
        ((150, 90, 160), True),  # hematoxylin
        ((225, 150, 195), True),  # eosin
        ((245, 240, 245), False),  # glass
        ((130, 130, 130), False),
        ((20, 8, 20), False),  # a tissue fold or pen
        ((31, 119, 180), False),
        ((150, 100, 60), False),  # DAB
        ((200, 0, 200), False),  # fluorescence
    ],
)
def test_the_colors_of_the_stain_are_purple(color: tuple[int, int, int], is_purple: bool) -> None:
    pixels = np.full((2, 2, 3), color, np.uint8)
    assert (purple_mask(pixels, Purple()) == is_purple).all()


def test_the_reason_for_a_rejection_has_the_value_and_the_limit() -> None:
    purple = Purple(min_pixels=20_000, min_purple_pixels=5_000)
    assert rejection_reason((200, 200, 3), 40_000, 96, purple) == ""
    reasons = {
        ((100, 100), 10_000): "10,000 pixels, fewer than 20,000",
        ((200, 200), 7_999): "20.0% purple, less than 20%",
        ((150, 150), 4_600): "4,600 purple pixels, fewer than 5,000",
        ((300, 90), 27_000): "90x300, smaller than a tile of 96x96",
    }
    for (shape, num_purple_pixels), reason in reasons.items():
        assert rejection_reason(shape, num_purple_pixels, 96, purple) == reason
