"""The regions that were drawn on a slide: polygons with a class, in pixels of level 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raysearch.errors import DataError, shortened

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon

# The points of a ring, shape (points, 2); the first ring of a polygon is its boundary, the others
# are holes.
Ring = NDArray[np.float64]
Rings = Sequence[Ring]
# No slide has so many pixels in a row; areas of such polygons are still exact to 1e-9 pixels.
MAX_COORDINATE = 1e8
MAX_LISTED = 5


@dataclass(frozen=True)
class AnnotatedRegion:
    """A region of one class.

    Attributes:
        class_name: The class.
        geometry: Its polygons, with holes, in pixels of level 0; it is valid, and has an area.
        valid: Whether it was drawn so; False if it crossed itself and was repaired.
    """

    class_name: str
    geometry: Polygon | MultiPolygon
    valid: bool = True


@dataclass(frozen=True)
class SlideAnnotations:
    """The regions of a slide, and one line for each kind of object that is left out or changed."""

    regions: tuple[AnnotatedRegion, ...]
    warnings: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The sorted names of the classes."""
        return tuple(sorted({region.class_name for region in self.regions}))


@dataclass
class RegionCollector:
    """Collects the regions of a file, and counts what cannot be a region.

    Attributes:
        path: The file, for messages.
        noun: What the file calls an object, such as `feature`.
        regions: The regions.
    """

    path: str
    noun: str
    regions: list[AnnotatedRegion] = field(default_factory=list)
    _omitted: Counter[str] = field(default_factory=Counter)
    _repaired: list[int] = field(default_factory=list)
    _empty: list[int] = field(default_factory=list)

    def omit(self, reason: str) -> None:
        """Count an object that is left out for `reason`, which ends the sentence `it is ...`."""
        self._omitted[reason] += 1

    def add(self, class_name: str, polygons: Sequence[Rings], number: int) -> None:
        """Add a region.

        Args:
            class_name: Its class.
            polygons: The rings of each of its polygons.
            number: The number of the object in the file, from 1.
        """
        geometry, valid = build_geometry(polygons)
        if geometry is None:
            self._empty.append(number)
            return
        if not valid:
            self._repaired.append(number)
        self.regions.append(AnnotatedRegion(class_name, geometry, valid))

    def error(self, number: int, reason: str) -> DataError:
        """Return the error of the object with that number."""
        return DataError(f"{self.path}: {self.noun} {number}: {reason}")

    def annotations(self) -> SlideAnnotations:
        """Return the regions with the warnings."""
        warnings = [
            f"{self.path}: {counted(number, self.noun)} left out: {reason}"
            for reason, number in sorted(self._omitted.items())
        ]
        for numbers, text in (
            (self._empty, "left out: a polygon without area"),
            (self._repaired, "repaired: a polygon that crosses or touches itself"),
        ):
            if numbers:
                listed = f"{self.noun} {_listed(numbers)}"
                count = counted(len(numbers), self.noun)
                warnings.append(f"{self.path}: {count} {text} ({listed})")
        return SlideAnnotations(tuple(self.regions), tuple(warnings))


def counted(number: int, noun: str) -> str:
    """Return `1 polygon` or `2 polygons`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(numbers: Sequence[int]) -> str:
    ending = ", ..." if len(numbers) > MAX_LISTED else ""
    return ", ".join(map(str, numbers[:MAX_LISTED])) + ending


def check_shapely() -> None:
    """Raise a DataError if shapely is not installed."""
    try:
        import shapely  # noqa: F401
    except ImportError:
        raise DataError("annotations need the package shapely; install raysearch[slides]") from None


def ring_of(points: object) -> Ring:
    """Convert pairs of numbers; a third number of a point is ignored.

    Raises:
        ValueError: If it is not a list of points, or a number is not finite or too large.
    """
    try:
        array = np.asarray(points)
    except (ValueError, OverflowError):  # points of different lengths, or nested too deep
        raise ValueError("the points of a polygon are not pairs of numbers") from None
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind not in "iuf":
        raise ValueError("the points of a polygon are not pairs of numbers")
    ring = np.asarray(array[:, :2], np.float64)
    within = np.abs(ring) <= MAX_COORDINATE  # False for NaN
    if not within.all():
        value = shortened(ring[~within][0])
        raise ValueError(f"the coordinate {value} is not between -{MAX_COORDINATE:,.0f} and"
                         f" {MAX_COORDINATE:,.0f}")  # fmt: skip
    return ring


def build_geometry(polygons: Iterable[Rings]) -> tuple[Polygon | MultiPolygon | None, bool]:
    """Build a valid geometry from the rings of polygons.

    Where a boundary crosses itself, all that it encloses belongs to the polygon, as in the masks
    of QuPath and ASAP.

    Returns:
        The geometry, None if it has no area; and whether it was valid without a repair.
    """
    import shapely

    parts = [
        shapely.Polygon(rings[0], [hole for hole in rings[1:] if len(hole) > 2])
        for rings in polygons
        if rings and len(rings[0]) > 2
    ]
    geometry = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    valid = bool(shapely.is_valid(geometry))
    if not valid:
        repaired = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
        # Parts of a repaired ring may still touch along a line.
        geometry = shapely.union_all(shapely.get_parts(repaired))
    return polygonal(geometry), valid


def polygonal(geometry: object) -> Polygon | MultiPolygon | None:
    """Return the polygons of a geometry; None if it has no area."""
    import shapely

    parts = [
        part
        for part in shapely.get_parts(shapely.get_parts([geometry]))
        if shapely.get_dimensions(part) == 2 and shapely.area(part) > 0
    ]
    if not parts:
        return None
    result: Polygon | MultiPolygon = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return result
