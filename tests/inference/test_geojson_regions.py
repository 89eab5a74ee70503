"""GeoJSON for QuPath: the rules of RFC 7946, and what is written is read back."""

from __future__ import annotations

import itertools
import json
import math
import uuid
from pathlib import Path

import jsonschema
import pytest
import shapely

from raysearch.data.files import Folder
from raysearch.data.slides.annotations import read_annotations
from raysearch.inference.geojson_regions import OutputRegion, geojson_content, write_geojson
from support.annotation_files import square

RED = (200, 0, 0)
RING = {
    "type": "array",
    "minItems": 4,
    "items": {"type": "array", "minItems": 2, "maxItems": 3, "items": {"type": "number"}},
}
POLYGON = {"type": "array", "minItems": 1, "items": RING}
# RFC 7946, sections 3.1.6 to 3.3, and the properties that QuPath reads.
SCHEMA = {
    "type": "object",
    "required": ["type", "features"],
    "not": {"required": ["crs"]},
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "geometry", "properties"],
                "not": {"anyOf": [{"required": ["coordinates"]}, {"required": ["features"]}]},
                "properties": {
                    "type": {"const": "Feature"},
                    "id": {"type": "string"},
                    "geometry": {
                        "required": ["type", "coordinates"],
                        "oneOf": [
                            {"properties": {"type": {"const": "Polygon"}, "coordinates": POLYGON}},
                            {
                                "properties": {
                                    "type": {"const": "MultiPolygon"},
                                    "coordinates": {"type": "array", "items": POLYGON},
                                }
                            },
                        ],
                    },
                    "properties": {
                        "type": "object",
                        "required": ["objectType", "classification", "measurements"],
                        "properties": {
                            "objectType": {"const": "annotation"},
                            "classification": {
                                "required": ["name", "color"],
                                "properties": {
                                    "name": {"type": "string", "minLength": 1},
                                    "color": {
                                        "type": "array",
                                        "minItems": 3,
                                        "maxItems": 3,
                                        "items": {"type": "integer", "minimum": 0, "maximum": 255},
                                    },
                                },
                            },
                            "measurements": {"additionalProperties": {"type": "number"}},
                        },
                    },
                },
            },
        },
    },
}


def output_regions() -> list[OutputRegion]:
    ring = shapely.Polygon(square(0, 0, 30), [square(10, 10, 10)])
    parts = shapely.MultiPolygon([shapely.box(50, 0, 60, 10), shapely.box(70, 0, 75, 5)])
    return [
        OutputRegion("Tumor", ring, RED, {"Probability": 0.75, "Undefined": math.nan}),
        OutputRegion("In situ: \u00e4", parts, (0, 128, 255)),
    ]


def signed_area(ring: list[list[float]]) -> float:
    pairs = itertools.pairwise(ring)
    return sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairs) / 2


def test_the_file_follows_the_schema_and_the_right_hand_rule() -> None:
    document = json.loads(geojson_content(output_regions()))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    rings: list[list[list[list[float]]]] = []
    for feature in document["features"]:
        coordinates = feature["geometry"]["coordinates"]
        rings += coordinates if feature["geometry"]["type"] == "MultiPolygon" else [coordinates]
    assert len(rings) == 3
    for shell, *holes in rings:
        assert shell[0] == shell[-1]
        assert signed_area(shell) > 0
        for hole in holes:
            assert hole[0] == hole[-1]
            assert signed_area(hole) < 0
    assert signed_area(rings[0][1]) == -100


def test_regions_are_read_back_with_class_and_area(tmp_path: Path) -> None:
    write_geojson(Folder(tmp_path), "a.geojson", output_regions())
    annotations = read_annotations(str(tmp_path / "a.geojson"))
    assert annotations.warnings == ()
    for region, original in zip(annotations.regions, output_regions(), strict=True):
        assert region.class_name == original.class_name
        assert region.geometry.equals(original.geometry)
        assert region.valid


def test_features_have_the_measurements_the_color_and_stable_identifiers() -> None:
    first, second = json.loads(geojson_content(output_regions()))["features"]
    assert first["properties"]["measurements"] == {"Probability": 0.75}
    assert second["properties"]["classification"] == {
        "name": "In situ: \u00e4",
        "color": [0, 128, 255],
    }
    assert first["id"] != second["id"]
    uuid.UUID(first["id"])
    assert geojson_content(output_regions()) == geojson_content(output_regions())


def test_a_file_without_regions_is_valid() -> None:
    document = json.loads(geojson_content([]))
    assert document == {"type": "FeatureCollection", "features": []}


@pytest.mark.parametrize(
    "region",
    [
        OutputRegion("A", shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)]), RED),
        OutputRegion("A", shapely.Polygon(), RED),
        OutputRegion("A", shapely.box(0, 0, 1e-5, 1e-5), RED),
        OutputRegion("A", shapely.box(0, 0, 1, 1), (0, 0, 256)),
    ],
)
def test_a_region_that_is_not_valid_writes_nothing(tmp_path: Path, region: OutputRegion) -> None:
    with pytest.raises(ValueError, match=r"not a valid polygon|is not red, green and blue"):
        write_geojson(Folder(tmp_path), "a.geojson", [*output_regions(), region])
    assert list(tmp_path.iterdir()) == []
