"""Polygons are valid and have an area, whatever was drawn; what takes too long is rejected."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.data.slides.polygons import build_geometry, overlay_errors, ring_of
from raysearch.data.slides.segment_crossings import CrossingLimitError
from raysearch.errors import DataError
from support.annotation_files import noisy_circle, square

POINTS = st.lists(st.tuples(*[st.integers(0, 20)] * 2), min_size=3, max_size=12)


def winding_number(ring: list[tuple[float, float]], x: float, y: float) -> int:
    """Return how often a ring turns around a point counterclockwise."""
    number = 0
    for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
        side = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
        number += (y0 <= y < y1 and side > 0) - (y1 <= y < y0 and side < 0)
    return number


def area_of(points: Sequence[tuple[float, float]]) -> float:
    built = build_geometry([[ring_of(list(points))]])
    assert not built.valid
    assert built.geometry is not None
    return float(built.geometry.area)


def test_a_polygon_has_its_area_without_its_holes() -> None:
    built = build_geometry([[ring_of(square(0, 0, 10)), ring_of(square(2, 2, 3))]])
    assert built.valid
    assert built.geometry is not None
    assert built.geometry.area == 91


def test_a_figure_eight_becomes_its_two_triangles() -> None:
    built = build_geometry([[ring_of([(0, 0), (10, 10), (10, 0), (0, 10)])]])
    assert not built.valid
    assert built.num_crossings == 1
    assert built.geometry is not None
    assert built.geometry.area == 50
    assert built.geometry.geom_type == "MultiPolygon"


def test_what_a_loop_encloses_twice_belongs_to_the_polygon() -> None:
    loop = [(0, 0), (8, 0), (8, 8), (2, 8), (2, 2), (10, 2), (10, 10), (0, 10)]
    assert area_of(loop) == 96  # 100 - 4: the square between both turns is in


@pytest.mark.parametrize(("is_opposite", "area"), [(False, 175), (True, 150)])
def test_the_overlap_of_two_lobes_depends_on_their_directions(
    is_opposite: bool, area: float
) -> None:
    first, second = square(0, 0, 10), square(5, 5, 10)
    # Two squares of one ring, which share a corner of the line between them.
    second = [second[0], *second[:0:-1]] if is_opposite else second
    ring = [*first, first[0], *second, second[0]]
    assert area_of(ring) == area


def test_holes_are_cut_out_and_overlapping_polygons_united() -> None:
    first = [ring_of(square(0, 0, 10)), ring_of(square(8, 8, 4))]
    built = build_geometry([first, [ring_of(square(5, 0, 10))]])
    assert built.geometry is not None
    # 100 - 4 and 100, both on 50 but for the 4 of the hole, which the second polygon fills.
    assert built.geometry.area == 150


@given(POINTS)
@settings(max_examples=100, deadline=None)
def test_any_ring_becomes_what_it_turns_around(points: list[tuple[int, int]]) -> None:
    built = build_geometry([[ring_of(points)]])
    geometry = built.geometry
    if geometry is not None:
        assert geometry.is_valid
        assert geometry.area > 0
        assert geometry.geom_type in ("Polygon", "MultiPolygon")
    if built.valid:
        assert geometry is not None
        assert geometry.equals(shapely.Polygon(points))
    ring = [(float(x), float(y)) for x, y in points]
    for x, y in np.random.default_rng(len(points)).uniform(-1, 21, (20, 2)).tolist():
        is_inside = geometry is not None and geometry.contains(shapely.Point(x, y))
        assert is_inside == (winding_number(ring, x, y) != 0)


PAIRS, RANGE = "not pairs of numbers", "the coordinate {} is not between -10,000,000 and 10,000,000"


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ("abc", PAIRS),
        (None, PAIRS),
        ({"a": 1}, PAIRS),
        ([[1, 2], [3]], PAIRS),
        ([["1", "2"], ["3", "4"], ["5", "6"]], PAIRS),
        ([["ab", "cd"]], PAIRS),
        (["ab", "cd"], PAIRS),
        ([[1, 2], [float("nan"), 1], [3, 4]], RANGE.format("nan")),
        ([[1, 2], [float("inf"), 1], [3, 4]], RANGE.format("inf")),
        ([[1, 2], [1.5e7, 1], [3, 4]], RANGE.format("15000000.0")),
        ([[1, 2], [-1e9, 1], [3, 4]], RANGE.format("-1000000000.0")),
        ([[1, 2], [10**400, 1], [3, 4]], RANGE.format("1" + "0" * 19)),
        ([[[1, 2], [3, 4]]], PAIRS),
        ([1, 2, 3], PAIRS),
        ([[True, False], [True, True], [False, False]], PAIRS),
        ([[True, 0], [5, 0], [5, False]], PAIRS),
        ([[None, 1], [2, 3], [4, 5]], PAIRS),
        ([[1, 2, "z"], [2, 3, 4], [4, 5, 6]], PAIRS),
    ],
)
def test_what_is_no_list_of_points_is_rejected(points: object, reason: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        ring_of(points)
    assert reason in str(error.value)
    assert len(str(error.value)) < 100


def test_a_long_text_among_numbers_takes_no_memory() -> None:
    points = [["a" * 10**6, 1], *([[1, 2]] * 10**5)]  # an array of texts would have 745 GB
    tracemalloc.start()
    with pytest.raises(ValueError, match="not pairs of numbers"):
        ring_of(points)
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()


def test_a_third_coordinate_is_ignored() -> None:
    assert np.array_equal(ring_of([(1, 2, 9), (3, 4, 9)]), [[1, 2], [3, 4]])
    assert ring_of([]).shape == (0, 2)


def test_large_outlines_are_built_fast() -> None:
    """Of 200,000 points with a noise of a pixel, valid or crossing themselves in many places."""
    for spacing, valid in ((3.0, True), (1.0, False)):
        outline = noisy_circle(200_000, spacing)
        start = time.perf_counter()
        built = build_geometry([[outline]])
        assert time.perf_counter() - start < 20  # 2 s
        assert built.valid == valid
        assert built.geometry is not None
        radius = 200_000 * spacing / (2 * np.pi)
        assert built.geometry.area == pytest.approx(np.pi * radius**2, rel=1e-3)


def test_a_repair_that_would_explode_is_rejected_at_once() -> None:
    scribble = np.random.default_rng(0).uniform(0, 1000, (2_000, 2))  # 466,338 crossings
    start = time.perf_counter()
    with pytest.raises(CrossingLimitError, match="more than 100,000 crossings"):
        build_geometry([[scribble]])
    with pytest.raises(CrossingLimitError, match="too many lines that are close"):
        build_geometry([[np.random.default_rng(0).uniform(0, 1000, (100_000, 2))]])
    assert time.perf_counter() - start < 20  # 2 s; a repair of the first one takes 24 s


def test_the_limit_of_crossings_is_inclusive() -> None:
    eight = [[ring_of([(0, 0), (10, 10), (10, 0), (0, 10)])]]
    assert build_geometry(eight, 1).num_crossings == 1
    with pytest.raises(CrossingLimitError):
        build_geometry(eight, 0)


def test_crossings_of_several_polygons_count() -> None:
    squares = [[ring_of(square(0, 0, 10))], [ring_of(square(5, 5, 10))]]
    assert build_geometry(squares).num_crossings == 2
    with pytest.raises(CrossingLimitError):
        build_geometry(squares, 1)


def test_an_error_of_geos_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise shapely.errors.GEOSException("TopologyException: side location conflict\nat 1 2")

    monkeypatch.setattr(shapely, "make_valid", fail)
    with (
        pytest.raises(DataError, match=r"^a: its polygons cannot be .* \(TopologyException: side"),
        overlay_errors("a"),
    ):
        build_geometry([[ring_of([(0, 0), (10, 10), (10, 0), (0, 10)])]])
