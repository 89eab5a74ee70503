"""Tissue is what is more saturated than glass, and its fraction in a tile is exact."""

from pathlib import Path

import numpy as np
import pytest

from raysearch.data.slides import tissue_mask
from raysearch.data.slides.slide_formats import open_slide
from raysearch.data.slides.tissue_mask import (
    TissueMask,
    find_tissue,
    nearest_finer_level,
    read_thumbnail,
)
from support.scanned_slides import GLASS, paint, write_ome_tiff, write_tiff

SIZE = (1600, 1200)
SQUARE = [(400, 300), (1200, 300), (1200, 900), (400, 900)]


def test_the_tissue_of_a_slide_is_that_which_was_painted(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", paint(SIZE, [SQUARE], []))
    with open_slide(path) as slide:
        mask = find_tissue(slide, 256)
    assert mask.pixel_size == 16
    assert mask.is_tissue.shape == (75, 100)
    rows, columns = np.nonzero(mask.is_tissue)
    assert abs(rows.min() * 16 - 300) <= 16
    assert abs((rows.max() + 1) * 16 - 900) <= 16
    assert abs(columns.min() * 16 - 400) <= 16
    assert abs((columns.max() + 1) * 16 - 1200) <= 16
    assert mask.fraction == pytest.approx(0.25, abs=0.01)
    # Tiles that lie within the tissue, outside of it, and half on its left edge.
    left, top = np.array([600, 0, 272]), np.array([500, 0, 500])
    fractions = mask.fractions(left, top, 256, 256)
    assert fractions == pytest.approx([1, 0, 0.5], abs=0.03)


@pytest.mark.parametrize("color", [GLASS, (255, 255, 255), (0, 0, 0), (128, 128, 128)])
def test_a_slide_without_color_has_no_tissue(tmp_path: Path, color: tuple[int, int, int]) -> None:
    pixels = np.full((1200, 1600, 3), color, np.uint8)
    noisy = pixels + np.random.default_rng(0).integers(-3, 4, pixels.shape)
    path = write_tiff(tmp_path / "a.tiff", np.clip(noisy, 0, 255).astype(np.uint8))
    with open_slide(path) as slide:
        assert find_tissue(slide, 256).fraction == 0


def test_a_slide_that_is_all_tissue_is_not_parted_in_two(tmp_path: Path) -> None:
    halves = [
        [(0, 0), (800, 0), (800, 1200), (0, 1200)],
        [(800, 0), (1600, 0), (1600, 1200), (800, 1200)],
    ]
    path = write_tiff(tmp_path / "a.tiff", paint(SIZE, halves[:1], halves[1:]))
    with open_slide(path) as slide:
        assert find_tissue(slide, 256).fraction == 1


def test_fractions_are_exact_for_the_pixels_of_the_mask() -> None:
    rng = np.random.default_rng(0)
    is_tissue = rng.random((20, 30)) < 0.5
    thumbnail = np.zeros((20, 30, 3), np.uint8)
    mask = TissueMask(is_tissue, thumbnail, 8.0, left=40, top=16, threshold=20)
    left, top = rng.integers(40, 200, 50), rng.integers(16, 100, 50)
    width, height = 53.5, 41.25
    # In steps of a quarter of a pixel, which the sides of all of these tiles are multiples of.
    fine = np.kron(is_tissue, np.ones((32, 32)))
    expected = []
    for x, y in zip(left - 40, top - 16, strict=True):
        rows = slice(4 * y, round(4 * (y + height)))
        columns = slice(4 * x, round(4 * (x + width)))
        expected.append(fine[rows, columns].sum() / (16 * width * height))
    assert mask.fractions(left, top, width, height) == pytest.approx(expected)


def test_the_coarsest_level_that_is_fine_enough_is_read(tmp_path: Path) -> None:
    path = write_ome_tiff(tmp_path / "a.ome.tif", paint(SIZE, [SQUARE], []))
    with open_slide(path) as slide:
        levels = [nearest_finer_level(slide, size) for size in (0.9, 1, 1.9, 2, 3.99, 4, 50)]
        assert levels == [0, 0, 0, 1, 1, 2, 2]
        assert nearest_finer_level(slide, 3.97, tolerance=0.01) == 2


def test_a_thumbnail_does_not_depend_on_the_blocks_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "a.tiff", paint(SIZE, [SQUARE], []), levels=1)
    with open_slide(path) as slide:
        whole, pixel_size = read_thumbnail(slide, 16, 4096)
        monkeypatch.setattr(tissue_mask, "BLOCK_PIXELS", 16 * 16 * 7)
        assert (read_thumbnail(slide, 16, 4096)[0] == whole).all()
    assert whole.shape == (75, 100, 3)
    assert pixel_size == 16
