"""Slide maps: patches at their positions, errors, heatmaps, and GeoJSON tiles for QuPath."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from numpy.typing import NDArray

from raysearch.errors import DataError
from raysearch.reports.slide_map import (
    draw_errors,
    draw_frames,
    draw_heatmap,
    stitch_slide,
    tiles_geojson,
)


def positioned_patches() -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Return six patches in two rows, each of one gray level, from pixel (51, 101) on."""
    xs, ys = np.array([51, 101, 151, 51, 101, 201.0]), np.array([101, 101, 101, 151, 151, 151.0])
    grays = np.arange(20, 140, 20, dtype=np.uint8)
    return np.broadcast_to(grays[:, None, None, None], (6, 50, 50, 3)).copy(), xs, ys


def test_patches_are_stitched_at_their_positions() -> None:
    pixels, xs, ys = positioned_patches()
    slide_map = stitch_slide(pixels, xs, ys)
    assert slide_map.image.shape == (100, 200, 3)
    assert slide_map.image[25, 25].tolist() == [20] * 3
    assert slide_map.image[75, 175].tolist() == [120] * 3
    assert slide_map.image[75, 125].tolist() == [255] * 3  # there is no patch


def test_a_heatmap_colors_patches_and_leaves_the_background_white() -> None:
    slide_map = stitch_slide(*positioned_patches())
    heatmap = draw_heatmap(slide_map, np.linspace(0, 1, 6, dtype=np.float32))
    assert heatmap[75, 125].tolist() == [255] * 3
    assert heatmap[25, 25].tolist() != heatmap[75, 175].tolist()


def test_errors_are_framed() -> None:
    slide_map = stitch_slide(*positioned_patches())
    labels, predicted = np.array([0, 1, 0, 0, 0, 0]), np.array([0, 0, 0, 1, 0, 0])
    image = draw_errors(slide_map, labels, predicted)
    changed = np.argwhere((image != slide_map.image).any(axis=2))
    assert {(y // 50, x // 50) for y, x in changed.tolist()} == {(0, 1), (1, 0)}


def test_each_positive_patch_has_a_frame_inside_it() -> None:
    slide_map = stitch_slide(*positioned_patches())
    image = draw_frames(slide_map, np.array([False, True, False, False, False, True]))
    changed = np.argwhere((image != slide_map.image).any(axis=2))
    patches = {(y // 50, x // 50) for y, x in changed.tolist()}
    assert len(patches) == 2
    inside = {(y % 50, x % 50) for y, x in changed.tolist()}
    assert {(0, 10), (49, 10), (10, 0), (10, 49)} <= inside
    assert not any(5 <= y < 45 and 5 <= x < 45 for y, x in inside)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 6, 7])
def test_the_frame_of_a_small_patch_does_not_cover_its_neighbors(side: int) -> None:
    positions = np.arange(3.0) * side
    pixels = np.full((9, side, side, 3), 100, np.uint8)
    slide_map = stitch_slide(pixels, np.tile(positions, 3), np.repeat(positions, 3))
    labels, is_framed = np.zeros(9, np.int64), np.arange(9) == 4
    for image in (
        draw_frames(slide_map, is_framed),
        draw_errors(slide_map, labels, is_framed.astype(np.int64)),
        draw_errors(slide_map, is_framed.astype(np.int64), labels),
    ):
        changed = np.argwhere((image != slide_map.image).any(axis=2))
        assert {(y // side, x // side) for y, x in changed.tolist()} == {(1, 1)}


def test_an_unknown_position_is_rejected() -> None:
    pixels, _xs, ys = positioned_patches()
    with pytest.raises(DataError, match="position of every patch"):
        stitch_slide(pixels, np.full(6, np.nan), ys)


def test_a_large_slide_is_downscaled_without_gaps() -> None:
    side = 60
    positions = np.arange(side) * 50.0 + 1
    pixels = np.full((side * side, 50, 50, 3), 100, np.uint8)
    slide_map = stitch_slide(pixels, np.tile(positions, side), np.repeat(positions, side))
    assert max(slide_map.image.shape) <= 1400
    assert (slide_map.image == 100).all()


def test_geojson_tiles_lie_at_their_pixels() -> None:
    _pixels, xs, ys = positioned_patches()
    scores = np.column_stack([np.linspace(1, 0, 6), np.linspace(0, 1, 6)])
    decided = np.array([0, 0, 1, 1, 1, 1])  # by a threshold of 0.4
    content = tiles_geojson(xs, ys, (50, 50), scores, decided, ["yes"] * 5 + [None], ("no", "yes"))
    features = json.loads(content)["features"]
    first, last = features[0], features[-1]
    names = [feature["properties"]["classification"]["name"] for feature in features]
    assert names == ["no", "no", "yes", "yes", "yes", "yes"]
    assert first["geometry"]["coordinates"][0][0] == [50, 100]
    assert last["geometry"]["coordinates"][0][2] == [250, 200]
    assert last["properties"]["objectType"] == "tile"
    assert [first["properties"]["metadata"], last["properties"]["metadata"]] == [
        {"label": "yes"},
        {},
    ]
    assert last["properties"]["classification"]["name"] == "yes"
    assert last["properties"]["measurements"] == {"score_no": 0.0, "score_yes": 1.0}
    assert first["properties"]["classification"] != last["properties"]["classification"]
    color = first["properties"]["classification"]["color"]
    assert all(re.fullmatch(r"\d+", str(channel)) for channel in color)


def test_a_score_that_is_not_a_number_is_left_out_of_the_tiles() -> None:
    scores = np.array([[0.25, np.nan]])
    position, decided = np.zeros(1), np.zeros(1, np.int64)
    content = tiles_geojson(position, position, (5, 5), scores, decided, [None], ("no", "yes"))
    assert b"NaN" not in content
    (feature,) = json.loads(content)["features"]
    assert feature["properties"]["measurements"] == {"score_no": 0.25}
