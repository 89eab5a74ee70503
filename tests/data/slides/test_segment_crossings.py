"""Crossings of boundaries are counted as GEOS finds them, and not beyond a limit."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.data.slides import segment_crossings
from raysearch.data.slides.segment_crossings import (
    CrossingLimitError,
    check_close_segments,
    count_crossings,
)
from support.annotation_files import noisy_circle

POINTS = st.lists(st.tuples(*[st.floats(0, 20)] * 2), min_size=3, max_size=30)


def array(geometries: Sequence[object]) -> np.ndarray:
    result = np.empty(len(geometries), object)
    result[:] = geometries
    return result


def crossings_of_geos(points: Sequence[tuple[float, float]]) -> int:
    closed = [*points, points[0]]
    lines = [shapely.LineString(pair) for pair in itertools.pairwise(closed)]
    return sum(one.crosses(two) for one, two in itertools.combinations(lines, 2))


@given(st.integers(3, 40), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_proper_crossings_are_counted_as_by_geos(num_points: int, seed: int) -> None:
    points = np.random.default_rng(seed).uniform(0, 20, (num_points, 2))
    polygon = array([shapely.Polygon(points)])
    number = count_crossings(polygon, 10**6, within=True)
    assert number == crossings_of_geos([(x, y) for x, y in points.tolist()])


@pytest.mark.parametrize(
    ("polygons", "number"),
    [
        ([shapely.box(0, 0, 2, 2), shapely.box(2, 0, 4, 2)], 0),  # neighbors with a common edge
        ([shapely.box(0, 0, 2, 2), shapely.box(1, 1, 3, 3)], 2),
        ([shapely.box(0, 0, 9, 9), shapely.box(1, 1, 3, 3)], 0),
        # One corner in the middle of the left side, one on its end, and a part of a common line.
        ([shapely.box(0, 0, 2, 2), shapely.box(-2, 1, 0, 2)], 2),
        ([shapely.box(0, 0, 9, 1), shapely.box(2, -1, 3, 2), shapely.box(5, -1, 6, 2)], 8),
    ],
)
def test_crossings_of_polygons(polygons: Sequence[shapely.Polygon], number: int) -> None:
    assert count_crossings(array(polygons), 100, within=False) == number


def test_lines_of_one_polygon_count_within_it_only() -> None:
    eight = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    far = shapely.box(100, 100, 101, 101)
    assert count_crossings(array([eight, far]), 9, within=False) == 0
    assert count_crossings(array([eight, far]), 9, within=True) == 1
    assert count_crossings(array([]), 0, within=True) == 0


def test_multipolygons_have_the_lines_of_all_their_polygons() -> None:
    pair = shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(10, 0, 12, 2)])
    crossing = shapely.box(11, 1, 13, 3)
    assert count_crossings(array([pair, crossing]), 9, within=False) == 2
    assert count_crossings(array([crossing, pair]), 9, within=True) == 2
    with_hole = shapely.Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(1, 1), (2, 1), (2, 2)]])
    assert count_crossings(array([with_hole, shapely.box(1.5, 1.25, 5, 5)]), 9, within=False) == 2


def test_spikes_on_one_line_count() -> None:
    spikes = [(0, 0), (1, 0), (0, 0), (2, 0), (0, 0), (3, 0), (0, 0), (0, 1)]
    # All six segments are on one line from the origin: 15 pairs, 3 of them equal.
    assert count_crossings(array([shapely.Polygon(spikes)]), 99, within=True) == 12


def test_the_number_of_crossings_ends_at_the_limit() -> None:
    scribble = array([shapely.Polygon(np.random.default_rng(0).uniform(0, 9, (2_000, 2)))])
    start = time.perf_counter()
    with pytest.raises(CrossingLimitError, match="more than 1,000 crossings"):
        count_crossings(scribble, 1_000, within=True)
    assert time.perf_counter() - start < 5  # .3 s


def test_many_close_lines_that_do_not_cross_are_rejected() -> None:
    numbers = np.arange(20_000)
    x, y = np.where(numbers % 2, 1e6, 0) + numbers / 2, np.where(numbers % 2, 1e6, 0)
    zigzag = np.column_stack([x, y])
    polygon = array([shapely.Polygon([*zigzag, *np.add(zigzag[::-1], [0.1, 0])])])
    with pytest.raises(CrossingLimitError, match="too many lines that are close"):
        check_close_segments(polygon)
    check_close_segments(array([shapely.Polygon(noisy_circle(200_000, 1))]))


def test_batches_do_not_change_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    polygon = array([shapely.Polygon(np.random.default_rng(1).uniform(0, 9, (300, 2)))])
    number = count_crossings(polygon, 10**6, within=True)
    monkeypatch.setattr(segment_crossings, "QUERY_PAIRS", 100)
    monkeypatch.setattr(segment_crossings, "TEST_SIZE", 7)
    assert count_crossings(polygon, 10**6, within=True) == number > 1_000
