"""Tiles have the resolution that was asked for, exactly, on a regular grid."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from raysearch.data.images.decoding import RejectedImageError
from raysearch.data.slides import slide_reader
from raysearch.data.slides.slide_formats import open_slide
from raysearch.data.slides.slide_options import SlideOptions
from raysearch.data.slides.tile_grid import read_tile, tile_grid
from support.scanned_slides import write_ome_tiff, write_tiff

OPTIONS = SlideOptions(mpp=0.5, size=(64, 64))


def random_pixels(width: int = 700, height: int = 500) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def area_weights(num_pixels: int, num_source: int, scale: float) -> NDArray[np.float64]:
    """Return the fraction of each source pixel in the mean of each pixel of the result."""
    starts = np.arange(num_pixels)[:, None] * scale
    positions = np.arange(num_source)[None]
    overlap = np.minimum(starts + scale, positions + 1) - np.maximum(starts, positions)
    weights: NDArray[np.float64] = np.clip(overlap, 0, None) / scale
    return weights


def test_a_tile_is_scaled_by_area_to_the_exact_resolution(tmp_path: Path) -> None:
    pixels = random_pixels()
    path = write_ome_tiff(tmp_path / "a.ome.tif", pixels, 0.2527, levels=1)
    with open_slide(path) as slide:
        grid = tile_grid(slide, OPTIONS)
        tile = read_tile(slide, grid, 127, 254)
    scale = 0.5 / 0.2527
    assert grid.scale == pytest.approx(scale)
    assert grid.side == pytest.approx((64 * scale, 64 * scale))
    assert grid.stride == (127, 127)
    side = int(np.ceil(64 * scale))
    source = pixels[254 : 254 + side, 127 : 127 + side].astype(np.float64)
    weights = area_weights(64, side, scale)
    expected = np.einsum("ij,jkc,lk->ilc", weights, source, weights)
    assert np.abs(tile - expected).max() < 0.51


def test_the_nearest_finer_level_is_read(tmp_path: Path) -> None:
    pixels = random_pixels()
    path = write_ome_tiff(tmp_path / "a.ome.tif", pixels, 0.25)
    with open_slide(path) as slide:
        grid = tile_grid(slide, OPTIONS)
        assert (grid.level, grid.scale, grid.stride) == (1, 1.0, (128, 128))
        assert (grid.num_columns, grid.num_rows) == (5, 3)
        assert (read_tile(slide, grid, 256, 128) == pixels[::2, ::2][64:128, 128:192]).all()
        assert tile_grid(slide, replace(OPTIONS, mpp=0.4)).level == 0
        assert grid.magnification == 20


def test_the_grid_is_regular_and_within_the_slide(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", random_pixels(), 0.35)
    with open_slide(path) as slide:
        grid = tile_grid(slide, replace(OPTIONS, size=(50, 30), overlap=10))
    left, top = grid.positions()
    assert len(left) == grid.num_columns * grid.num_rows
    # 40 and 20 pixels of .5 micrometres are 57.1 and 28.6 of .35.
    assert grid.stride == (57, 29)
    assert np.unique(np.diff(np.unique(left))).tolist() == [57]
    assert np.unique(np.diff(np.unique(top))).tolist() == [29]
    assert left.max() + grid.side[0] < 701 <= left.max() + 57 + grid.side[0]
    assert top.max() + grid.side[1] < 501 <= top.max() + 29 + grid.side[1]
    assert (np.diff(top) >= 0).all()


def test_a_level_that_is_slightly_coarser_is_interpolated(tmp_path: Path) -> None:
    pixels = np.repeat(np.arange(0, 250, dtype=np.uint8)[None, :, None], 250, 0).repeat(3, 2)
    path = write_tiff(tmp_path / "a.tiff", pixels, 0.51, levels=1)
    with open_slide(path) as slide:
        grid = tile_grid(slide, OPTIONS)
        tile = read_tile(slide, grid, 100, 0)
    assert grid.scale == pytest.approx(0.5 / 0.51)
    expected = 100 + (np.arange(64) + 0.5) * grid.scale - 0.5
    assert np.abs(tile[10, :, 0] - expected).max() <= 1


@pytest.mark.parametrize(
    ("mpp", "options", "reason"),
    [
        (None, OPTIONS, "does not say the size of its pixels; give --assume-mpp"),
        (352.8, OPTIONS, r"its pixels are of 352\.8 micrometres, not 0\.05 to 20"),
        (0.02, OPTIONS, r"its pixels are of 0\.02 micrometres, not 0\.05 to 20"),
        (0.6, OPTIONS, r"its finest pixels are of 0\.6 micrometres, coarser than --mpp 0\.5"),
        (0.05, replace(OPTIONS, mpp=5.0), "700 x 500 pixels, smaller than a tile of 6,400 x 6,400"),
    ],
)
def test_a_slide_without_such_tiles_is_rejected(
    tmp_path: Path, mpp: float | None, options: SlideOptions, reason: str
) -> None:
    path = write_tiff(tmp_path / "a.tiff", random_pixels(), mpp, levels=1)
    with open_slide(path) as slide, pytest.raises(RejectedImageError, match=reason):
        tile_grid(slide, options)


@pytest.mark.parametrize("mpp", [None, 352.8])
def test_an_assumed_resolution_is_used_if_the_slide_has_none(
    tmp_path: Path, mpp: float | None
) -> None:
    path = write_tiff(tmp_path / "a.tiff", random_pixels(), mpp, levels=1)
    with open_slide(path) as slide:
        assert tile_grid(slide, replace(OPTIONS, assumed_mpp=0.25)).scale == pytest.approx(2)


def test_an_assumed_resolution_replaces_no_other(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", random_pixels(), 0.5, levels=1)
    with open_slide(path) as slide:
        assert tile_grid(slide, replace(OPTIONS, assumed_mpp=0.25)).scale == pytest.approx(1)


def test_a_tile_of_too_many_pixels_of_its_level_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "a.tiff", random_pixels(), 0.5, levels=1)
    monkeypatch.setattr(slide_reader, "MAX_PIXELS", 700 * 500 - 1)
    reason = "700 x 500 pixels of a level has to be read"
    with open_slide(path) as slide, pytest.raises(RejectedImageError, match=reason):
        tile_grid(slide, replace(OPTIONS, size=(700, 500)))
