"""GeoJSON for QuPath: the published schema, the rules of RFC 7946, and what is written is read.

QuPath has no schema: the expected values of `objectType`, `classification` and `measurements` are
those of its source code.
"""

from __future__ import annotations

import itertools
import json
import math
import uuid
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import shapely

import support
from raysearch.data.files import Folder
from raysearch.data.slides.annotations import read_annotations
from raysearch.inference.geojson_regions import (
    TILE,
    OutputRegion,
    feature_collection,
    geojson_content,
    geojson_feature,
    write_geojson,
)
from support.annotation_files import square

RED = (200, 0, 0)
SCHEMA = json.loads((Path(support.__file__).parent / "geojson_schema.json").read_text())


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
    jsonschema.Draft7Validator(SCHEMA).validate(document)
    assert "crs" not in document
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
    ("change", "message"),
    [
        ({"type": "Features"}, "is not one of"),
        ({"features": [{"type": "Feature", "geometry": None}]}, "'properties' is a required"),
        ({"features": [{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon",
          "coordinates": [[[0, 0], [1, 1], [0, 0]]]}}]}, "is not valid under any"),
    ],
)  # fmt: skip
def test_the_schema_rejects_what_is_not_geojson(change: dict[str, object], message: str) -> None:
    document = json.loads(geojson_content(output_regions())) | change
    with pytest.raises(jsonschema.ValidationError, match=message):
        jsonschema.Draft7Validator(SCHEMA).validate(document)


def test_a_feature_has_what_qupath_reads() -> None:
    second = json.loads(geojson_content(output_regions()))["features"][1]
    assert list(second) == ["type", "id", "geometry", "properties"]
    assert second["properties"] == {
        "objectType": "annotation",
        "classification": {"name": "In situ: \u00e4", "color": [0, 128, 255]},
        "measurements": {},
    }


def test_a_color_may_be_of_numpy() -> None:
    color = np.array([1, 2, 255], np.uint8)
    content = geojson_content([OutputRegion("A", shapely.box(0, 0, 1, 1), color)])
    classification = json.loads(content)["features"][0]["properties"]["classification"]
    assert classification["color"] == [1, 2, 255]


def test_points_are_rounded_unless_a_part_or_a_hole_would_be_lost() -> None:
    box = shapely.box(0, 0, 10.00049, 10)
    speck = shapely.box(20, 20, 20.0001, 20.0001)
    hole = shapely.Polygon(square(0, 0, 9), [square(1, 1, 1e-4)])
    regions = [OutputRegion("A", each, RED) for each in (box, shapely.union(box, speck), hole)]
    document = json.loads(geojson_content(regions))
    rounded, with_speck, with_hole = (
        shapely.from_geojson(json.dumps(feature["geometry"])) for feature in document["features"]
    )
    assert rounded.bounds == (0, 0, 10, 10)
    assert with_speck.equals(regions[1].geometry)
    assert len(with_hole.interiors) == 1


def test_a_measurement_that_is_not_finite_is_left_out() -> None:
    feature = geojson_feature(TILE, "{}", "A", RED, {"score": math.nan, "other": 0.5})
    assert json.loads(feature_collection([feature]))["features"] == [
        {
            "type": "Feature",
            "geometry": {},
            "properties": {
                "objectType": "tile",
                "classification": {"name": "A", "color": list(RED)},
                "measurements": {"other": 0.5},
            },
        }
    ]


UNIT = shapely.box(0, 0, 1, 1)


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (
            OutputRegion("A", shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)]), RED),
            "region 2 of class 'A' is not a valid polygon",
        ),
        (OutputRegion("A", shapely.Polygon(), RED), "is not a valid polygon"),
        (OutputRegion("A", shapely.box(0, 0, 1e-5, 1e-5), RED), "is not a valid polygon"),
        (OutputRegion("A", UNIT, (0, 0, 256)), "is not red, green and blue"),
        (OutputRegion("A", UNIT, (0, -1, 25)), "is not red, green and blue"),
        (OutputRegion("A", UNIT, (0, 0)), "is not red, green and blue"),
        (OutputRegion("A", UNIT, (0, 0, 1.5)), "is not red, green and blue"),  # type: ignore[arg-type]
        (OutputRegion(" ", UNIT, RED), "without a class name"),
    ],
)
def test_a_region_that_is_not_valid_writes_nothing(
    tmp_path: Path, region: OutputRegion, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        write_geojson(Folder(tmp_path), "a.geojson", [*output_regions(), region])
    assert list(tmp_path.iterdir()) == []
