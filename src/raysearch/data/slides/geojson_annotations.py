"""Reads GeoJSON, as QuPath exports it: features of objects with a classification.

QuPath writes a FeatureCollection, a list of features, or one feature. The class of an object is
`properties.classification`: an object with `name`, `names` (a derived class such as
`Tumor: Positive`) or the older `name` and `parentClass`, or a text. Objects of a hierarchy contain
others in `properties.childObjects`. Only annotations are regions: detections, cells and tiles are
results of an analysis, and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from unicodedata import normalize

from raysearch.data.slides.annotated_regions import (
    RegionCollector,
    Rings,
    SlideAnnotations,
    ring_of,
)
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
# The keys of a JSON object are texts: `_items` reads any other object as one without keys.
Items = dict[object, object]


def parse_geojson(content: bytes, path: str) -> SlideAnnotations:
    """Read the annotations of a GeoJSON file.

    Args:
        content: The file.
        path: Its name, for messages.

    Raises:
        DataError: If it is not GeoJSON, is nested too deep, or a polygon has no pairs of finite
            numbers.
    """
    collector = RegionCollector(path, "feature")
    for number, feature in enumerate(_all_features(_features(_parse(content, path), path)), 1):
        try:
            _read_feature(feature, number, collector)
        except ValueError as error:
            raise collector.error(number, f"{error}; export the annotations again") from None
    return collector.annotations()


def _parse(content: bytes, path: str) -> object:
    """Parse JSON. QuPath writes NaN for a measurement without a value, so NaN is accepted."""
    try:
        return json.loads(content.decode("utf-8-sig"))
    except RecursionError:
        reason = "it is nested too deep"
    except ValueError as error:
        reason = first_line(error)
    raise DataError(f"{path}: not GeoJSON ({reason}); export the annotations again")


def _features(document: object, path: str) -> list[object]:
    if isinstance(document, list):
        return document
    kind = _items(document).get("type")
    if kind == "Feature":
        return [document]
    features = _items(document).get("features")
    if kind == "FeatureCollection" and isinstance(features, list):
        return features
    raise DataError(
        f"{path}: not GeoJSON of annotations; it is a FeatureCollection, a list of features, or a"
        " feature: export the annotations from QuPath as GeoJSON"
    )


def _all_features(features: list[object]) -> Iterator[object]:
    """Yield features and the objects that they contain."""
    pending = features[::-1]
    while pending:
        feature = pending.pop()
        yield feature
        properties = _items(_items(feature).get("properties"))
        for key in CHILDREN_KEYS:
            children = properties.get(key)
            if isinstance(children, list):
                pending += children[::-1]


def _read_feature(feature: object, number: int, collector: RegionCollector) -> None:
    items = _items(feature)
    if items.get("type") != "Feature":
        raise ValueError("not a feature (`type` is not `Feature`)")
    properties = _items(items.get("properties"))
    kind = next((properties[key] for key in TYPE_KEYS if key in properties), items.get("id"))
    if isinstance(kind, str) and kind in OTHER_TYPES:
        collector.omit(f"{OTHER_TYPES[kind]}, not an annotation")
        return
    class_name = _class_name(properties.get("classification"))
    if not class_name:
        collector.omit("without a classification")
        return
    polygons = list(_polygons(items.get("geometry"), collector))
    if polygons:
        collector.add(class_name, polygons, number)


def _class_name(classification: object) -> str:
    """Return the name of a class; empty if there is none."""
    if isinstance(classification, str):
        return _clean(classification)
    names: list[object] = []
    items = _items(classification)
    listed = items.get("names")
    if isinstance(listed, list):
        names, items = listed, {}
    while items:
        names.insert(0, items.get("name"))
        items = _items(items.get("parentClass"))
    return CLASS_SEPARATOR.join(filter(None, map(_clean, names)))


def _clean(name: object) -> str:
    return " ".join(normalize("NFC", name).split()) if isinstance(name, str) else ""


def _polygons(geometry: object, collector: RegionCollector) -> Iterator[Rings]:
    """Yield the rings of the polygons of a geometry, also of one that contains geometries."""
    pending = [geometry]
    while pending:
        items = _items(pending.pop())
        kind, coordinates = items.get("type"), items.get("coordinates")
        if kind == "Polygon":
            yield [ring_of(ring) for ring in _list(coordinates)]
        elif kind == "MultiPolygon":
            for polygon in _list(coordinates):
                yield [ring_of(ring) for ring in _list(polygon)]
        elif kind == "GeometryCollection":
            pending += _list(items.get("geometries"))[::-1]
        elif isinstance(kind, str) and kind in WITHOUT_AREA:
            collector.omit(f"a {kind}, which has no area")
        elif items:
            raise ValueError(f"{shortened(kind)!r} is not a type of geometry")
        else:
            collector.omit("without a geometry")


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("its coordinates are not a list")
    return value


def _items(value: object) -> Items:
    return value if isinstance(value, dict) else {}
