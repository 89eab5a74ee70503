"""Writes the tiles of a slide as GeoJSON that QuPath imports."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raysearch.inference.geojson_regions import TILE, feature_collection, geojson_feature
from raysearch.inference.image_rendering import class_color
from raysearch.search.tracking.served_model import SCORE_PREFIX

# Digits of a probability.
DECIMALS = 6


def tile_geojson(
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    side: tuple[float, float],
    probabilities: NDArray[np.float64],
    decided: NDArray[np.int64],
    labels: Sequence[str | None],
    class_names: Sequence[str],
) -> bytes:
    """Return the tiles of a slide as GeoJSON.

    Each tile has the class that is decided, the probabilities as measurements, except those that
    are not finite, and the true class, if it is known, as metadata.

    Args:
        xs: Left side of each tile in pixels of level 0, shape (N,).
        ys: Top side of each tile in pixels of level 0, shape (N,).
        side: Height and width of a tile in pixels of level 0.
        probabilities: Probability of each class, shape (N, C).
        decided: Number of the decided class of each tile, shape (N,).
        labels: Name of the true class of each tile; None if it is unknown.
        class_names: Names of the C classes.
    """
    features = []
    for row, (left, top) in enumerate(zip(xs.tolist(), ys.tolist(), strict=True)):
        predicted = int(decided[row])
        right, bottom = left + side[1], top + side[0]
        corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        scores = {
            f"{SCORE_PREFIX}{name}": round(float(value), DECIMALS)
            for name, value in zip(class_names, probabilities[row], strict=True)
        }
        geometry = json.dumps({"type": "Polygon", "coordinates": [corners]})
        color = class_color(predicted)
        metadata = {} if (label := labels[row]) is None else {"label": label}
        features.append(
            geojson_feature(
                TILE, geometry, class_names[predicted], color, scores, metadata=metadata
            )
        )
    return feature_collection(features)
