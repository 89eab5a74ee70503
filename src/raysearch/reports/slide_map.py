"""Patches put back where they were cut from: maps of a slide, and what other programs open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.errors import DataError
from raysearch.inference.image_rendering import Floats, Image, viridis

# A map is not larger on either side.
LARGEST = 1400
WHITE = 255
STRENGTH = 0.5
# Who was missed, and who was taken for one: told apart by the cross, too.
MISSED, ALARM = (200, 30, 30), (20, 80, 200)


@dataclass(frozen=True)
class SlideMap:
    """A slide of patches: `image` uint8 (H, W, 3), the left and top of each patch in it (N,).

    `side` is a patch's height and width in it, `scale` how many pixels of the slide are one of it.
    """

    image: Image
    lefts: NDArray[np.int64]
    tops: NDArray[np.int64]
    side: tuple[int, int]
    scale: int


def stitched(pixels: Image, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> SlideMap:
    """The patches (N, H, W, 3) at their places `xs`, `ys` (N,) in pixels, on white.

    Places count from 1 or 0, as they come: the smallest of each is at the edge. DataError where one
    is not known.
    """
    if not len(xs) or not (np.isfinite(xs) & np.isfinite(ys)).all():
        raise DataError("a slide's map needs the place of every patch: x and y are not known here")
    height, width = pixels.shape[1:3]
    lefts, tops = ((one - one.min()).astype(np.int64) for one in (xs, ys))
    whole = max(int(lefts.max()) + width, int(tops.max()) + height)
    scale = min(max(1, -(-whole // LARGEST)), height, width)
    side = (max(1, height // scale), max(1, width // scale))
    lefts, tops = lefts * side[1] // width, tops * side[0] // height
    image = np.full((int(tops.max()) + side[0], int(lefts.max()) + side[1], 3), WHITE, np.uint8)
    for patch, left, top in zip(pixels, lefts.tolist(), tops.tolist(), strict=True):
        small = cv2.resize(patch, (side[1], side[0]), interpolation=cv2.INTER_AREA)
        image[top : top + side[0], left : left + side[1]] = small
    return SlideMap(image, lefts, tops, side, scale)


def heat_map(found: SlideMap, values: Floats) -> Image:
    """The map under the colours of `values` (N,) a patch, or (N, h, w) over it, from 0 to 1."""
    image = found.image.copy()
    height, width = found.side
    for place, (left, top) in enumerate(
        zip(found.lefts.tolist(), found.tops.tolist(), strict=True)
    ):
        here = image[top : top + height, left : left + width]
        own = np.asarray(values[place], np.float32)
        spread = np.full((height, width), own) if own.ndim == 0 else _fitted(own, (width, height))
        here[:] = cv2.addWeighted(here, 1 - STRENGTH, viridis(spread), STRENGTH, 0)
    return image


def _fitted(values: Floats, size: tuple[int, int]) -> Floats:
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)


def error_map(found: SlideMap, labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> Image:
    """The map with a frame around each error: red and crossed where a label above 0 was missed."""
    image = found.image.copy()
    height, width = found.side
    for place in np.flatnonzero(labels != predicted).tolist():
        # A line of two pixels lies on both sides of its place.
        left, top = int(found.lefts[place]) + 1, int(found.tops[place]) + 1
        corner = (left + width - 3, top + height - 3)
        missed = labels[place] > predicted[place]
        colour = MISSED if missed else ALARM
        cv2.rectangle(image, (left, top), corner, colour, 2)
        if missed:
            cv2.line(image, (left, top), corner, colour, 2)
    return image


def geojson(
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    side: tuple[int, int],
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
) -> bytes:
    """The patches as tiles for QuPath: squares in pixels of the slide from `xs`, `ys` (N,) on.

    Places that count from 1 are brought to 0. Each has the class of the highest of its
    `probabilities` (N, C), these as measurements, and its true class.
    """
    first = [1.0 if len(one) and float(one.min()) % 10 == 1 else 0.0 for one in (xs, ys)]
    features = []
    for row in range(len(xs)):
        said = int(probabilities[row].argmax())
        left, top = float(xs[row]) - first[0], float(ys[row]) - first[1]
        right, bottom = left + side[1], top + side[0]
        corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        scores = {
            f"score_{name}": round(float(value), 6)
            for name, value in zip(class_names, probabilities[row], strict=True)
        }
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [corners]},
                "properties": {
                    "objectType": "tile",
                    "classification": {"name": class_names[said], "color": _colour(said)},
                    "measurements": scores,
                    "metadata": {"label": class_names[int(labels[row])]},
                },
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def _colour(number: int) -> list[int]:
    """Of a class: viridis, apart from each other."""
    place = np.array([(number * 0.618) % 1.0], np.float32)
    return [int(one) for one in viridis(place)[0]]
