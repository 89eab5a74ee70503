"""The regions that were drawn on a slide: polygons with a class, in pixels of level 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raysearch.data.quantities import quantity
from raysearch.data.slides.polygons import (
    MAX_CROSSINGS,
    Rings,
    build_geometry,
    has_points,
    overlay_errors,
)
from raysearch.errors import DataError

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon

# What a file may have. Parsed JSON takes up to 27 times the memory of its text, and about 10 times
# if it is of polygons: the first two limits keep the memory of reading any file below 1.2 GB, and
# that of 2,000,000 points below .8 GB. Files of drawn regions have a few megabytes; larger ones
# have the detected cells of a slide.
MAX_BYTES = 64 * 2**20
MAX_VALUES = 8_000_000
MAX_POINTS = 2_000_000
MAX_LISTED = 5
EXPORT_ADVICE = "export the annotations without the detections"


@dataclass(frozen=True)
class AnnotatedRegion:
    """A region of one class.

    Attributes:
        class_name: The class.
        geometry: Its polygons, with holes, in pixels of level 0; it is valid, and has an area.
        valid: Whether it was drawn so; False if it crossed itself and was repaired.
        depth: How many objects of the file contain its object.
    """

    class_name: str
    geometry: Polygon | MultiPolygon
    valid: bool = True
    depth: int = 0


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
    _with_omitted_parts: Counter[str] = field(default_factory=Counter)
    _repaired: list[int] = field(default_factory=list)
    _empty: list[int] = field(default_factory=list)
    _num_points: int = 0
    _num_crossings: int = 0

    def omit(self, reason: str) -> None:
        """Count an object that is left out for `reason`, such as `a Point, which has no area`."""
        self._omitted[reason] += 1

    def add(
        self,
        class_name: str,
        polygons: Sequence[Rings],
        number: int,
        *,
        omitted_parts: Iterable[str] = (),
        depth: int = 0,
    ) -> None:
        """Add a region, or count an object without area.

        Args:
            class_name: Its class.
            polygons: The rings of each of its polygons.
            number: The number of the object in the file, from 1.
            omitted_parts: Why parts of the object are not among the polygons.
            depth: How many objects contain it.

        Raises:
            DataError: If the file has too many points, or the repair of a polygon would take too
                long.
        """
        polygons = [rings for rings in polygons if rings]
        reasons = set(omitted_parts)
        if reasons and not polygons:
            self.omit("; ".join(sorted(reasons)))
            return
        self._count_points(polygons)
        drawn = [[ring for ring in rings if has_points(ring)] for rings in polygons]
        if any(
            len(rings) < len(all_rings) for rings, all_rings in zip(drawn, polygons, strict=True)
        ):
            reasons.add("a ring of fewer than 3 points")
        pairs = zip(drawn, polygons, strict=True)
        outlined = [rings for rings, (boundary, *_holes) in pairs if has_points(boundary)]
        with overlay_errors(f"{self.path}: {self.noun} {number}"):
            built = build_geometry(outlined, MAX_CROSSINGS - self._num_crossings)
        self._num_crossings += built.num_crossings
        if built.geometry is None:
            self._empty.append(number)
            return
        if reasons:
            self._with_omitted_parts["; ".join(sorted(reasons))] += 1
        if not built.valid:
            self._repaired.append(number)
        self.regions.append(AnnotatedRegion(class_name, built.geometry, built.valid, depth))

    def _count_points(self, polygons: Sequence[Rings]) -> None:
        self._num_points += sum(len(ring) for rings in polygons for ring in rings)
        if self._num_points > MAX_POINTS:
            raise DataError(
                f"{self.path}: more than {MAX_POINTS:,} points of polygons; {EXPORT_ADVICE}, or"
                " simplify them"
            )

    def error(self, number: int, reason: str) -> DataError:
        """Return the error of the object with that number."""
        return DataError(f"{self.path}: {self.noun} {number}: {reason}")

    def annotations(self) -> SlideAnnotations:
        """Return the regions with the warnings."""
        warnings = [
            f"{self.path}: {quantity(number, self.noun)} {text}: {reason}"
            for counts, text in (
                (self._omitted, "left out"),
                (self._with_omitted_parts, "with parts left out"),
            )
            for reason, number in sorted(counts.items())
        ]
        for numbers, text in (
            (self._empty, "left out: a polygon without area"),
            (self._repaired, "repaired: a polygon that crosses or touches itself"),
        ):
            if numbers:
                listed = f"{self.noun} {_listed(numbers)}"
                count = quantity(len(numbers), self.noun)
                warnings.append(f"{self.path}: {count} {text} ({listed})")
        return SlideAnnotations(tuple(self.regions), tuple(warnings))


def check_content(path: str, content: bytes, separators: bytes) -> None:
    """Check the size of a file, and the number of its values, before it is parsed.

    Args:
        path: The file, for messages.
        content: Its content, unpacked.
        separators: The characters that there are at least as many of as values.

    Raises:
        DataError: If it would need too much memory.
    """
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: more than {MAX_BYTES // 2**20} MB; {EXPORT_ADVICE}")
    if sum(content.count(separator) for separator in separators) > MAX_VALUES:
        raise DataError(f"{path}: more than {MAX_VALUES:,} values; {EXPORT_ADVICE}")


def _listed(numbers: Sequence[int]) -> str:
    ending = ", ..." if len(numbers) > MAX_LISTED else ""
    return ", ".join(map(str, numbers[:MAX_LISTED])) + ending
