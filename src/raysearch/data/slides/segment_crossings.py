"""Counts where the boundaries of polygons cross: the work of repairing and combining them.

A boundary of n segments may cross itself n^2 / 2 times, and each crossing is a point of the result.
Counting them takes a small part of the time of computing them, and ends at a limit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Geometries = NDArray[np.object_]

# Boundaries are compared by chains of so many segments: most chains are far from each other.
CHAIN_LENGTH = 4
# Boundaries with more pairs of close chains take GEOS minutes, whether they cross or not.
MAX_CHAIN_PAIRS = 2_000_000
# The most pairs that a query may return at once, and the pairs that are tested at once.
QUERY_PAIRS, TEST_SIZE = 5_000_000, 20_000


class CrossingLimitError(ValueError):
    """There are more crossings, or places where there could be, than is allowed."""


def count_crossings(geometries: Geometries, limit: int, *, within: bool) -> int:
    """Count the pairs of segments of boundaries that meet, other than at a common end.

    Args:
        geometries: Polygons or multipolygons, shape (n,).
        limit: The largest number.
        within: Whether also segments of one geometry are compared. All of those of valid ones
            meet at common ends only.

    Returns:
        The number of pairs.

    Raises:
        CrossingLimitError: If there are more than `limit`, or too many segments are close.
    """
    starts, ends, owners = _chains(geometries)
    count = 0
    for first, second in _close_chains(starts, ends, None if within else owners):
        for index in range(0, len(first), TEST_SIZE):
            pair = first[index : index + TEST_SIZE], second[index : index + TEST_SIZE]
            count += _count_meeting(starts, ends, *pair)
            if count > limit:
                raise CrossingLimitError(f"more than {limit:,} crossings of lines")
    return count


def check_close_segments(geometries: Geometries) -> None:
    """Raise a CrossingLimitError if too many segments are close to count where they cross."""
    starts, ends, _owners = _chains(geometries)
    for _pairs in _close_chains(starts, ends, None):
        pass


def _chains(geometries: Geometries) -> tuple[Floats, Floats, Integers]:
    """Return starts and ends of segments, shape (chains, CHAIN_LENGTH, 2), and their geometries."""
    import shapely

    polygons, polygon_owners = shapely.get_parts(geometries, return_index=True)
    rings, ring_polygons = shapely.get_rings(polygons, return_index=True)
    points, point_rings = shapely.get_coordinates(rings, return_index=True)
    is_segment = point_rings[1:] == point_rings[:-1]
    starts, ends = points[:-1][is_segment], points[1:][is_segment]
    owners = polygon_owners[ring_polygons[point_rings[1:][is_segment]]]
    # The last chain of a geometry is filled with points, which meet nothing.
    sizes = np.bincount(owners, minlength=len(geometries))
    num_chains = -(-sizes // CHAIN_LENGTH)
    shift = num_chains.cumsum() * CHAIN_LENGTH - sizes.cumsum()
    positions = np.arange(len(owners)) + np.concatenate([[0], shift])[owners]
    source = np.zeros(int(num_chains.sum()) * CHAIN_LENGTH, np.int64)
    source[positions] = np.arange(len(owners))
    source = np.maximum.accumulate(source)
    filled_starts, filled_ends = starts[source], ends[source]
    is_padding = np.ones(len(source), bool)
    is_padding[positions] = False
    filled_starts[is_padding] = filled_ends[is_padding]
    shape = (-1, CHAIN_LENGTH, 2)
    chain_owners = np.repeat(np.arange(len(geometries)), num_chains)
    return filled_starts.reshape(shape), filled_ends.reshape(shape), chain_owners


def _close_chains(
    starts: Floats, ends: Floats, owners: Integers | None
) -> Iterator[tuple[Integers, Integers]]:
    """Yield pairs of chains whose bounds meet, in batches; a chain is also a pair with itself.

    With `owners`, these are pairs of different owners.
    """
    import shapely

    low, high = np.minimum(starts, ends).min(axis=1), np.maximum(starts, ends).max(axis=1)
    boxes = shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1])
    tree = shapely.STRtree(boxes)
    num_pairs = 0
    query_size = max(1, QUERY_PAIRS // max(1, len(boxes)))
    for offset in range(0, len(boxes), query_size):
        first, second = tree.query(boxes[offset : offset + query_size])
        first = first + offset
        is_pair = first <= second
        if owners is not None:
            is_pair &= owners[first] != owners[second]
        num_pairs += int(is_pair.sum())
        if num_pairs > MAX_CHAIN_PAIRS:
            raise CrossingLimitError("too many lines that are close to each other")
        yield first[is_pair], second[is_pair]


def _count_meeting(starts: Floats, ends: Floats, first: Integers, second: Integers) -> int:
    """Count the pairs of segments of pairs of chains that meet, other than at a common end."""
    rows, columns = (axis.ravel() for axis in np.indices((CHAIN_LENGTH, CHAIN_LENGTH)))
    a, b = starts[first][:, rows], ends[first][:, rows]
    c, d = starts[second][:, columns], ends[second][:, columns]
    low, high = (
        np.maximum(np.minimum(a, b), np.minimum(c, d)),
        np.minimum(np.maximum(a, b), np.maximum(c, d)),
    )
    close = (low <= high).all(axis=2)
    close &= (first != second)[:, None] | (rows < columns)
    close &= (a != b).any(axis=2) & (c != d).any(axis=2)
    a, b, c, d, extent = a[close], b[close], c[close], d[close], (high - low)[close].max(axis=1)
    side_c, side_d = _side(a, b, c), _side(a, b, d)
    side_a, side_b = _side(c, d, a), _side(c, d, b)
    meeting = (side_c * side_d <= 0) & (side_a * side_b <= 0)
    num_common = sum(_equal(end, other).astype(int) for end in (a, b) for other in (c, d))
    # Segments with a common end meet again only on one line; equal ones are an edge of neighbors.
    overlapping = (side_c == 0) & (side_d == 0) & (extent > 0) & (num_common < 2)
    return int((meeting & ((num_common == 0) | overlapping)).sum())


def _equal(points: Floats, others: Floats) -> NDArray[np.bool_]:
    return np.asarray((points == others).all(axis=1))


def _side(start: Floats, end: Floats, point: Floats) -> Floats:
    """Return the sign of the side of a line on which a point lies; 0 on the line."""
    direction, offset = end - start, point - start
    return np.sign(direction[:, 0] * offset[:, 1] - direction[:, 1] * offset[:, 0])
