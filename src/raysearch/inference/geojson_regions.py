"""Writes regions as GeoJSON (RFC 7946) that QuPath imports: annotations with class and color.

QuPath reads a FeatureCollection whose features have `objectType`, `classification` with `name` and
`color`, and `measurements`, a number for each name. The coordinates are pixels of level 0, not the
degrees of a map.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raysearch.data.files import Folder

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon

# The identifiers of features are derived from their number and outline.
NAMESPACE = uuid.UUID("7d3ad5e8-0d0b-5c3f-9d38-3a4d3ab4a7f1")
# Digits of a pixel in coordinates.
DECIMALS = 3


@dataclass(frozen=True)
class OutputRegion:
    """A region for a viewer.

    Attributes:
        class_name: Its class.
        geometry: Its polygons, with holes, in pixels of level 0.
        color: The red, green and blue of its class, 0 to 255.
        measurements: Numbers by name; those that are not finite are left out.
    """

    class_name: str
    geometry: Polygon | MultiPolygon
    color: tuple[int, int, int]
    measurements: Mapping[str, float] = field(default_factory=dict)


def geojson_content(regions: Sequence[OutputRegion]) -> bytes:
    """Return regions as a GeoJSON file.

    Rings are closed; outer ones are counterclockwise and holes clockwise, as RFC 7946 demands.

    Raises:
        ValueError: If a region has no area, crosses itself, or has a color outside of 0 to 255.
    """
    features = [_feature(region, number) for number, region in enumerate(regions)]
    lines = ",\n".join(json.dumps(feature, allow_nan=False) for feature in features)
    return f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n'.encode()


def write_geojson(folder: Folder, name: str, regions: Sequence[OutputRegion]) -> None:
    """Write regions as the GeoJSON file `name`, completely or not at all.

    Raises:
        ValueError: As for `geojson_content`; nothing is written.
    """
    folder.write(name, geojson_content(regions))


def _feature(region: OutputRegion, number: int) -> object:
    import shapely

    is_valid = bool(shapely.is_valid(region.geometry))
    # Plain rounding of the points could let a boundary touch itself.
    geometry = shapely.set_precision(region.geometry, 10.0**-DECIMALS) if is_valid else None
    if geometry is None or shapely.area(geometry) <= 0:
        raise ValueError(f"region {number} of class {region.class_name!r} is not a valid polygon")
    if len(region.color) != 3 or not all(0 <= value <= 255 for value in region.color):
        raise ValueError(f"the color {region.color} is not red, green and blue of 0 to 255")
    oriented = shapely.orient_polygons(geometry, exterior_cw=False)
    mapping = json.loads(shapely.to_geojson(oriented))
    outline = json.dumps([number, region.class_name, mapping])
    classification = {"name": region.class_name, "color": list(region.color)}
    measurements = {
        key: float(value) for key, value in region.measurements.items() if math.isfinite(value)
    }
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(NAMESPACE, outline)),
        "geometry": mapping,
        "properties": {
            "objectType": "annotation",
            "classification": classification,
            "measurements": measurements,
        },
    }
