"""Divides the regions of a slide into small disjoint polygons of each class.

A region of one class within a region of another class is cut out of it: the inner one wins. All
other overlaps of classes contradict each other, and are a layer of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raysearch.data.slides.annotated_regions import AnnotatedRegion
from raysearch.data.slides.polygons import MAX_CROSSINGS, overlay_errors, polygonal_parts
from raysearch.data.slides.segment_crossings import CrossingLimitError, count_crossings

if TYPE_CHECKING:
    from shapely import Geometry

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Geometries = NDArray[np.object_]

# A region lies within another if this fraction of its area does: polygons that are drawn by hand
# along the edge of another cross it a little.
NESTED_FRACTION = 0.99
# What clipping a large polygon may change of its area, as a fraction: rounding, and no more.
AREA_TOLERANCE = 1e-12
# Large polygons are divided until their parts have at most so many points.
MAX_POLYGON_POINTS = 128
MAX_DIVISIONS = 40
# Dividing a comb across its teeth adds as many points as it has: a line of division crosses the
# boundary at most this many times per point, and the parts together have at most so many times the
# points of the large polygon.
MAX_CUTS_PER_POINT, MAX_GROWTH = 0.1, 2
# The time of clipping grows with the square of the cuts.
MAX_CLIPPED_CUTS = 500
# The most pairs of parts whose bounds meet, and of those that overlap: 2 and 60 microseconds each.
MAX_PAIRS, MAX_OVERLAPS = 2_000_000, 100_000
# The most pairs that a query may return at once, and the pairs that are intersected at once.
QUERY_PAIRS, BATCH_PAIRS = 5_000_000, 20_000


@dataclass(frozen=True)
class RegionLayers:
    """The disjoint polygons of the classes of a slide.

    Attributes:
        polygons: The polygons, shape (n,).
        layers: The number of the class of each, shape (n,); the number of classes for those that
            belong to two classes or more, which are also among the polygons of these classes.
    """

    polygons: Geometries
    layers: Integers


def divide_regions(
    regions: Sequence[AnnotatedRegion], class_names: Sequence[str], source: str
) -> RegionLayers:
    """Divide regions into disjoint polygons of each class.

    Args:
        regions: The regions.
        class_names: The names of all their classes.
        source: What the regions are of, for messages.

    Raises:
        DataError: If combining them would take too long.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    classes = np.array([numbers[region.class_name] for region in regions], np.int64)
    geometries = _array([region.geometry for region in regions])
    with overlay_errors(source):
        count_crossings(geometries, MAX_CROSSINGS, within=False)
        parts, owners = _divided(geometries, np.arange(len(geometries)))
        pairs = _overlapping(parts, owners)
        is_foreign = classes[owners[pairs.first]] != classes[owners[pairs.second]]
        foreign = pairs.selected(is_foreign)
        inner = _inner(regions, owners, foreign)
        in_common = np.unique(owners[np.concatenate(pairs.selected(~is_foreign).indices)])
        parts, owners = _cut(parts, owners, foreign, inner)
        parts, layers = _united(parts, owners, classes, in_common)
        if (inner == 0).any():
            shared = _overlapping(parts, layers).geometries
            conflicts, _index = _divided(_array([_union(shared)]), np.zeros(1, np.int64))
            parts = np.concatenate([parts, conflicts])
            layers = np.append(layers, np.full(len(conflicts), len(class_names)))
    return RegionLayers(parts, layers)


@dataclass(frozen=True)
class _Pairs:
    """Pairs of overlapping polygons, shape (n,): their indices, and the polygons of the overlap."""

    first: Integers
    second: Integers
    geometries: Geometries

    @property
    def indices(self) -> tuple[Integers, Integers]:
        return self.first, self.second

    def selected(self, mask: NDArray[np.bool_]) -> _Pairs:
        """Return the pairs of a mask, shape (n,)."""
        return _Pairs(self.first[mask], self.second[mask], self.geometries[mask])


def _overlapping(parts: Geometries, keys: Integers) -> _Pairs:
    """Return the pairs of polygons of different keys that have an area in common."""
    import shapely

    first, second = _close_pairs(parts, keys)
    shapely.prepare(parts)
    meet = shapely.intersects(parts[first], parts[second])
    first, second = first[meet], second[meet]
    batches = [_Pairs(first[:0], second[:0], parts[:0])]
    num_overlaps = 0
    for offset in range(0, len(first), BATCH_PAIRS):
        batch = slice(offset, offset + BATCH_PAIRS)
        geometries = shapely.intersection(parts[first[batch]], parts[second[batch]])
        pairs = _Pairs(first[batch], second[batch], geometries)
        batches.append(pairs.selected(shapely.area(geometries) > 0))
        num_overlaps += len(batches[-1].first)
        if num_overlaps > MAX_OVERLAPS:
            raise CrossingLimitError(f"more than {MAX_OVERLAPS:,} overlaps")
    return _Pairs(
        np.concatenate([pairs.first for pairs in batches]),
        np.concatenate([pairs.second for pairs in batches]),
        np.concatenate([pairs.geometries for pairs in batches]),
    )


def _close_pairs(parts: Geometries, keys: Integers) -> tuple[Integers, Integers]:
    """Return the indices of pairs of polygons of different keys whose bounds meet."""
    import shapely

    tree = shapely.STRtree(parts)
    query_size = max(1, QUERY_PAIRS // max(1, len(parts)))
    batches, num_pairs = [np.empty((2, 0), np.int64)], 0
    for offset in range(0, len(parts), query_size):
        first, second = tree.query(parts[offset : offset + query_size])
        first = first + offset
        is_pair = (first < second) & (keys[first] != keys[second])
        num_pairs += int(is_pair.sum())
        if num_pairs > MAX_PAIRS:
            raise CrossingLimitError(f"more than {MAX_PAIRS:,} close polygons")
        batches.append(np.stack([first[is_pair], second[is_pair]]))
    first, second = np.concatenate(batches, axis=1)
    return first, second


def _inner(regions: Sequence[AnnotatedRegion], owners: Integers, pairs: _Pairs) -> Integers:
    """Return which polygon of a pair is of a region within the other's region, shape (pairs,).

    Returns:
        1 for the first, 2 for the second; 0 if neither region is within the other one. Of equal
        regions, the one whose object is within more objects of the file is the inner one.
    """
    import shapely

    areas = shapely.area(_array([region.geometry for region in regions]))
    depths = np.array([region.depth for region in regions], np.int64)
    region_pairs, inverse = np.unique(
        np.stack([owners[pairs.first], owners[pairs.second]]), axis=1, return_inverse=True
    )
    inverse = inverse.reshape(-1)
    shared = np.bincount(inverse, shapely.area(pairs.geometries), region_pairs.shape[1])
    is_within = shared >= NESTED_FRACTION * areas[region_pairs]
    deeper = depths[region_pairs] > depths[region_pairs[::-1]]
    is_inner = is_within & (~is_within[::-1] | deeper)
    return np.where(is_inner[0], 1, np.where(is_inner[1], 2, 0))[inverse]


def _cut(
    parts: Geometries, owners: Integers, pairs: _Pairs, inner: Integers
) -> tuple[Geometries, Integers]:
    """Cut the polygons of inner regions out of those of the regions around them."""
    import shapely

    outer_indices = np.where(inner == 1, pairs.second, pairs.first)[inner > 0]
    inner_indices = np.where(inner == 1, pairs.first, pairs.second)[inner > 0]
    changed, groups = _grouped(outer_indices, inner_indices)
    if not len(changed):
        return parts, owners
    rest = [
        shapely.difference(parts[index], _union(parts[group]))
        for index, group in zip(changed, groups, strict=True)
    ]
    unchanged = np.ones(len(parts), bool)
    unchanged[changed] = False
    divided, divided_owners = _divided(_array(rest), owners[changed])
    return (
        np.concatenate([parts[unchanged], divided]),
        np.concatenate([owners[unchanged], divided_owners]),
    )


def _united(
    parts: Geometries, owners: Integers, classes: Integers, in_common: Integers
) -> tuple[Geometries, Integers]:
    """Unite the regions that overlap others of their class; return polygons and their classes."""
    is_common = np.isin(owners, in_common)
    layers = classes[owners]
    shared, groups = _grouped(layers[is_common], parts[is_common])
    united, united_layers = _divided(_array([_union(group) for group in groups]), shared)
    return (
        np.concatenate([parts[~is_common], united]),
        np.concatenate([layers[~is_common], united_layers]),
    )


def _grouped(keys: Integers, values: NDArray[np.generic]) -> tuple[Integers, list[Geometries]]:
    """Return the different keys, sorted, and the values of each."""
    order = np.argsort(keys, kind="stable")
    different, starts = np.unique(keys[order], return_index=True)
    return different, np.split(values[order], starts[1:]) if len(different) else []


def _union(geometries: Geometries) -> Geometry:
    """Return the union of geometries."""
    import shapely

    return shapely.union_all(geometries)


def _divided(geometries: Geometries, keys: Integers) -> tuple[Geometries, Integers]:
    """Divide geometries into polygons with few points; return them with the keys of each."""
    import shapely

    parts, indices = shapely.get_parts(geometries, return_index=True)
    parts, inner_indices = shapely.get_parts(parts, return_index=True)
    indices = indices[inner_indices]
    is_large = shapely.get_num_coordinates(parts) > MAX_POLYGON_POINTS
    is_small = ~is_large & (shapely.area(parts) > 0)
    polygons, owners = [parts[is_small]], [indices[is_small]]
    for part, index in zip(parts[is_large], indices[is_large], strict=True):
        small = _array(list(_small_polygons(part)))
        polygons.append(small)
        owners.append(np.full(len(small), index))
    order = np.argsort(np.concatenate(owners), kind="stable")
    return np.concatenate(polygons)[order], keys[np.concatenate(owners)[order]]


def _small_polygons(polygon: Geometry) -> Iterator[Geometry]:
    """Yield the halves of halves of a large polygon that have few points."""
    import shapely

    growth_limit = (MAX_GROWTH - 1) * shapely.get_num_coordinates(polygon)
    pending = [(polygon, MAX_DIVISIONS)]
    while pending:
        part, num_divisions = pending.pop()
        num_points = shapely.get_num_coordinates(part)
        if num_points <= MAX_POLYGON_POINTS or not num_divisions or growth_limit < 0:
            yield part
            continue
        halves = polygonal_parts(_array(_halves(part)))
        growth_limit -= shapely.get_num_coordinates(halves).sum() - num_points
        pending += [(half, num_divisions - 1 if len(halves) > 1 else 0) for half in halves]


def _halves(polygon: Geometry) -> list[Geometry]:
    """Divide a polygon in the middle of its longer side, or else of its shorter one.

    Returns:
        The parts; the polygon itself if both lines of division cross it too often.
    """
    import shapely

    left, top, right, bottom = shapely.bounds(polygon).tolist()
    x, y = (left + right) / 2, (top + bottom) / 2
    is_wide = right - left >= bottom - top
    # Clipping takes long if much of the boundary lies on the sides of the box.
    margin = right - left + bottom - top
    left, top, right, bottom = left - margin, top - margin, right + margin, bottom + margin
    points = shapely.get_coordinates(polygon)
    ways = [
        (points[:, 0] < x, [(left, top, x, bottom), (x, top, right, bottom)]),
        (points[:, 1] < y, [(left, top, right, y), (left, y, right, bottom)]),
    ]
    for is_first, boxes in ways if is_wide else ways[::-1]:
        num_cuts = int((is_first[1:] != is_first[:-1]).sum())
        if num_cuts <= MAX_CUTS_PER_POINT * len(points):
            return _clipped(polygon, boxes, num_cuts)
    return [polygon]


def _clipped(
    polygon: Geometry, boxes: Sequence[tuple[float, float, float, float]], num_cuts: int
) -> list[Geometry]:
    """Return the parts of a polygon in each of two boxes, whose common side has `num_cuts`."""
    import shapely

    if num_cuts <= MAX_CLIPPED_CUTS:
        parts = [shapely.clip_by_rect(polygon, *box) for box in boxes]
        # Clipping is many times faster than an intersection, but may return what is not valid.
        change = abs(sum(map(shapely.area, parts)) - polygon.area)
        if shapely.is_valid(parts).all() and change <= AREA_TOLERANCE * polygon.area:
            return parts
    return [shapely.intersection(polygon, shapely.box(*box)) for box in boxes]


def _array(geometries: Sequence[Geometry]) -> Geometries:
    array: Geometries = np.empty(len(geometries), object)
    array[:] = geometries
    return array
