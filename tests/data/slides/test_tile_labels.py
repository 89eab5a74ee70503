"""Labels of tiles against exact areas, and against polygons that are painted pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.data.slides import tile_labels
from raysearch.data.slides.annotated_regions import AnnotatedRegion
from raysearch.data.slides.tile_labels import TileLabel, TileLabeler
from raysearch.errors import DataError
from support.annotation_files import square

SIDE = 32


def region(class_name: str, left: float, top: float, side: float) -> AnnotatedRegion:
    return AnnotatedRegion(class_name, shapely.Polygon(square(left, top, side)))


def wavy(left: float, top: float, radius: float, num_points: int, seed: int) -> shapely.Polygon:
    """Return a polygon without straight sides."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    waves = sum(
        rng.uniform(0, 0.3 / k) * np.sin(k * angles + rng.uniform(0, 6)) for k in range(1, 30)
    )
    radii = radius * (1 + 0.4 * waves)
    return shapely.Polygon(np.c_[left + radii * np.cos(angles), top + radii * np.sin(angles)])


def grid(side: float, size: float) -> tuple[np.ndarray, np.ndarray]:
    steps = np.arange(0, side, size, dtype=float)
    left, top = np.meshgrid(steps, steps)
    return left.ravel(), top.ravel()


def test_the_fraction_is_that_of_the_tile_in_the_polygon() -> None:
    labeler = TileLabeler([region("Tumor", 0, 0, 10)])
    assert labeler.label(0, 0, 10, 10) == TileLabel("Tumor", 1.0, False)
    assert labeler.label(2, 2, 4, 4) == TileLabel("Tumor", 1.0, False)
    assert labeler.label(4, 0, 10, 10) == TileLabel("Tumor", 0.6, False)
    assert labeler.label(5, 0, 10, 10) == TileLabel("Tumor", 0.5, False)
    assert labeler.label(6, 0, 10, 10) == TileLabel(None, 0.4, False)
    assert labeler.label(10, 0, 10, 10) == TileLabel(None, 0.0, False)
    assert labeler.label(50, 50, 10, 10) == TileLabel(None, 0.0, False)


def test_holes_do_not_count() -> None:
    geometry = shapely.Polygon(square(0, 0, 30), [square(10, 10, 10)])
    labeler = TileLabeler([AnnotatedRegion("Tumor", geometry)], background="Normal")
    assert labeler.label(10, 10, 10, 10) == TileLabel("Normal", 0.0, False)
    assert labeler.label(5, 10, 10, 10) == TileLabel("Tumor", 0.5, False)


def test_regions_of_one_class_that_overlap_count_once() -> None:
    regions = [region("Tumor", 0, 0, 4), region("Tumor", 0, 0, 4), region("Tumor", 2, 0, 4)]
    assert TileLabeler(regions, 0).label(0, 0, 10, 10) == TileLabel("Tumor", 0.24, False)


def test_the_class_is_that_of_the_largest_fraction() -> None:
    regions = [region("A", 0, 0, 4), region("B", 4, 0, 6)]
    assert TileLabeler(regions, 0.1).label(0, 0, 10, 10) == TileLabel("B", 0.36, False)
    assert TileLabeler(regions, 0.4).label(0, 0, 10, 10) == TileLabel(None, 0.36, False)


def test_two_classes_on_more_than_a_little_of_a_tile_are_a_conflict() -> None:
    regions = [region("A", 0, 0, 10), region("B", 8, 0, 10)]
    labeler = TileLabeler(regions)
    assert labeler.label(0, 0, 8, 8) == TileLabel("A", 1.0, False)
    assert labeler.label(0, 0, 10, 10) == TileLabel("A", 1.0, True)
    assert labeler.label(-1.7, 0, 10, 10) == TileLabel("A", 0.83, False)  # .03 of it in both
    assert labeler.label(8, 0, 2, 2).is_conflict


def test_classes_with_a_common_edge_are_no_conflict() -> None:
    labels = TileLabeler([region("A", 0, 0, 10), region("B", 10, 0, 10)])
    assert labels.label(5, 0, 10, 10) == TileLabel("A", 0.5, False)


def test_three_classes_in_one_place_count_once_as_a_conflict() -> None:
    regions = [region(name, 0, 0, 2) for name in "ABC"]
    # 4 of 100 pixels; counted for each pair, it would be 12.
    assert not TileLabeler(regions, 0).label(0, 0, 10, 10).is_conflict


def test_the_center_labels_a_tile_if_any_of_it_is_in_a_polygon() -> None:
    """PatchCamelyon: at least one pixel of tumor in the center of 32x32 pixels."""
    labeler = TileLabeler([region("Tumor", 63, 63, 1)], center=32, background="Normal")
    assert labeler.label(0, 0, 96, 96) == TileLabel("Tumor", 1 / 1024, False)
    assert labeler.label(31, 31, 96, 96) == TileLabel("Tumor", 1 / 1024, False)
    assert labeler.label(32, 32, 96, 96) == TileLabel("Normal", 0.0, False)
    half = TileLabeler([region("Tumor", 0, 0, 48)], 0.25, center=32)
    assert half.label(0, 0, 96, 96) == TileLabel("Tumor", 0.25, False)
    assert half.label(1, 0, 96, 96).class_name is None


def test_without_regions_every_tile_is_background() -> None:
    assert TileLabeler([]).label(0, 0, 5, 5) == TileLabel(None, 0.0, False)
    labels = TileLabeler([], background="Normal").label_tiles(*grid(10, 5), 5, 5)
    assert labels == [TileLabel("Normal", 0.0, False)] * 4
    assert TileLabeler([region("A", 0, 0, 1)]).label_tiles(*grid(0, 5), 5, 5) == []


def test_every_tile_with_more_than_half_of_its_area_in_a_polygon_has_its_class() -> None:
    polygons = {"A": wavy(700, 600, 450, 5_000, 1), "B": wavy(1500, 1400, 400, 300, 2)}
    regions = [AnnotatedRegion(name, polygon) for name, polygon in polygons.items()]
    left, top = grid(2000, SIDE)
    labels = TileLabeler(regions).label_tiles(left, top, SIDE, SIDE)
    boxes = shapely.box(left, top, left + SIDE, top + SIDE)
    num_boundary_tiles = 0
    for name, polygon in polygons.items():
        fractions = shapely.area(shapely.intersection(boxes, polygon)) / SIDE**2
        num_boundary_tiles += int(((fractions > 0) & (fractions < 1)).sum())
        for label, fraction in zip(labels, fractions, strict=True):
            if fraction > 0.5:
                assert label.class_name == name
                assert label.fraction == pytest.approx(fraction, abs=1e-9)
            elif label.class_name == name:
                assert fraction == pytest.approx(0.5, abs=1e-9)
    assert num_boundary_tiles > 100


def test_large_polygons_are_divided_without_a_loss_of_area() -> None:
    polygon = wavy(5000, 5000, 3000, 50_000, 3)
    labeler = TileLabeler([AnnotatedRegion("A", polygon)])
    parts = labeler._polygons
    assert len(parts) > 100
    assert shapely.get_num_coordinates(parts).max() <= tile_labels.MAX_POLYGON_POINTS
    assert shapely.area(parts).sum() == pytest.approx(polygon.area, rel=1e-12)


def test_batches_do_not_change_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    labeler = TileLabeler([AnnotatedRegion("A", wavy(60, 60, 50, 100, 4))])
    labels = labeler.label_tiles(*grid(128, 8), 8, 8)
    monkeypatch.setattr(tile_labels, "BATCH_SIZE", 7)
    assert labeler.label_tiles(*grid(128, 8), 8, 8) == labels


CORNERS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 40))
DRAWN = st.lists(st.tuples(st.sampled_from("AB"), CORNERS), min_size=1, max_size=8)


@given(DRAWN, st.integers(4, 24))
@settings(max_examples=30, deadline=None)
def test_labels_agree_with_painted_squares(
    drawn: Sequence[tuple[str, tuple[int, int, int]]], size: int
) -> None:
    masks = {name: np.zeros((128, 128), bool) for name in "AB"}
    for name, (x, y, side) in drawn:
        masks[name][y : y + side, x : x + side] = True
    regions = [region(name, *corner_and_side) for name, corner_and_side in drawn]
    left, top = grid(100, size)
    labels = TileLabeler(regions).label_tiles(left, top, size, size)
    for x, y, label in zip(left.astype(int), top.astype(int), labels, strict=True):
        tiles = {name: mask[y : y + size, x : x + size] for name, mask in masks.items()}
        fractions = {name: float(tile.mean()) for name, tile in tiles.items()}
        largest = max(fractions.values())
        assert label.fraction == pytest.approx(largest, abs=1e-9)
        if largest >= 0.5:
            assert label.class_name is not None
            assert fractions[label.class_name] == largest
        else:
            assert label.class_name is None
        both = float((tiles["A"] & tiles["B"]).mean())
        if abs(both - tile_labels.MAX_OVERLAP) > 1e-9:
            assert label.is_conflict == (both > tile_labels.MAX_OVERLAP)


def test_fractions_agree_with_a_polygon_painted_by_opencv() -> None:
    polygon, scale = wavy(256, 256, 180, 400, 5), 8
    mask = np.zeros((512 * scale, 512 * scale), np.uint8)
    points = np.round((np.array(polygon.exterior.coords) - 0.5 / scale) * scale * 256)
    cv2.fillPoly(mask, [points.astype(np.int32)], 1, shift=8)
    left, top = grid(512, SIDE)
    labels = TileLabeler([AnnotatedRegion("A", polygon)], 0).label_tiles(left, top, SIDE, SIDE)
    cells = mask.reshape(512 // SIDE, SIDE * scale, 512 // SIDE, SIDE * scale)
    painted = cells.mean(axis=(1, 3)).ravel()
    # fillPoly also paints the pixels that the boundary touches.
    fractions = np.array([label.fraction for label in labels])
    assert np.abs(fractions - painted).max() < 0.02


@pytest.mark.parametrize("min_fraction", [-0.1, 1.1, float("nan")])
def test_a_minimum_fraction_outside_of_0_to_1_is_rejected(min_fraction: float) -> None:
    with pytest.raises(DataError, match="give a number from 0 to 1"):
        TileLabeler([], min_fraction)


@pytest.mark.parametrize("center", [0, -1, float("nan"), float("inf")])
def test_a_center_without_pixels_is_rejected(center: float) -> None:
    with pytest.raises(DataError, match="give a positive number of pixels"):
        TileLabeler([], center=center)


def test_tiles_that_are_empty_or_smaller_than_the_center_are_rejected() -> None:
    with pytest.raises(DataError, match="give a positive size"):
        TileLabeler([]).label(0, 0, 0, 5)
    with pytest.raises(DataError, match="larger than a tile of 5 x 20 pixels; give at most 5"):
        TileLabeler([], center=6).label(0, 0, 5, 20)
