"""Tiles on their grid, and the regions that tiles of one class form: exact areas and outlines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from raysearch.data.slides.tile_grid import TileGrid
from raysearch.inference.tile_scores import NO_TILE, TileScores, merge_tiles

# Tiles of 50 pixels of .5 micrometres: 100 pixels of level 0, of .25 micrometres.
GRID = TileGrid(
    mpp=0.5,
    size=(50, 50),
    level=1,
    downsample=2.0,
    scale=1.0,
    stride=(100, 100),
    left=10,
    top=20,
    num_columns=4,
    num_rows=4,
)
# A ring of class 1 around a tile of class 0, and two tiles of class 0 that touch at a corner.
DECIDED = np.array([[1, 1, 1, -1], [1, 0, 1, 0], [1, 1, 1, -1], [-1, -1, -1, 0]])


def scores_of(decided: NDArray[np.int64], grid: TileGrid = GRID) -> TileScores:
    rows, columns = np.nonzero(decided != NO_TILE)
    classes = decided[rows, columns]
    positive = np.where(classes == 1, 0.9, 0.2) + rows / 100
    return TileScores.of(
        grid,
        grid.left + columns * grid.stride[0],
        grid.top + rows * grid.stride[1],
        np.column_stack([1 - positive, positive]),
        classes,
    )


def test_tiles_of_one_class_that_share_a_side_are_one_region_with_its_holes() -> None:
    scores = scores_of(DECIDED)
    assert scores.num_tiles == 11
    assert scores.decided.tolist() == DECIDED.tolist()
    assert np.isnan(scores.probabilities[:, DECIDED == NO_TILE]).all()
    regions = list(merge_tiles(scores))
    assert [(region.class_number, region.num_tiles) for region in regions] == [
        *((0, 1), (0, 1), (0, 1)),
        (1, 8),
    ]
    ring = regions[-1]
    expected = shapely.box(10, 20, 310, 320) - shapely.box(110, 120, 210, 220)
    assert ring.geometry.equals(expected)
    assert shapely.get_num_coordinates(ring.geometry) == 10
    # A tile has a side of 25 micrometres.
    assert ring.area == pytest.approx(8 * 0.025**2)
    assert ring.max_probability == pytest.approx(0.92)
    assert ring.mean_probability == pytest.approx(0.91)
    assert ring.mean_probabilities.sum() == pytest.approx(1)


def test_the_cells_of_overlapping_tiles_lie_in_their_centers_and_do_not_overlap() -> None:
    grid = replace(GRID, stride=(60, 80))
    decided = np.array([[1, 1, -1, -1], [-1, -1, -1, -1], [-1, -1, -1, -1], [-1, -1, -1, -1]])
    (region,) = merge_tiles(scores_of(decided, grid))
    assert region.geometry.bounds == (30, 30, 150, 110)
    assert region.area == pytest.approx(2 * 60 * 80 * 0.00025**2)


def test_every_tile_is_in_exactly_one_region() -> None:
    rng = np.random.default_rng(0)
    grid = replace(GRID, num_columns=40, num_rows=30)
    decided = rng.integers(-1, 2, (30, 40))
    regions = list(merge_tiles(scores_of(decided, grid)))
    assert sum(region.num_tiles for region in regions) == (decided != NO_TILE).sum()
    for class_number in range(2):
        union = shapely.union_all(
            [region.geometry for region in regions if region.class_number == class_number]
        )
        assert union.area == (decided == class_number).sum() * 100**2
        rows, columns = np.nonzero(decided == class_number)
        centers = shapely.points(10 + columns * 100 + 50, 20 + rows * 100 + 50)
        assert shapely.contains(union, centers).all()
    assert all(shapely.is_valid(region.geometry) for region in regions)
