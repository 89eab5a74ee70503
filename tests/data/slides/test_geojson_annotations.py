"""GeoJSON of QuPath: each way that it writes objects, and what is wrong with a file."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from raysearch.data.slides import annotated_regions
from raysearch.data.slides.geojson_annotations import parse_geojson
from raysearch.errors import DataError
from support.annotation_files import collection, feature, polygon, square

UNIT = polygon(square(0, 0, 1))


def areas(content: bytes) -> dict[str, float]:
    """Return the summed area of each class."""
    sums: dict[str, float] = {}
    for region in parse_geojson(content, "a.geojson").regions:
        sums[region.class_name] = sums.get(region.class_name, 0) + region.geometry.area
    return sums


@pytest.mark.parametrize("form", ["collection", "list", "feature"])
def test_a_collection_a_list_and_a_feature_are_read(form: str) -> None:
    item = feature(polygon(square(10, 20, 100), square(30, 40, 10)))
    documents = {
        "collection": {"type": "FeatureCollection", "features": [item]},
        "list": [item],
        "feature": item,
    }
    assert areas(json.dumps(documents[form]).encode()) == {"Tumor": 9900}


def test_a_multipolygon_with_holes_is_one_region() -> None:
    geometry = {
        "type": "MultiPolygon",
        "coordinates": [
            [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]], [[1, 1], [2, 1], [2, 2], [1, 1]]],
            [[[20, 0], [30, 0], [30, 10], [20, 0]]],
        ],
    }
    annotations = parse_geojson(collection(feature(geometry)), "a.geojson")
    assert [region.geometry.area for region in annotations.regions] == [100 - 0.5 + 50]
    assert annotations.regions[0].valid
    assert annotations.warnings == ()


@pytest.mark.parametrize(
    ("classification", "name"),
    [
        ({"name": "Tumor", "color": [200, 0, 0]}, "Tumor"),
        ({"name": "Tumor", "colorRGB": -3670016}, "Tumor"),
        ("Tumor", "Tumor"),
        ({"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, "Tumor: Positive"),
        ({"name": "Positive", "parentClass": {"name": "Tumor"}, "colorRGB": 1}, "Tumor: Positive"),
        ({"name": "Tumor", "parentClass": None}, "Tumor"),
        ({"name": "C", "parentClass": {"name": "B", "parentClass": {"name": "A"}}}, "A: B: C"),
        ({"name": "Tumor", "names": []}, "Tumor"),
        ({"name": None, "names": ["Tumor"]}, "Tumor"),
        ({"name": "Tumor", "names": ["Stroma", "Positive"]}, "Tumor"),  # as QuPath reads it
        ({"name": "  In  situ "}, "In situ"),
        ({"name": "Ka\u0308se"}, "K\u00e4se"),
        ({"name": "Ignore*"}, "Ignore*"),
    ],
)
def test_the_class_is_read_from_each_kind_of_classification(
    classification: object, name: str
) -> None:
    item = feature(UNIT, None, classification=classification)
    assert areas(collection(item)) == {name: 1}


@pytest.mark.parametrize(
    "classification", [None, {}, "", {"name": None}, {"names": []}, {"name": " "}]
)
def test_features_without_a_class_are_counted_and_left_out(classification: object) -> None:
    item = feature(UNIT, None, classification=classification)
    annotations = parse_geojson(collection(item, item, feature(UNIT)), "a.geojson")
    assert len(annotations.regions) == 1
    assert annotations.warnings == ("a.geojson: 2 features left out: without a classification",)


def test_objects_inside_of_objects_are_read() -> None:
    """QuPath nests the objects of a hierarchy in the properties of their parents."""
    grandchild = feature(polygon(square(2, 2, 2)), "Necrosis")
    child = feature(polygon(square(0, 0, 5)), "Tumor", childObjects=[grandchild])
    parent = feature(polygon(square(0, 0, 100)), None, childObjects=[child])
    annotations = parse_geojson(collection(parent), "a.geojson")
    assert areas(collection(parent)) == {"Tumor": 25, "Necrosis": 4}
    assert [region.depth for region in annotations.regions] == [1, 2]
    assert len(annotations.warnings) == 1


def test_detections_cells_and_tiles_are_no_annotations() -> None:
    kinds = ["detection", "cell", "cell", "tile", "tmaCore"]
    items = [feature(UNIT, objectType=kind) for kind in kinds]
    legacy = {"type": "Feature", "id": "PathCellObject", "geometry": UNIT,
              "properties": {"classification": {"name": "Tumor"}}}  # fmt: skip
    annotations = parse_geojson(collection(*items, legacy, feature(UNIT)), "a.geojson")
    assert len(annotations.regions) == 1
    assert annotations.warnings == (
        "a.geojson: 1 feature left out: a TMA core, not an annotation",
        "a.geojson: 3 features left out: a cell, not an annotation",
        "a.geojson: 1 feature left out: a detection, not an annotation",
        "a.geojson: 1 feature left out: a tile, not an annotation",
    )


def test_a_feature_of_no_type_is_an_annotation() -> None:
    item = {"type": "Feature", "geometry": UNIT, "properties": {"classification": "Tumor"}}
    assert areas(collection(item)) == {"Tumor": 1}


def test_points_and_lines_are_left_out_also_of_nested_collections() -> None:
    point = {"type": "Point", "coordinates": [1, 2]}
    line = {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}
    inner = {"type": "GeometryCollection", "geometries": [UNIT, point]}
    outer = {"type": "GeometryCollection", "geometries": [inner, polygon(square(5, 5, 2))]}
    items = [feature(point), feature(line), feature(outer), feature(None)]
    annotations = parse_geojson(collection(*items), "a.geojson")
    assert [region.geometry.area for region in annotations.regions] == [5]
    assert annotations.warnings == (
        "a.geojson: 1 feature left out: a LineString, which has no area",
        "a.geojson: 1 feature left out: a Point, which has no area",
        "a.geojson: 1 feature left out: without a geometry",
        "a.geojson: 1 feature with parts left out: a Point, which has no area",
    )


def test_a_feature_counts_once_however_many_points_it_has() -> None:
    points = [{"type": "Point", "coordinates": [n, n]} for n in range(100)]
    line = {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}
    mixed = {"type": "GeometryCollection", "geometries": [UNIT, *points]}
    flat = {"type": "GeometryCollection", "geometries": [*points, line]}
    annotations = parse_geojson(collection(feature(mixed), feature(flat)), "a.geojson")
    assert [region.geometry.area for region in annotations.regions] == [1]
    assert annotations.warnings == (
        "a.geojson: 1 feature left out: a LineString, which has no area; a Point, which has no"
        " area",
        "a.geojson: 1 feature with parts left out: a Point, which has no area",
    )


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[]]},
        {"type": "MultiPolygon", "coordinates": []},
        {"type": "MultiPolygon", "coordinates": [[]]},
        {"type": "GeometryCollection", "geometries": []},
        polygon([(0, 0), (1, 1)]),
        polygon([(0, 0), (1, 1), (0, 0)]),
    ],
)
def test_an_empty_geometry_is_counted_and_left_out(geometry: object) -> None:
    annotations = parse_geojson(collection(feature(UNIT), feature(geometry)), "a.geojson")
    assert len(annotations.regions) == 1
    assert annotations.warnings == (
        "a.geojson: 1 feature left out: a polygon without area (feature 2)",
    )


@pytest.mark.parametrize(
    "geometry",
    [
        polygon(square(0, 0, 2), [(1, 1), (1.5, 1.5)]),
        {"type": "MultiPolygon", "coordinates": [
            [[[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]], [[[5, 5], [6, 6], [5, 5]]],
        ]},
    ],
)  # fmt: skip
def test_parts_and_holes_of_two_points_are_counted(geometry: object) -> None:
    annotations = parse_geojson(collection(feature(geometry)), "a.geojson")
    assert [region.geometry.area for region in annotations.regions] == [4]
    assert annotations.warnings == (
        "a.geojson: 1 feature with parts left out: a ring of fewer than 3 points",
    )


def test_a_measurement_without_a_value_is_no_error() -> None:
    """QuPath writes NaN, which is not JSON."""
    item = feature(UNIT, measurements={"Solidity": float("nan")})
    assert b"NaN" in collection(item)
    assert areas(collection(item)) == {"Tumor": 1}


def test_a_polygon_that_crosses_itself_is_repaired_with_a_warning() -> None:
    eight = polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    annotations = parse_geojson(collection(feature(UNIT), feature(eight)), "a.geojson")
    assert [region.valid for region in annotations.regions] == [True, False]
    assert annotations.regions[1].geometry.area == 50
    assert annotations.warnings == (
        "a.geojson: 1 feature repaired: a polygon that crosses or touches itself (feature 2)",
    )


def broken(geometry: object) -> bytes:
    return collection(feature(UNIT), feature(geometry))


def classified(classification: object) -> bytes:
    return collection(feature(UNIT), feature(UNIT, None, classification=classification))


NAN_RING = [[0, 0], [float("nan"), 0], [1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not GeoJSON"),
        (b'{"type": "FeatureCollection", "features": [', "not GeoJSON"),
        (b"\xff\xfe\x00", "not GeoJSON"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"features": ' * 100_000, "nested too deep"),
        (b"3", "not GeoJSON of annotations"),
        (b"{}", "not GeoJSON of annotations"),
        (b'{"type": "FeatureCollection", "features": 3}', "not GeoJSON of annotations"),
        (b'{"type": "Topology", "objects": {}}', "not GeoJSON of annotations"),
        (b"[1" + b"0" * 5000 + b"]", "not GeoJSON"),
        (b'[{"type": "Polygon"}]', "feature 1: not a feature"),
        (b"[3]", "feature 1: not a feature"),
        (broken({"type": "Polygon", "coordinates": [NAN_RING]}), "feature 2: the coordinate nan"),
        (broken({"type": "Polygon", "coordinates": 3}), "feature 2: its coordinates: not a list"),
        (broken({"type": "Polygon", "coordinates": [3]}), "feature 2: the points"),
        (broken({"type": "MultiPolygon", "coordinates": [3]}), "feature 2: its coordinates"),
        (broken({"type": "Polygon"}), "feature 2: its coordinates"),
        (broken({"type": "GeometryCollection", "geometries": {}}), "feature 2: its coordinates"),
        (broken({"type": "Circle"}), "feature 2: 'Circle' is not a type"),
        (broken({"type": []}), "feature 2: '[]' is not a type"),
        (broken("POLYGON"), "feature 2: `geometry`: not a JSON object"),
        (broken([UNIT]), "feature 2: `geometry`: not a JSON object"),
        (broken({"type": "GeometryCollection", "geometries": [3]}), "feature 2: a part of"),
        (classified(3), "feature 2: `classification`: not a JSON object"),
        (classified(["Tumor"]), "feature 2: `classification`: not a JSON object"),
        (classified({"name": 3}), "feature 2: `name` of its class: not a text"),
        (classified({"name": False}), "feature 2: `name` of its class: not a text"),
        (classified({"names": [5, "Positive"]}), "feature 2: `names` of its class: not a text"),
        (classified({"names": "Tumor"}), "feature 2: `names` of its class: not a list"),
        (
            classified({"name": "Positive", "parentClass": "Tumor"}),
            "feature 2: `parentClass`: not a JSON object",
        ),
        (classified("a\x00b"), "feature 2: the class name 'a\\x00b' has a control"),
        (classified({"name": "\ud800"}), "feature 2: the class name '\\ud800' has"),
        (classified({"names": ["a" * 150, "b" * 150]}), "has 302 characters, at most 200"),
        (
            collection(feature(UNIT), {"type": "Feature", "geometry": UNIT, "properties": [1]}),
            "feature 2: `properties`: not a JSON object",
        ),
        (collection(feature(UNIT, objectType=3)), "feature 1: `objectType`: not a text"),
        (collection(feature(UNIT, childObjects={"a": 1})), "feature 1: `childObjects`: not a list"),
        (collection(feature(UNIT, childObjects=[3])), "feature 2: not a feature"),
        (broken(polygon(square(0, 0, 1e12))), "feature 2: the coordinate 1000000000000.0"),
    ],
)
def test_each_broken_file_is_rejected_in_one_line(content: bytes, reason: str) -> None:
    with pytest.raises(DataError) as error:
        parse_geojson(content, "b/a.geojson")
    message = str(error.value)
    assert message.startswith("b/a.geojson: ")
    assert reason in message
    assert "\n" not in message
    assert len(message) < 400


def test_a_scribble_is_rejected_by_its_number() -> None:
    points = [(x, y) for x, y in np.random.default_rng(0).uniform(0, 1000, (2_000, 2)).tolist()]
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"^a.geojson: feature 2: its polygons .* crossings"):
        parse_geojson(broken(polygon(points)), "a.geojson")
    assert time.perf_counter() - start < 5  # .3 s; a repair takes 24 s


def test_the_crossings_of_a_file_have_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotated_regions, "MAX_CROSSINGS", 2)
    eight = feature(polygon([(0, 0), (10, 10), (10, 0), (0, 10)]))
    assert len(parse_geojson(collection(eight, eight), "a").regions) == 2
    with pytest.raises(DataError, match=r"^a: feature 3: its polygons cannot be repaired"):
        parse_geojson(collection(eight, eight, eight), "a")


def test_a_file_with_too_many_values_or_points_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(annotated_regions, "MAX_POINTS", 9)
    with pytest.raises(DataError, match=r"^a: more than 9 points of polygons; export the"):
        parse_geojson(collection(feature(UNIT), feature(UNIT)), "a")
    monkeypatch.setattr(annotated_regions, "MAX_VALUES", 1000)
    with pytest.raises(DataError, match=r"^a: more than 1,000 values; export the annotations wi"):
        parse_geojson(b"[" + b"[]," * 501 + b"[]]", "a")
