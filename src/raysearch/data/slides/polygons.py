"""Builds valid polygons from the rings of a file, within limits of work and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raysearch.data.slides.segment_crossings import (
    CrossingLimitError,
    check_close_segments,
    count_crossings,
)
from raysearch.errors import DataError, first_line, shortened

if TYPE_CHECKING:
    from shapely import Geometry, MultiPolygon, Polygon

# The points of a ring, shape (points, 2); the first ring of a polygon is its boundary, the others
# are holes.
Ring = NDArray[np.float64]
Rings = Sequence[Ring]
# No slide has so many pixels in a row.
MAX_COORDINATE = 1e7
# A crossing is a point of the result, and takes about 50 microseconds.
MAX_CROSSINGS = 100_000
# GEOS compares the lines of smaller polygons fast, however they lie.
MIN_CHECKED_POINTS = 1_000
MIN_RING_POINTS = 3


@dataclass(frozen=True)
class BuiltGeometry:
    """What was made of the rings of polygons.

    Attributes:
        geometry: The valid polygons; None if they have no area.
        valid: Whether they were valid without a repair.
        num_crossings: The number of crossings that were repaired.
    """

    geometry: Polygon | MultiPolygon | None
    valid: bool
    num_crossings: int = 0


def check_shapely() -> None:
    """Raise a DataError if shapely is not installed."""
    try:
        import shapely  # noqa: F401
    except ImportError:
        raise DataError("annotations need the package shapely; install raysearch[slides]") from None


@contextmanager
def overlay_errors(place: str) -> Iterator[None]:
    """Convert what prevents polygons from being repaired or combined to a DataError at `place`."""
    from shapely.errors import GEOSException

    try:
        yield
    except (CrossingLimitError, GEOSException) as error:
        raise DataError(
            f"{place}: its polygons cannot be repaired or combined ({first_line(error)}); draw them"
            " again with fewer points"
        ) from None


def ring_of(points: object) -> Ring:
    """Convert a list of points, which are lists of numbers; only two of each point are used.

    Raises:
        ValueError: If it is no such list, or a coordinate is not finite or too large.
    """
    error = ValueError("the points of a polygon are not pairs of numbers")
    if not isinstance(points, list):
        raise error
    if not all(isinstance(point, list | tuple) and len(point) > 1 for point in points):
        raise error
    # Before an array is made: NumPy would convert all numbers to the longest text among them.
    if not {*map(type, chain.from_iterable(points))} <= {int, float}:
        raise error
    pairs = [(point[0], point[1]) for point in points]
    try:
        ring = np.array(pairs, np.float64).reshape(-1, 2)
    except OverflowError:  # an integer of more than 308 digits
        value = max((abs(number) for pair in pairs for number in pair), default=0)
        raise _coordinate_error(value) from None
    return checked_ring(ring)


def checked_ring(ring: Ring) -> Ring:
    """Return a ring; ValueError if a coordinate is not finite or too large."""
    within = np.abs(ring) <= MAX_COORDINATE  # False for NaN
    if not within.all():
        raise _coordinate_error(ring[~within][0])
    return ring


def _coordinate_error(value: object) -> ValueError:
    return ValueError(
        f"the coordinate {shortened(value)} is not between -{MAX_COORDINATE:,.0f} and"
        f" {MAX_COORDINATE:,.0f}"
    )


def has_points(ring: Ring) -> bool:
    """Whether a ring has three points, besides one that closes it."""
    is_closed = len(ring) > 1 and bool((ring[0] == ring[-1]).all())
    return len(ring) - is_closed >= MIN_RING_POINTS


def build_geometry(polygons: Sequence[Rings], max_crossings: int = MAX_CROSSINGS) -> BuiltGeometry:
    """Build a valid geometry from the rings of polygons, which all have three points or more.

    A ring that crosses itself encloses the points around which it turns (the nonzero winding rule):
    a point that it encircles twice in one direction belongs to it, and a point that it encircles
    once in each direction does not. Holes are then cut out, and overlapping polygons united.

    Raises:
        CrossingLimitError: If a repair would take too long.
        GEOSException: If GEOS cannot repair it.
    """
    import shapely

    parts = [shapely.Polygon(rings[0], rings[1:]) for rings in polygons]
    geometry = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    if shapely.get_num_coordinates(geometry) > MIN_CHECKED_POINTS:
        check_close_segments(np.array([geometry], object))
    if shapely.is_valid(geometry):
        return BuiltGeometry(polygonal(geometry), True)
    num_crossings = count_crossings(np.array([geometry], object), max_crossings, within=True)
    repaired = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    # Parts of a repaired ring may still touch along a line.
    united = shapely.union_all(shapely.get_parts(repaired))
    return BuiltGeometry(polygonal(united), False, num_crossings)


def polygonal(geometry: Geometry) -> Polygon | MultiPolygon | None:
    """Return the polygons of a geometry; None if it has no area."""
    import shapely

    if geometry.geom_type == "Polygon":
        return geometry if geometry.area > 0 else None
    parts = polygonal_parts(np.array([geometry], object))
    if not len(parts):
        return None
    result: Polygon | MultiPolygon = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return result


def polygonal_parts(geometries: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return the polygons of geometries, shape (polygons,), without points and lines."""
    import shapely

    parts = shapely.get_parts(shapely.get_parts(geometries))
    with_area: NDArray[np.object_] = parts[shapely.area(parts) > 0]
    return with_area
