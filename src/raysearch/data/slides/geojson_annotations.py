"""Reads GeoJSON, as QuPath exports it: features of objects with a classification.

QuPath writes a FeatureCollection, a list of features, or one feature. The class of an object is
`properties.classification`: an object with `name`, or with `names`, the parts of a derived class
such as `Tumor: Positive`; or a text. Before QuPath 0.4, a derived class had the last part as `name`
and the class of the other parts as `parentClass`. Objects of a hierarchy contain others in
`properties.childObjects`. Only annotations are regions: detections, cells and tiles are results of
an analysis, and are left out.

What is absent or null is left out with a warning; a value of another type is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raysearch.config.json_values import parse_json
from raysearch.data.class_names import clean_class_name
from raysearch.data.slides.annotated_regions import (
    RegionCollector,
    SlideAnnotations,
    check_content,
)
from raysearch.data.slides.polygons import Rings, ring_of
from raysearch.errors import DataError, first_line, shortened

# QuPath creates an annotation of every type but these; the second names are those of QuPath 0.2.
OTHER_TYPES = {
    "detection": "a detection",
    "PathDetectionObject": "a detection",
    "cell": "a cell",
    "PathCellObject": "a cell",
    "tile": "a tile",
    "PathTileObject": "a tile",
    "tmaCore": "a TMA core",
    "tma_core": "a TMA core",
    "TMACoreObject": "a TMA core",
    "root": "the root of a hierarchy",
    "PathRootObject": "the root of a hierarchy",
}
TYPE_KEYS = ("objectType", "object_type", "type")
CHILDREN_KEYS = ("childObjects", "children")
CLASS_SEPARATOR = ": "
WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
# Of these there are at least as many as values in JSON.
SEPARATORS = b",[{"
# A JSON object.
Items = dict[object, object]


@dataclass
class _Shape:
    """The polygons of a geometry, and why other parts of it are left out."""

    polygons: list[Rings] = field(default_factory=list)
    omitted: list[str] = field(default_factory=list)


def parse_geojson(content: bytes, path: str) -> SlideAnnotations:
    """Read the annotations of a GeoJSON file.

    Args:
        content: The file.
        path: Its name, for messages.

    Raises:
        DataError: If it is not GeoJSON, is nested too deep, has a value of a wrong type or a
            polygon without pairs of finite numbers, or is too large.
    """
    check_content(path, content, SEPARATORS)
    collector = RegionCollector(path, "feature")
    pending = [(feature, 0) for feature in reversed(_features(_parse(content, path), path))]
    number = 0
    while pending:
        feature, depth = pending.pop()
        number += 1
        try:
            _read_feature(feature, number, depth, collector)
            pending += [(child, depth + 1) for child in reversed(_children(feature))]
        except ValueError as error:
            raise collector.error(number, f"{error}; export the annotations again") from None
    return collector.annotations()


def _parse(content: bytes, path: str) -> object:
    try:
        # QuPath writes NaN for a measurement without a value.
        return parse_json(content, allow_nan=True)
    except ValueError as error:
        reason = first_line(error)
    raise DataError(f"{path}: not GeoJSON ({reason}); export the annotations again")


def _features(document: object, path: str) -> list[object]:
    if isinstance(document, list):
        return document
    items = document if isinstance(document, dict) else {}
    kind, features = items.get("type"), items.get("features")
    if kind == "Feature":
        return [document]
    if kind == "FeatureCollection" and isinstance(features, list):
        return features
    raise DataError(
        f"{path}: not GeoJSON of annotations; it is a FeatureCollection, a list of features, or a"
        " feature: export the annotations from QuPath as GeoJSON"
    )


def _children(feature: object) -> list[object]:
    """Return the objects that the object of a feature contains."""
    properties = _mapping(_mapping(feature, "the feature").get("properties"), "`properties`")
    return [
        child
        for key in CHILDREN_KEYS
        if properties.get(key) is not None
        for child in _list(properties[key], f"`{key}`")
    ]


def _read_feature(feature: object, number: int, depth: int, collector: RegionCollector) -> None:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise ValueError("not a feature (`type` is not `Feature`)")
    properties = _mapping(feature.get("properties"), "`properties`")
    kind = _object_type(properties) or feature.get("id")
    if isinstance(kind, str) and kind in OTHER_TYPES:
        collector.omit(f"{OTHER_TYPES[kind]}, not an annotation")
        return
    class_name = _class_name(properties.get("classification"))
    geometry = _mapping(feature.get("geometry"), "`geometry`")
    if not class_name:
        collector.omit("without a classification")
    elif not geometry:
        collector.omit("without a geometry")
    else:
        shape = _shape(geometry)
        collector.add(class_name, shape.polygons, number, omitted_parts=shape.omitted, depth=depth)


def _object_type(properties: Items) -> str:
    """Return the type of an object; empty if it has none."""
    for key in TYPE_KEYS:
        if properties.get(key) is not None:
            return _text(properties[key], f"`{key}`")
    return ""


def _class_name(classification: object) -> str:
    """Return the name of a class; empty if there is none."""
    if isinstance(classification, str):
        return clean_class_name(classification)
    names: list[str] = []
    items = _mapping(classification, "`classification`")
    while items:
        names = [*_names(items), *names]
        items = _mapping(items.get("parentClass"), "`parentClass`")
    return clean_class_name(CLASS_SEPARATOR.join(names))


def _names(items: Items) -> list[str]:
    """Return `name`, or else `names`, of a classification, as QuPath does."""
    name, names = items.get("name"), items.get("names")
    if name is not None and (cleaned := clean_class_name(_text(name, "`name` of its class"))):
        return [cleaned]
    listed = [] if names is None else _list(names, "`names` of its class")
    parts = [clean_class_name(_text(part, "`names` of its class")) for part in listed]
    return [part for part in parts if part]


def _shape(geometry: Items) -> _Shape:
    """Return the polygons of a geometry, also of one that contains geometries."""
    shape = _Shape()
    pending: list[object] = [geometry]
    while pending:
        items = _mapping(pending.pop(), "a part of `geometry`")
        kind, coordinates = items.get("type"), items.get("coordinates")
        if kind == "Polygon":
            shape.polygons.append([ring_of(ring) for ring in _list(coordinates)])
        elif kind == "MultiPolygon":
            for polygon in _list(coordinates):
                shape.polygons.append([ring_of(ring) for ring in _list(polygon)])
        elif kind == "GeometryCollection":
            pending += _list(items.get("geometries"))[::-1]
        elif isinstance(kind, str) and kind in WITHOUT_AREA:
            shape.omitted.append(f"a {kind}, which has no area")
        else:
            raise ValueError(f"{shortened(kind)!r} is not a type of geometry")
    return shape


def _list(value: object, label: str = "its coordinates") -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{label}: not a list")
    return value


def _mapping(value: object, label: str) -> Items:
    """Return a JSON object; an empty one for null."""
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{label}: not a JSON object")
    return value or {}


def _text(value: object, label: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{label}: not a text")
    return value
