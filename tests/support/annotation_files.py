"""Annotations as QuPath and ASAP write them, after their documentation."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = Sequence[tuple[float, float]]


def square(left: float, top: float, side: float) -> list[tuple[float, float]]:
    """Return the corners of a square."""
    right, bottom = left + side, top + side
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def closed(points: Points) -> list[list[float]]:
    """Return the points of a ring of GeoJSON."""
    return [list(point) for point in (*points, points[0])]


def polygon(*rings: Points) -> object:
    """Return a polygon of GeoJSON: its boundary, and its holes."""
    return {"type": "Polygon", "coordinates": [closed(ring) for ring in rings]}


def feature(geometry: object, class_name: object = "Tumor", **properties: object) -> object:
    """Return a feature of QuPath; `class_name` is its classification if it is no text."""
    classification = (
        {"name": class_name, "color": [200, 0, 0]} if isinstance(class_name, str) else class_name
    )
    return {
        "type": "Feature",
        "id": "5b7c0a3e-33a1-4d2f-8f3f-0f3a5c6b7d8e",
        "geometry": geometry,
        "properties": {
            "objectType": "annotation",
            "classification": classification,
            **properties,
        },
    }


def collection(*features: object) -> bytes:
    """Return a FeatureCollection."""
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def asap_annotation(points: Points, group: str = "Tumor", kind: str = "Polygon") -> str:
    """Return an annotation of ASAP."""
    coordinates = "".join(
        f'<Coordinate Order="{order}" X="{x}" Y="{y}" />' for order, (x, y) in enumerate(points)
    )
    return (
        f'<Annotation Name="Annotation 0" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f"<Coordinates>{coordinates}</Coordinates></Annotation>"
    )


def asap_file(*annotations: str) -> bytes:
    """Return a file of ASAP."""
    return (
        '<?xml version="1.0"?>\n<ASAP_Annotations><Annotations>'
        f"{''.join(annotations)}</Annotations><AnnotationGroups>"
        '<Group Name="Tumor" PartOfGroup="None" Color="#64FE2E"><Attributes /></Group>'
        "</AnnotationGroups></ASAP_Annotations>"
    ).encode()


def noisy_circle(num_points: int, spacing: float, noise: float = 1.0) -> NDArray[np.float64]:
    """Return a circle of points on whole pixels, shape (points, 2).

    Args:
        num_points: Its points.
        spacing: The distance between them, in pixels.
        noise: How far they are moved, in pixels.
    """
    angles = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    radius = num_points * spacing / (2 * np.pi)
    points = radius * np.column_stack([np.cos(angles), np.sin(angles)])
    moved = points + np.random.default_rng(0).uniform(-noise, noise, points.shape)
    return np.asarray(np.round(moved), np.float64)
