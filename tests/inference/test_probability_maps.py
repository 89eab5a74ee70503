"""The pyramidal TIFF file of the probabilities, and the overlay on the slide."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from raysearch.data.slides.tile_grid import TileGrid
from raysearch.inference.image_rendering import viridis
from raysearch.inference.probability_maps import draw_overlay, probability_tiff
from raysearch.inference.tile_scores import NO_TILE, TileScores
from support.scanned_slides import GLASS, paint, write_tiff


def grid_of(num_columns: int, num_rows: int) -> TileGrid:
    """Return the grid of tiles of 50 pixels of .5 micrometres, 100 pixels of level 0."""
    place = {"left": 100, "top": 200, "num_columns": num_columns, "num_rows": num_rows}
    return TileGrid(0.5, (50, 50), 1, 2.0, 1.0, (100, 100), **place)


def scores_of(positive: NDArray[np.float32]) -> TileScores:
    decided = np.where(np.isnan(positive), NO_TILE, positive > 0.5).astype(np.int16)
    grid = grid_of(positive.shape[1], positive.shape[0])
    return TileScores(grid, np.stack([1 - positive, positive]), decided)


def test_the_file_has_a_channel_for_each_class_and_levels_of_means_without_what_has_no_tile() -> (
    None
):
    positive = np.random.default_rng(0).random((301, 530)).astype(np.float32)
    positive[:100] = np.nan
    positive[100, 0] = np.nan
    with tifffile.TiffFile(
        io.BytesIO(probability_tiff(scores_of(positive), ("no", "yes")))
    ) as file:
        levels = [level.asarray() for level in file.series[0].levels]
        description = file.ome_metadata or ""
    assert [level.shape for level in levels] == [(2, 301, 530), (2, 151, 265), (2, 76, 133)]
    assert np.array_equal(levels[0][1], positive, equal_nan=True)
    assert np.allclose(levels[0].sum(0)[101:], 1)
    half = levels[1][1]
    assert np.isnan(half[:50]).all()
    assert half[60, 70] == pytest.approx(positive[120:122, 140:142].mean(), abs=1e-6)
    assert half[50, 0] == pytest.approx(np.nanmean(positive[100:102, :2]), abs=1e-6)
    assert half[150, 3] == pytest.approx(positive[300, 6:8].mean(), abs=1e-6)
    # A tile has a side of 25 micrometres; the first one begins at (100, 200) pixels of .25.
    for text in ('Name="yes"', 'PhysicalSizeX="25.0"', 'PositionX="25.0"', 'PositionY="50.0"'):
        assert text in description


def test_an_overlay_colors_the_tiles_and_leaves_the_rest_of_the_slide(tmp_path: Path) -> None:
    glass = paint((1000, 900), [], [])
    slide = write_tiff(tmp_path / "a.tiff", glass, 0.25)
    positive = np.full((4, 3), np.nan, np.float32)
    positive[1, 2], positive[3, 0] = 1.0, 0.0
    overlay = draw_overlay(str(slide), scores_of(positive))
    assert overlay.shape == (900, 1000, 3)
    is_changed = (np.abs(overlay.astype(int) - glass.astype(int)) > 0).any(-1)
    expected = np.zeros((900, 1000), bool)
    expected[300:400, 300:400] = True  # the second row and the third column of the grid
    expected[500:600, 100:200] = True
    assert np.array_equal(is_changed, expected)
    for value, place in ((1.0, overlay[300:400, 300:400]), (0.0, overlay[500:600, 100:200])):
        color = viridis(np.array([value], np.float32))[0]
        mixed = (np.array(GLASS) + color) / 2
        assert np.abs(place.mean((0, 1)) - mixed).max() < 1
