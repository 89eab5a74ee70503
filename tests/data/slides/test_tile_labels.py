"""Labels of tiles against exact areas, and against polygons that are painted pixel by pixel."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.data.slides import region_layers, tile_labels
from raysearch.data.slides.annotated_regions import AnnotatedRegion
from raysearch.data.slides.tile_labels import TileLabel, TileLabeler
from raysearch.errors import DataError
from support.annotation_files import noisy_circle, square

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


def test_only_tiles_in_no_class_at_all_are_background() -> None:
    labeler = TileLabeler([region("Tumor", 0, 0, 10)], background="Normal")
    assert labeler.label(10, 0, 10, 10) == TileLabel("Normal", 0.0, False)
    assert labeler.label(9.75, 0, 10, 10) == TileLabel(None, 0.025, False)
    assert labeler.label(6, 0, 10, 10) == TileLabel(None, 0.4, False)
    assert labeler.label(5, 0, 10, 10) == TileLabel("Tumor", 0.5, False)


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
    assert labels.label(4, 0, 10, 10) == TileLabel("A", 0.6, False)
    assert labels.label(6, 0, 10, 10) == TileLabel("B", 0.6, False)


@pytest.mark.parametrize("names", ["AB", "BA"])
def test_equal_classes_leave_a_tile_without_one(names: str) -> None:
    """None of them is taken because of its name."""
    labels = TileLabeler([region(names[0], 0, 0, 10), region(names[1], 10, 0, 10)])
    assert labels.label(5, 0, 10, 10) == TileLabel(None, 0.5, True)
    crossing = [region(names[0], 0, 0, 20), region(names[1], 10, 0, 20)]
    labels = TileLabeler(crossing, background="Normal")
    assert labels.label(10, 0, 10, 10) == TileLabel(None, 1.0, True)
    assert labels.label(25, 0, 10, 10) == TileLabel(names[1], 0.5, False)


def test_equal_classes_below_the_minimum_are_no_conflict() -> None:
    labels = TileLabeler([region("A", 0, 0, 10), region("B", 10, 0, 10)])
    assert labels.label(5, 8, 10, 10) == TileLabel(None, 0.1, False)


@pytest.mark.parametrize("names", ["AB", "BA"])
@pytest.mark.parametrize("outer_first", [True, False])
def test_the_inner_region_of_two_classes_wins(names: str, outer_first: bool) -> None:
    outer, inner = region(names[0], 0, 0, 100), region(names[1], 20, 20, 40)
    labeler = TileLabeler([outer, inner] if outer_first else [inner, outer])
    assert labeler.label(20, 20, 40, 40) == TileLabel(names[1], 1.0, False)
    assert labeler.label(60, 20, 40, 40) == TileLabel(names[0], 1.0, False)
    assert labeler.label(50, 20, 40, 40) == TileLabel(names[0], 0.75, False)


def test_a_region_that_crosses_the_edge_of_the_outer_one_a_little_is_within_it() -> None:
    outer, inner = region("A", 0, 0, 1000), region("B", -3, 100, 400)  # .0075 of it is outside
    assert TileLabeler([outer, inner]).label(0, 200, 50, 50) == TileLabel("B", 1.0, False)
    half = region("B", -200, 100, 400)
    assert TileLabeler([outer, half]).label(0, 200, 50, 50) == TileLabel(None, 1.0, True)


def test_regions_within_regions_within_regions_win() -> None:
    regions = [region("A", 0, 0, 90), region("B", 10, 10, 70), region("A", 20, 20, 50)]
    labeler = TileLabeler([*regions, region("C", 30, 30, 30)])
    labels = [labeler.label(corner, corner, 10, 10) for corner in (0, 10, 20, 30)]
    assert labels == [TileLabel(name, 1.0, False) for name in "ABAC"]
    assert labeler.label(0, 0, 90, 90).fraction == pytest.approx((90**2 - 70**2 + 1600) / 8100)


def test_of_equal_regions_the_child_is_the_inner_one() -> None:
    geometry = shapely.box(0, 0, 10, 10)
    parent, child = AnnotatedRegion("A", geometry), AnnotatedRegion("B", geometry, depth=1)
    assert TileLabeler([parent, child]).label(0, 0, 5, 5) == TileLabel("B", 1.0, False)
    sibling = AnnotatedRegion("B", geometry)
    assert TileLabeler([parent, sibling]).label(0, 0, 5, 5) == TileLabel(None, 1.0, True)


def test_large_inner_and_outer_regions_are_divided_alike() -> None:
    outer, inner = wavy(5000, 5000, 4000, 20_000, 1), wavy(5000, 5000, 1500, 20_000, 2)
    labeler = TileLabeler([AnnotatedRegion("A", outer), AnnotatedRegion("B", inner)])
    label = labeler.label(0, 0, 10_000, 10_000)
    assert label.fraction == pytest.approx((outer.area - inner.area) / 1e8, rel=1e-9)
    assert labeler.label(4900, 4900, 200, 200) == TileLabel("B", 1.0, False)


def test_three_classes_in_one_place_count_once_as_a_conflict() -> None:
    boxes = {"A": (-2, 0, 2, 2), "B": (0, 0, 5, 2), "C": (0, -4, 2, 2)}
    regions = [AnnotatedRegion(name, shapely.box(*box)) for name, box in boxes.items()]
    # 4 of 100 pixels; counted for each pair, it would be 12.
    assert TileLabeler(regions, 0).label(0, 0, 10, 10) == TileLabel("B", 0.1, False)
    assert TileLabeler(regions, 0).label(0, 0, 8, 8).is_conflict


def test_the_center_labels_a_tile_if_any_of_it_is_in_a_polygon() -> None:
    """PatchCamelyon: at least one pixel of tumor in the center of 32x32 pixels."""
    labeler = TileLabeler([region("Tumor", 63, 63, 1)], center=32, background="Normal")
    assert labeler.label(0, 0, 96, 96) == TileLabel("Tumor", 1 / 1024, False)
    assert labeler.label(31, 31, 96, 96) == TileLabel("Tumor", 1 / 1024, False)
    assert labeler.label(32, 32, 96, 96) == TileLabel("Normal", 0.0, False)
    small = TileLabeler([region("Tumor", 63, 63, 0.75)], center=32, background="Normal")
    assert small.label(0, 0, 96, 96) == TileLabel(None, 0.5625 / 1024, False)
    half = TileLabeler([region("Tumor", 0, 0, 48)], 0.25, center=32)
    assert half.label(0, 0, 96, 96) == TileLabel("Tumor", 0.25, False)
    assert half.label(1, 0, 96, 96).class_name is None


def test_the_center_is_in_pixels_of_the_tile() -> None:
    """A tile of 96x96 pixels, each of 4x4 pixels of level 0."""
    labeler = TileLabeler([region("Tumor", 252, 252, 4)], center=32, pixel_size=4)
    assert labeler.label(0, 0, 384, 384) == TileLabel("Tumor", 1 / 1024, False)
    assert labeler.label(-4, 0, 384, 384) == TileLabel(None, 0.0, False)
    small = TileLabeler([region("Tumor", 252, 252, 3)], center=32, pixel_size=4)
    assert small.label(0, 0, 384, 384).class_name is None
    with pytest.raises(
        DataError, match=r"center of 128 pixels of level 0: larger than a tile of 9"
    ):
        labeler.label(0, 0, 96, 96)


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
    assert shapely.get_num_coordinates(parts).max() <= region_layers.MAX_POLYGON_POINTS
    assert shapely.area(parts).sum() == pytest.approx(polygon.area, rel=1e-12)


def test_batches_do_not_change_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    labeler = TileLabeler([AnnotatedRegion("A", wavy(60, 60, 50, 100, 4))])
    labels = labeler.label_tiles(*grid(128, 8), 8, 8)
    monkeypatch.setattr(tile_labels, "BATCH_SIZE", 7)
    assert labeler.label_tiles(*grid(128, 8), 8, 8) == labels


def test_many_classes_are_labeled_in_smaller_batches() -> None:
    regions = [region(f"class {number}", 10 * number, 0, 10) for number in range(1000)]
    labeler = TileLabeler(regions)
    left, top = np.tile(np.arange(0, 10_000, 10.0), 20), np.repeat(np.arange(20.0), 1000)
    tracemalloc.start()
    labels = labeler.label_tiles(left, np.minimum(top, 4), 10, 10)
    # 20,000 tiles times 1,001 layers would have 153 MB, and several copies.
    assert tracemalloc.get_traced_memory()[1] < 150e6
    tracemalloc.stop()
    assert [label.class_name for label in labels[:1000]] == [f"class {n}" for n in range(1000)]


def test_regions_are_grouped_in_one_pass() -> None:
    regions = [
        region(f"class {n % 1000}", 10 * (n % 300), 10 * (n // 300), 9) for n in range(50_000)
    ]
    start = time.perf_counter()
    labeler = TileLabeler(regions)
    assert time.perf_counter() - start < 30  # 2 s
    assert labeler.label(10, 0, 9, 9) == TileLabel("class 1", 1.0, False)


def test_too_many_classes_and_classes_that_differ_in_case_are_rejected() -> None:
    regions = [region(f"class {number}", 0, 0, 1) for number in range(1001)]
    with pytest.raises(
        DataError, match=r"^a\.xml: 1,001 classes in the annotations, at most 1,000"
    ):
        TileLabeler(regions, source="a.xml")
    with pytest.raises(DataError, match="'Tumor' and 'tumor' of the annotations differ only in"):
        TileLabeler([region("tumor", 0, 0, 1), region("Tumor", 5, 5, 1)])


def strips(number: int) -> list[AnnotatedRegion]:
    """Return as many strips in each direction."""
    length, steps = 10 * number, range(0, 10 * number, 10)
    boxes = [shapely.box(0, step, length, step + 5) for step in steps]
    boxes += [shapely.box(step, 0, step + 5, length) for step in steps]
    return [AnnotatedRegion("A", box) for box in boxes]


def test_overlaps_that_would_explode_are_rejected_at_once() -> None:
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"^a\.xml: its polygons .* \(more than 100,000 crossings"):
        TileLabeler(strips(200), source="a.xml")
    assert time.perf_counter() - start < 10  # .3 s; their union takes 9 s
    assert TileLabeler(strips(20)).label(0, 0, 200, 200).fraction == pytest.approx(0.75)


def test_a_large_noisy_outline_is_divided_fast() -> None:
    polygon = shapely.Polygon(noisy_circle(200_000, 3))
    start = time.perf_counter()
    labeler = TileLabeler([AnnotatedRegion("A", polygon), region("B", -500, -500, 1000)])
    radius = 300_000 / np.pi
    side = 4 * radius
    fraction = labeler.label(-side / 2, -side / 2, side, side).fraction
    assert time.perf_counter() - start < 60  # 6 s
    assert fraction == pytest.approx((polygon.area - 1e6) / side**2, rel=1e-9)


def test_a_comb_is_divided_to_a_bounded_number_of_points() -> None:
    x = np.repeat(np.arange(20_000), 2)
    comb = shapely.Polygon([(0, -1), *np.c_[x, np.tile([0, 20_000, 20_000, 0], 10_000)], (2e4, -1)])
    labeler = TileLabeler([AnnotatedRegion("A", comb)])
    num_points = shapely.get_num_coordinates(labeler._polygons).sum()
    assert num_points < 6 * shapely.get_num_coordinates(comb)
    assert shapely.area(labeler._polygons).sum() == pytest.approx(comb.area, rel=1e-9)


CORNERS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 40))
DRAWN = st.lists(st.tuples(st.sampled_from("AB"), CORNERS), min_size=1, max_size=8)


def painted_masks(
    drawn: Sequence[tuple[str, tuple[int, int, int]]],
) -> dict[str, np.ndarray]:
    """Paint the squares of each class, without those of the other class that lie in them."""
    squares = []
    for name, (x, y, side) in drawn:
        mask = np.zeros((128, 128), bool)
        mask[y : y + side, x : x + side] = True
        squares.append((name, mask))
    masks = {name: np.zeros((128, 128), bool) for name in "AB"}
    for name, mask in squares:
        rest = mask.copy()
        for other_name, other in squares:
            shared = (mask & other).sum()
            if name != other_name and shared >= 0.99 * other.sum() and shared < 0.99 * mask.sum():
                rest &= ~other
        masks[name] |= rest
    return masks


@given(DRAWN, st.integers(4, 24))
@settings(max_examples=30, deadline=None)
def test_labels_agree_with_painted_squares(
    drawn: Sequence[tuple[str, tuple[int, int, int]]], size: int
) -> None:
    masks = painted_masks(drawn)
    regions = [region(name, *corner_and_side) for name, corner_and_side in drawn]
    left, top = grid(100, size)
    labels = TileLabeler(regions).label_tiles(left, top, size, size)
    for x, y, label in zip(left.astype(int), top.astype(int), labels, strict=True):
        tiles = {name: mask[y : y + size, x : x + size] for name, mask in masks.items()}
        fractions = {name: float(tile.mean()) for name, tile in tiles.items()}
        largest = max(fractions.values())
        assert label.fraction == pytest.approx(largest, abs=1e-9)
        names = [name for name in "AB" if fractions[name] == largest >= 0.5]
        assert label.class_name == (names[0] if len(names) == 1 else None)
        both = float((tiles["A"] & tiles["B"]).mean())
        if abs(both - tile_labels.MAX_OVERLAP) > 1e-9:
            assert label.is_conflict == (both > tile_labels.MAX_OVERLAP or len(names) == 2)


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


@pytest.mark.parametrize("center", [0, -1, 0.5, float("nan"), float("inf")])
def test_a_center_without_pixels_is_rejected(center: float) -> None:
    with pytest.raises(DataError, match="give a number of pixels from 1"):
        TileLabeler([], center=center)


@pytest.mark.parametrize("pixel_size", [0, -1, float("nan"), float("inf")])
def test_a_pixel_without_size_is_rejected(pixel_size: float) -> None:
    with pytest.raises(DataError, match="give a positive number of pixels of level 0"):
        TileLabeler([], center=32, pixel_size=pixel_size)


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("tile", "reason"),
    [
        ((NAN, 0, 5, 5), "position of a tile is not finite"),
        ((0, INFINITY, 5, 5), "position of a tile is not finite"),
        ((0, 0, INFINITY, 5), "give a positive, finite size"),
        ((0, 0, 5, NAN), "give a positive, finite size"),
        ((0, 0, -5, 5), "give a positive, finite size"),
    ],
)
def test_tiles_that_are_not_finite_are_rejected(
    tile: tuple[float, float, float, float], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        TileLabeler([region("A", 0, 0, 10)]).label(*tile)


def test_tiles_that_are_empty_or_smaller_than_the_center_are_rejected() -> None:
    with pytest.raises(DataError, match="give a positive, finite size"):
        TileLabeler([]).label(0, 0, 0, 5)
    with pytest.raises(DataError, match="larger than a tile of 5 x 20; give at most 5"):
        TileLabeler([], center=6).label(0, 0, 5, 20)
