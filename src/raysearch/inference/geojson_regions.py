"""Writes regions and tiles as GeoJSON (RFC 7946) that QuPath imports.

QuPath reads a FeatureCollection whose features have `objectType`, `classification` with `name` and
`color`, and `measurements`, a number for each name. The coordinates are pixels of level 0, not the
degrees of a map.
"""

from __future__ import annotations

import json
import math
import operator
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, SupportsIndex

from raysearch.data.files import Folder

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon

# The identifier of a feature is derived from its number, class and outline: the same regions have
# the same identifiers in each file.
NAMESPACE = uuid.UUID("7d3ad5e8-0d0b-5c3f-9d38-3a4d3ab4a7f1")
# Digits of a pixel in coordinates.
DECIMALS = 3
ANNOTATION, TILE = "annotation", "tile"


@dataclass(frozen=True)
class OutputRegion:
    """A region for a viewer.

    Attributes:
        class_name: Its class.
        geometry: Its polygons, with holes, in pixels of level 0.
        color: The red, green and blue of its class: integers of 0 to 255, also of NumPy.
        measurements: Numbers by name; those that are not finite are left out.
    """

    class_name: str
    geometry: Polygon | MultiPolygon
    color: Iterable[SupportsIndex]
    measurements: Mapping[str, float] = field(default_factory=dict)


def geojson_content(regions: Sequence[OutputRegion]) -> bytes:
    """Return regions as a GeoJSON file.

    Rings are closed; outer ones are counterclockwise and holes clockwise, as RFC 7946 demands. The
    points are rounded to DECIMALS, unless a part or a hole of the region would be lost.

    Raises:
        ValueError: If a region has no area or no class, crosses itself, or has a color other than
            integers of 0 to 255.
    """
    return feature_collection(
        [_region_feature(region, number) for number, region in enumerate(regions)]
    )


def write_geojson(folder: Folder, name: str, regions: Sequence[OutputRegion]) -> None:
    """Write regions as the GeoJSON file `name`, completely or not at all.

    Raises:
        ValueError: As for `geojson_content`; nothing is written.
    """
    folder.write(name, geojson_content(regions))


def feature_collection(features: Sequence[str]) -> bytes:
    """Return features, each in JSON, as a GeoJSON file with one in each line."""
    lines = ",\n".join(features)
    return f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n'.encode()


def geojson_feature(
    object_type: str,
    geometry: str,
    class_name: str,
    color: Iterable[SupportsIndex],
    measurements: Mapping[str, float],
    *,
    metadata: Mapping[str, str] | None = None,
    identifier: str | None = None,
) -> str:
    """Return a feature of QuPath, in JSON.

    Args:
        object_type: ANNOTATION or TILE.
        geometry: Its geometry, in GeoJSON.
        class_name: Its class.
        color: The red, green and blue of its class, integers of 0 to 255.
        measurements: Numbers by name; those that are not finite are left out.
        metadata: Texts by name; None leaves them out.
        identifier: Its UUID; None leaves it out.

    Raises:
        ValueError: If the class is blank, or the color is none.
    """
    if not class_name.strip():
        raise ValueError("a region without a class name; give each region a class")
    properties = {
        "objectType": object_type,
        "classification": {"name": class_name, "color": _checked_color(color)},
        "measurements": {
            key: float(value) for key, value in measurements.items() if math.isfinite(value)
        },
        **({} if metadata is None else {"metadata": metadata}),
    }
    head = "" if identifier is None else f'"id": {json.dumps(identifier)}, '
    text = json.dumps(properties, allow_nan=False)
    return f'{{"type": "Feature", {head}"geometry": {geometry}, "properties": {text}}}'


def _checked_color(color: Iterable[SupportsIndex]) -> list[int]:
    try:
        channels = [operator.index(channel) for channel in color]
    except TypeError:
        channels = []
    if len(channels) != 3 or not all(0 <= channel <= 255 for channel in channels):
        raise ValueError(f"the color {color} is not red, green and blue, integers of 0 to 255")
    return channels


def _region_feature(region: OutputRegion, number: int) -> str:
    import shapely
    from shapely.geometry import mapping

    geometry = _rounded(region.geometry)
    if geometry is None:
        raise ValueError(f"region {number} of class {region.class_name!r} is not a valid polygon")
    oriented = shapely.orient_polygons(geometry, exterior_cw=False)
    outline = shapely.to_wkb(oriented, hex=True, byte_order=1)
    return geojson_feature(
        ANNOTATION,
        json.dumps(mapping(oriented), allow_nan=False),
        region.class_name,
        region.color,
        region.measurements,
        identifier=str(uuid.uuid5(NAMESPACE, f"{number} {region.class_name} {outline}")),
    )


def _rounded(geometry: Polygon | MultiPolygon) -> Polygon | MultiPolygon | None:
    """Return valid polygons with rounded points; None if they are not valid or have no area."""
    import shapely

    if not shapely.is_valid(geometry):
        return None
    # Plain rounding of the points could let a boundary touch itself.
    rounded = shapely.set_precision(geometry, 10.0**-DECIMALS)
    if shapely.area(rounded) <= 0:
        return None
    num_rings = [len(shapely.get_rings(shapely.get_parts(each))) for each in (rounded, geometry)]
    result: Polygon | MultiPolygon = rounded if num_rings[0] == num_rings[1] else geometry
    return result
