"""Polygons are valid and have an area, whatever was drawn."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.data.slides.annotated_regions import RegionCollector, build_geometry, ring_of
from support.annotation_files import square

POINTS = st.lists(st.tuples(*[st.integers(0, 20)] * 2), min_size=3, max_size=12)


def test_a_polygon_has_its_area_without_its_holes() -> None:
    geometry, valid = build_geometry([[ring_of(square(0, 0, 10)), ring_of(square(2, 2, 3))]])
    assert valid
    assert geometry is not None
    assert geometry.area == 91


def test_a_figure_eight_becomes_its_two_triangles() -> None:
    geometry, valid = build_geometry([[ring_of([(0, 0), (10, 10), (10, 0), (0, 10)])]])
    assert not valid
    assert geometry is not None
    assert geometry.area == 50
    assert geometry.geom_type == "MultiPolygon"


def test_what_a_loop_encloses_twice_belongs_to_the_polygon() -> None:
    loop = [(0, 0), (8, 0), (8, 8), (2, 8), (2, 2), (10, 2), (10, 10), (0, 10)]
    geometry, valid = build_geometry([[ring_of(loop)]])
    assert not valid
    assert geometry is not None
    assert geometry.area == 96  # 100 - 4: the square between both turns is in


@pytest.mark.parametrize("points", [[(0, 0), (5, 5), (9, 9)], [(1, 1)] * 4, [(0, 0), (1, 1)]])
def test_a_line_has_no_area_and_is_left_out(points: list[tuple[int, int]]) -> None:
    collector = RegionCollector("a.geojson", "feature")
    collector.add("Tumor", [[ring_of(points)]], 3)
    collector.add("Tumor", [[ring_of(square(0, 0, 1))]], 4)
    annotations = collector.annotations()
    assert [region.geometry.area for region in annotations.regions] == [1]
    assert annotations.warnings == (
        "a.geojson: 1 feature left out: a polygon without area (feature 3)",
    )


@given(POINTS)
@settings(max_examples=100, deadline=None)
def test_any_ring_becomes_a_valid_polygon_or_nothing(points: list[tuple[int, int]]) -> None:
    geometry, valid = build_geometry([[ring_of(points)]])
    if geometry is not None:
        assert geometry.is_valid
        assert geometry.area > 0
        assert geometry.geom_type in ("Polygon", "MultiPolygon")
    if valid:
        assert geometry is not None
        drawn = shapely.Polygon(points)
        assert geometry.equals(drawn)


@pytest.mark.parametrize(
    "points",
    [
        [],
        "abc",
        None,
        [[1, 2], [3]],
        [["1", "2"], ["3", "4"], ["5", "6"]],
        [[1, 2], [float("nan"), 1], [3, 4]],
        [[1, 2], [float("inf"), 1], [3, 4]],
        [[1, 2], [1e9, 1], [3, 4]],
        [[1, 2], [10**400, 1], [3, 4]],
        [[[1, 2], [3, 4]]],
        [1, 2, 3],
        [[True, False], [True, True], [False, False]],
        [[None, 1], [2, 3], [4, 5]],
    ],
)
def test_what_is_no_list_of_points_is_rejected(points: object) -> None:
    with pytest.raises(ValueError, match=r"pairs of numbers|is not between"):
        ring_of(points)


def test_a_third_coordinate_is_ignored() -> None:
    assert np.array_equal(ring_of([(1, 2, 9), (3, 4, 9)]), [[1, 2], [3, 4]])
