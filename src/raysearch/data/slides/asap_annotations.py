"""Reads ASAP's XML, the format of the annotations of CAMELYON16 and CAMELYON17.

The class of an annotation is the group that it is a part of. Two conventions of CAMELYON are
followed, and a warning says so if a file uses them:

- The groups `_0` and `_1` of CAMELYON16 are the class `Tumor`.
- The groups `_2` of CAMELYON16 and `Exclusion` are not a class: they are cut out of all others.

The types Polygon, Spline and Rectangle are regions. A spline is the polygon of its points, as in
the masks that ASAP writes. Two points of a Rectangle are its opposite corners.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO
from unicodedata import normalize
from xml.parsers import expat

import numpy as np

from raysearch.data.slides.annotated_regions import (
    AnnotatedRegion,
    RegionCollector,
    SlideAnnotations,
    counted,
    polygonal,
    ring_of,
)
from raysearch.errors import DataError, first_line, shortened

CAMELYON_CLASSES = {"_0": "Tumor", "_1": "Tumor"}
EXCLUSION_GROUPS = frozenset({"_2", "Exclusion"})
NO_GROUP = ("", "None")
ROOT = "ASAP_Annotations"
REGION_TYPES = ("Polygon", "Spline", "Rectangle")
OTHER_TYPES = ("Dot", "PointSet", "Measurement", "None")
# ASAP's files have five levels.
MAX_DEPTH = 100


@dataclass
class _Annotation:
    """An annotation that is being read: its points are (order, x, y)."""

    type_name: str
    group: str
    points: list[tuple[int, float, float]] = field(default_factory=list)


class _Parser:
    """Receives the elements of a file."""

    def __init__(self, path: str) -> None:
        self.collector = RegionCollector(path, "annotation")
        self.exclusions = RegionCollector(path, "annotation")
        self.renamed: set[str] = set()
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
            group = " ".join(normalize("NFC", attributes.get("PartOfGroup", "")).split())
            self._current = _Annotation(attributes.get("Type", ""), group)
        elif name == "Coordinate" and self._current is not None:
            self._current.points.append(self._point(attributes, len(self._current.points)))

    def end(self, name: str) -> None:
        """Receive the end of an element."""
        self._depth -= 1
        if name == "Annotation" and self._current is not None:
            self._finish(self._current)
            self._current = None

    def doctype(self, *_arguments: object) -> None:
        """Reject a document type, the only place that can define entities."""
        raise ValueError("it has a document type, which ASAP does not write")

    def _point(self, attributes: Mapping[str, str], index: int) -> tuple[int, float, float]:
        x, y = (self._number_of(attributes.get(axis)) for axis in ("X", "Y"))
        try:
            return int(attributes.get("Order", index)), x, y
        except ValueError:
            raise self._error(f"Order {shortened(attributes['Order'])!r} is no number") from None

    def _number_of(self, text: str | None) -> float:
        try:
            return float(text or "")
        except ValueError:
            raise self._error(f"the coordinate {shortened(text)!r} is no number") from None

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
        group = annotation.group
        if group in CAMELYON_CLASSES or group in EXCLUSION_GROUPS:
            self.renamed.add(group)
        target = self.exclusions if group in EXCLUSION_GROUPS else self.collector
        points = sorted(annotation.points, key=lambda point: point[0])
        try:
            ring = ring_of([point[1:] for point in points] or np.empty((0, 2)))
        except ValueError as error:
            raise self._error(str(error)) from None
        if annotation.type_name == "Rectangle" and len(ring) == 2:
            (left, top), (right, bottom) = ring
            ring = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        target.add(CAMELYON_CLASSES.get(group, group), [[ring]], self._number)

    def _error(self, reason: str) -> DataError:
        return self.collector.error(self._number, f"{reason}; export the annotations again")


def parse_asap(file: IO[bytes], path: str) -> SlideAnnotations:
    """Read the annotations of an XML file of ASAP.

    Args:
        file: The file.
        path: Its name, for messages.

    Raises:
        DataError: If it is not XML of ASAP, has a document type, or a coordinate is no number.
    """
    handler = _Parser(path)
    parser = expat.ParserCreate()
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.StartDoctypeDeclHandler = handler.doctype
    try:
        parser.ParseFile(file)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DataError(
            f"{path}: not XML of ASAP ({first_line(error)}); save the annotations again in ASAP, or"
            " give GeoJSON of QuPath"
        ) from None
    return _with_holes(handler, path)


def _with_holes(handler: _Parser, path: str) -> SlideAnnotations:
    """Cut the exclusions out of the regions."""
    annotations = handler.collector.annotations()
    exclusions = handler.exclusions.annotations()
    warnings = [*annotations.warnings, *exclusions.warnings]
    if handler.renamed:
        warnings.append(
            f"{path}: the groups {', '.join(sorted(handler.renamed))} are read as in CAMELYON: _0"
            " and _1 are the class Tumor, _2 and Exclusion are cut out of the other regions"
        )
    regions = _difference(annotations.regions, exclusions.regions)
    if len(regions) < len(annotations.regions):
        number = len(annotations.regions) - len(regions)
        warnings.append(f"{path}: {counted(number, 'annotation')} left out: within an exclusion")
    return SlideAnnotations(regions, tuple(warnings))


def _difference(
    regions: tuple[AnnotatedRegion, ...], exclusions: tuple[AnnotatedRegion, ...]
) -> tuple[AnnotatedRegion, ...]:
    import shapely

    if not exclusions:
        return regions
    holes = np.array([region.geometry for region in exclusions], object)
    tree = shapely.STRtree(holes)
    remaining = []
    for region in regions:
        indices = tree.query(region.geometry, predicate="intersects")
        geometry = region.geometry
        if len(indices):
            geometry = polygonal(shapely.difference(geometry, shapely.union_all(holes[indices])))
        if geometry is not None:
            remaining.append(AnnotatedRegion(region.class_name, geometry, region.valid))
    return tuple(remaining)
