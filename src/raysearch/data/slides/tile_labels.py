"""Labels tiles by the polygons drawn on their slide: exact fractions of areas, no raster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raysearch.data.slides.annotated_regions import AnnotatedRegion, check_shapely
from raysearch.errors import DataError

if TYPE_CHECKING:
    from shapely import Geometry

Floats = NDArray[np.float64]
Geometries = NDArray[np.object_]

DEFAULT_MIN_FRACTION = 0.5
# Two classes on more than this fraction of a tile are a conflict; polygons that share an edge by
# hand overlap by less.
MAX_OVERLAP = 0.05
# Areas are sums over polygons of polygons: exact but for rounding.
TOLERANCE = 1e-9
# What clipping a large polygon may change of its area, as a fraction: rounding, and no more.
AREA_TOLERANCE = 1e-12
# Large polygons are divided until their polygons have at most so many points.
MAX_POLYGON_POINTS = 128
MAX_DIVISIONS = 40
BATCH_SIZE = 20_000


@dataclass(frozen=True)
class TileLabel:
    """The label of a tile.

    Attributes:
        class_name: Its class; None if it has none.
        fraction: The largest fraction of its area, or of its center, in the regions of a class:
            that of `class_name`, unless this is None or the background.
        is_conflict: Whether regions of two classes overlap on more than MAX_OVERLAP of that area.
    """

    class_name: str | None
    fraction: float
    is_conflict: bool


class TileLabeler:
    """Labels the tiles of a slide.

    The class of a tile is the one with the largest fraction of its area, if that is at least
    `min_fraction`. Regions of one class that overlap count once. Of classes with equal fractions,
    the first by name is taken. All lengths are in pixels of level 0.

    Args:
        regions: The regions of the slide.
        min_fraction: The smallest fraction that labels a tile; 0 stands for any area. By default
            .5, and 0 with `center`: a patch of PatchCamelyon is positive if its center of 32x32
            pixels contains at least one pixel of tumor.
        center: The side of the square in the center of a tile that labels it; None for the tile.
        background: The class of the tiles that no class labels; None leaves them without one.

    Raises:
        DataError: If `min_fraction` is not in 0 to 1, `center` is not positive, or shapely is not
            installed.
    """

    def __init__(
        self,
        regions: Sequence[AnnotatedRegion],
        min_fraction: float | None = None,
        center: float | None = None,
        background: str | None = None,
    ) -> None:
        check_shapely()
        if min_fraction is not None and not 0 <= min_fraction <= 1:
            raise DataError(f"minimum fraction {min_fraction}: give a number from 0 to 1")
        if center is not None and not 0 < center < np.inf:
            raise DataError(f"center {center}: give a positive number of pixels")
        default = 0.0 if center is not None else DEFAULT_MIN_FRACTION
        self._min_fraction = default if min_fraction is None else min_fraction
        self._center = center
        self._background = background
        self.class_names = tuple(sorted({region.class_name for region in regions}))
        self._index_polygons(regions)

    def _index_polygons(self, regions: Sequence[AnnotatedRegion]) -> None:
        """Divide classes into disjoint polygons; the overlaps of classes are one more layer."""
        import shapely

        layers = [
            _disjoint_polygons([region.geometry for region in regions if region.class_name == name])
            for name in self.class_names
        ]
        layers.append(_disjoint_polygons(_overlaps(layers)))
        self._polygons: Geometries = np.concatenate(layers)
        self._layers = np.repeat(np.arange(len(layers)), [len(layer) for layer in layers])
        self._tree = shapely.STRtree(self._polygons)
        shapely.prepare(self._polygons)

    def label(self, left: float, top: float, width: float, height: float) -> TileLabel:
        """Return the label of one tile; `label_tiles` takes less time for many."""
        return self.label_tiles(np.array([left]), np.array([top]), width, height)[0]

    def label_tiles(
        self, left: Floats, top: Floats, width: float, height: float
    ) -> list[TileLabel]:
        """Label tiles of one size.

        Args:
            left: The left side of each tile, shape (n,).
            top: The top side of each tile, shape (n,).
            width: The width of the tiles.
            height: Their height.

        Returns:
            The label of each tile.

        Raises:
            DataError: If the tiles have no area, or are smaller than the center.
        """
        if not (width > 0 and height > 0):
            raise DataError(f"tile of {width} x {height} pixels: give a positive size")
        if self._center is not None and self._center > min(width, height):
            raise DataError(
                f"center {self._center}: larger than a tile of {width} x {height} pixels; give at"
                f" most {min(width, height)}"
            )
        fractions = np.concatenate(
            [
                self._fractions(left[start : start + BATCH_SIZE], top[start : start + BATCH_SIZE],
                                width, height)
                for start in range(0, max(1, len(left)), BATCH_SIZE)
            ]
        )  # fmt: skip
        return self._labels(fractions[:, :-1], fractions[:, -1] > MAX_OVERLAP)

    def _fractions(self, left: Floats, top: Floats, width: float, height: float) -> Floats:
        """Return the fractions of the tiles in each layer, shape (n, classes + 1)."""
        import shapely

        if self._center is not None:
            left = left + (width - self._center) / 2
            top = top + (height - self._center) / 2
            width = height = self._center
        boxes: Geometries = shapely.box(left, top, left + width, top + height)
        tiles, polygons = self._tree.query(boxes, predicate="intersects")
        areas = np.full(len(tiles), width * height, np.float64)
        cut = ~shapely.covers(self._polygons[polygons], boxes[tiles])
        overlaps = shapely.intersection(self._polygons[polygons[cut]], boxes[tiles[cut]])
        areas[cut] = shapely.area(overlaps)
        sums = np.zeros((len(left), len(self.class_names) + 1))
        np.add.at(sums, (tiles, self._layers[polygons]), areas)
        return np.minimum(1.0, sums / (width * height))

    def _labels(self, fractions: Floats, conflicts: NDArray[np.bool_]) -> list[TileLabel]:
        if not self.class_names:
            return [TileLabel(self._background, 0.0, False)] * len(fractions)
        # Rounding makes no difference between equal fractions.
        best = np.round(fractions, 9).argmax(axis=1)
        largest = fractions[np.arange(len(fractions)), best]
        labeled = (largest > TOLERANCE) & (largest >= self._min_fraction - TOLERANCE)
        return [
            TileLabel(
                self.class_names[index] if has_class else self._background, fraction, conflict
            )
            for index, fraction, has_class, conflict in zip(
                best.tolist(), largest.tolist(), labeled.tolist(), conflicts.tolist(), strict=True
            )
        ]


def _disjoint_polygons(geometries: Sequence[Geometry]) -> Geometries:
    """Return the union of polygons as disjoint polygons with at most MAX_POLYGON_POINTS points."""
    import shapely

    pending = [(part, MAX_DIVISIONS) for part in shapely.get_parts(_union(geometries))]
    polygons = []
    while pending:
        polygon, num_divisions = pending.pop()
        if shapely.get_dimensions(polygon) < 2:
            continue
        if shapely.get_num_coordinates(polygon) <= MAX_POLYGON_POINTS or not num_divisions:
            polygons.append(polygon)
            continue
        for half in _halves(polygon):
            pending += [(part, num_divisions - 1) for part in shapely.get_parts(half)]
    result = np.empty(len(polygons), object)
    result[:] = polygons
    return result


def _union(geometries: Sequence[Geometry]) -> Geometry:
    import shapely

    return shapely.union_all(np.array(geometries, object))


def _halves(polygon: Geometry) -> list[Geometry]:
    """Divide a polygon in the middle of its longer side."""
    import shapely

    left, top, right, bottom = shapely.bounds(polygon)
    if right - left >= bottom - top:
        middle = (left + right) / 2
        boxes = [(left, top, middle, bottom), (middle, top, right, bottom)]
    else:
        middle = (top + bottom) / 2
        boxes = [(left, top, right, middle), (left, middle, right, bottom)]
    halves = [shapely.clip_by_rect(polygon, *box) for box in boxes]
    # Clipping is many times faster than an intersection, but may return what is not valid.
    area = sum(map(shapely.area, halves))
    if shapely.is_valid(halves).all() and abs(area - polygon.area) <= AREA_TOLERANCE * polygon.area:
        return halves
    return [shapely.intersection(polygon, shapely.box(*box)) for box in boxes]


def _overlaps(layers: Sequence[Geometries]) -> list[Geometry]:
    """Return the areas that belong to two of the layers."""
    import shapely

    overlaps: list[Geometry] = []
    for index, layer in enumerate(layers):
        tree = shapely.STRtree(layer)
        for other in layers[index + 1 :]:
            others, neighbors = tree.query(other, predicate="intersects")
            shared = shapely.intersection(layer[neighbors], other[others])
            # Neighbors share points and lines, which are not areas.
            parts = shapely.get_parts(shapely.get_parts(shared))
            overlaps += list(parts[shapely.area(parts) > 0])
    return overlaps
