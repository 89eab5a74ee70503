"""Reads ASAP's XML, the format of the annotations of CAMELYON16 and CAMELYON17.

The class of an annotation is the group that it is a part of. Three conventions are followed, and a
warning says so if a file uses them:

- The groups `_0` and `_1` of CAMELYON16 are the class `Tumor`.
- The groups `_2` of CAMELYON16 and `Exclusion` are not a class: they are cut out of all others.
- In a file with the groups `metastases` and `normal` of CAMELYON17, `normal` is cut out of
  `metastases`: the masks of CAMELYON17 are painted in this order.

The types Polygon, Spline and Rectangle are regions. A spline is the polygon of its points, as in
the masks that ASAP writes. Two points of a Rectangle are its opposite corners.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from xml.parsers import expat

import numpy as np

from raysearch.data.class_names import clean_class_name
from raysearch.data.quantities import quantity
from raysearch.data.slides.annotated_regions import (
    AnnotatedRegion,
    RegionCollector,
    SlideAnnotations,
    check_content,
)
from raysearch.data.slides.polygons import (
    MAX_CROSSINGS,
    Ring,
    checked_ring,
    overlay_errors,
    polygonal,
)
from raysearch.data.slides.segment_crossings import count_crossings
from raysearch.errors import DataError, first_line, shortened

CAMELYON_CLASSES = {"_0": "Tumor", "_1": "Tumor"}
EXCLUSION_GROUPS = frozenset({"_2", "Exclusion"})
METASTASES, NORMAL = "metastases", "normal"
CAMELYON_WARNING = (
    "read as in CAMELYON: _0 and _1 are the class Tumor, _2 and Exclusion are cut out of the other"
    " regions, and normal is cut out of metastases"
)
NO_GROUP = ("", "None")
ROOT = "ASAP_Annotations"
REGION_TYPES = ("Polygon", "Spline", "Rectangle")
OTHER_TYPES = ("Dot", "PointSet", "Measurement", "None")
# ASAP's files have five levels.
MAX_DEPTH = 100
# Of these there are at least as many as elements and attributes in XML.
SEPARATORS = b"<="


@dataclass
class _Annotation:
    """An annotation that is being read: of each point, its order, x and y."""

    type_name: str
    group: str
    points: array[float] = field(default_factory=lambda: array("d"))

    def ring(self) -> Ring:
        """Return the points in their order; ValueError if a coordinate is too large."""
        points = np.array(self.points).reshape(-1, 3)
        ring = checked_ring(points[np.argsort(points[:, 0], kind="stable"), 1:])
        if self.type_name == "Rectangle" and len(ring) == 2:
            (left, top), (right, bottom) = ring
            return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        return ring


class _Parser:
    """Receives the elements of a file."""

    def __init__(self, path: str) -> None:
        self.collector = RegionCollector(path, "annotation")
        self._current: _Annotation | None = None
        self._number = 0
        self._depth = 0

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Receive the start of an element."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("it is nested too deep")
        if self._depth == 1 and name != ROOT:
            raise ValueError(f"its root is <{shortened(name)}>, not <{ROOT}>")
        if name == "Annotation":
            self._number += 1
            group = attributes.get("PartOfGroup", "")
            self._current = _Annotation(attributes.get("Type", ""), self._checked_group(group))
        elif name == "Coordinate" and self._current is not None:
            points = self._current.points
            order = self._number_of(attributes.get("Order", str(len(points))), "Order")
            x, y = (self._number_of(attributes.get(axis), "the coordinate") for axis in ("X", "Y"))
            points.extend((order, x, y))

    def end(self, name: str) -> None:
        """Receive the end of an element."""
        self._depth -= 1
        if name == "Annotation" and self._current is not None:
            self._finish(self._current)
            self._current = None

    def doctype(self, *_arguments: object) -> None:
        """Reject a document type, the only place that can define entities."""
        raise ValueError("it has a document type, which ASAP does not write")

    def _checked_group(self, group: str) -> str:
        try:
            return clean_class_name(group)
        except ValueError as error:
            raise self._error(str(error)) from None

    def _number_of(self, text: str | None, label: str) -> float:
        try:
            # Python also reads 1_000 and the digits of other scripts.
            if text is None or "_" in text or not text.isascii():
                raise ValueError
            return float(text)
        except ValueError:
            raise self._error(f"{label} {shortened(text)!r} is no number") from None

    def _finish(self, annotation: _Annotation) -> None:
        if annotation.type_name in OTHER_TYPES:
            self.collector.omit(f"a {annotation.type_name}, which has no area")
        elif annotation.type_name not in REGION_TYPES:
            raise self._error(f"{shortened(annotation.type_name)!r} is not a type of ASAP")
        elif annotation.group in NO_GROUP:
            self.collector.omit("in no group, so without a class")
        else:
            self._add(annotation)

    def _add(self, annotation: _Annotation) -> None:
        try:
            ring = annotation.ring()
        except ValueError as error:
            raise self._error(str(error)) from None
        self.collector.add(annotation.group, [[ring]], self._number)

    def _error(self, reason: str) -> DataError:
        return self.collector.error(self._number, f"{reason}; export the annotations again")


def parse_asap(content: bytes, path: str) -> SlideAnnotations:
    """Read the annotations of an XML file of ASAP.

    Args:
        content: The file.
        path: Its name, for messages.

    Raises:
        DataError: If it is not XML of ASAP, has a document type, a coordinate is no number, or it
            is too large.
    """
    check_content(path, content, SEPARATORS)
    handler = _Parser(path)
    parser = expat.ParserCreate()
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.StartDoctypeDeclHandler = handler.doctype
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DataError(
            f"{path}: not XML of ASAP ({first_line(error)}); save the annotations again in ASAP, or"
            " give GeoJSON of QuPath"
        ) from None
    with overlay_errors(path):
        return _with_conventions(handler.collector.annotations(), path)


def _with_conventions(annotations: SlideAnnotations, path: str) -> SlideAnnotations:
    """Cut out what is no class or is painted over, and name the classes of CAMELYON16."""
    groups = set(annotations.class_names)
    special = groups & (CAMELYON_CLASSES.keys() | EXCLUSION_GROUPS)
    has_normal = {METASTASES, NORMAL} <= groups
    if has_normal:
        special |= {METASTASES, NORMAL}
    if not special:
        return annotations
    warnings = [
        *annotations.warnings,
        f"{path}: the groups {', '.join(sorted(special))} are {CAMELYON_WARNING}",
    ]
    regions = annotations.regions
    if has_normal or groups & EXCLUSION_GROUPS:
        geometries = np.array([region.geometry for region in regions], object)
        count_crossings(geometries, MAX_CROSSINGS, within=False)
    exclusions = [region for region in regions if region.class_name in EXCLUSION_GROUPS]
    remaining = [region for region in regions if region.class_name not in EXCLUSION_GROUPS]
    remaining = _difference(remaining, exclusions, groups)
    if has_normal:
        normal = [region for region in remaining if region.class_name == NORMAL]
        remaining = _difference(remaining, normal, {METASTASES})
    num_covered = len(regions) - len(exclusions) - len(remaining)
    if num_covered:
        warnings.append(
            f"{path}: {quantity(num_covered, 'annotation')} left out: within what is cut out"
        )
    named = tuple(
        replace(region, class_name=CAMELYON_CLASSES.get(region.class_name, region.class_name))
        for region in remaining
    )
    return SlideAnnotations(named, tuple(warnings))


def _difference(
    regions: Sequence[AnnotatedRegion], removed: Sequence[AnnotatedRegion], groups: Collection[str]
) -> list[AnnotatedRegion]:
    """Cut `removed` out of the regions of `groups`; leave out those without a rest."""
    import shapely

    holes = np.array([region.geometry for region in removed], object)
    tree = shapely.STRtree(holes)
    remaining = []
    for region in regions:
        geometry, indices = region.geometry, []
        if region.class_name in groups:
            indices = tree.query(geometry, predicate="intersects")
        if len(indices):
            geometry = polygonal(shapely.difference(geometry, shapely.union_all(holes[indices])))
        if geometry is not None:
            remaining.append(replace(region, geometry=geometry))
    return remaining
