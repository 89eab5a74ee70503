"""Labels tiles by the polygons drawn on their slide: exact fractions of areas, no raster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.class_names import check_class_names
from raysearch.data.slides.annotated_regions import AnnotatedRegion
from raysearch.data.slides.polygons import check_shapely
from raysearch.data.slides.region_layers import divide_regions
from raysearch.errors import DataError

Floats = NDArray[np.float64]
Geometries = NDArray[np.object_]

DEFAULT_MIN_FRACTION = 0.5
# Two classes on more than this fraction of a tile are a conflict; polygons that share an edge by
# hand overlap by less.
MAX_OVERLAP = 0.05
# Areas are sums over polygons of polygons: exact but for rounding. Fractions are compared with so
# many digits.
TOLERANCE, DIGITS = 1e-9, 9
# The tiles of a batch, and the fractions (tiles times classes) of a batch.
BATCH_SIZE, MAX_BATCH_FRACTIONS = 20_000, 2_000_000


@dataclass(frozen=True)
class TileLabel:
    """The label of a tile.

    Attributes:
        class_name: Its class; None if it has none.
        fraction: The largest fraction of its area, or of its center, in the regions of a class:
            that of `class_name`, unless this is None or the background.
        is_conflict: Whether the regions contradict each other in that area: those of two classes
            overlap on more than MAX_OVERLAP of it, or classes have the same largest fraction, which
            leaves the tile without a class.
    """

    class_name: str | None
    fraction: float
    is_conflict: bool


class TileLabeler:
    """Labels the tiles of a slide.

    The class of a tile is the one with the largest fraction of its area, if that is at least
    `min_fraction`. A tile in no class at all is background; one with a smaller fraction of a class
    is neither, and has no class. If classes have equal fractions, the tile has no class, and is a
    conflict. Regions of one class that overlap count once. A region within a region of another
    class is cut out of it.

    Positions and sizes of tiles are in pixels of level 0 of the slide, as regions are. `center` is
    in pixels of the tile, whose side is `pixel_size` pixels of level 0: a tile of 96x96 pixels that
    is read at half the resolution of level 0 has `pixel_size` 2, and a width of 192.

    Args:
        regions: The regions of the slide.
        min_fraction: The smallest fraction that labels a tile; 0 stands for any area. By default
            .5; with `center`, one pixel of it: a patch of PatchCamelyon is positive if its center
            of 32x32 pixels contains at least one pixel of tumor.
        center: The side of the square in the center of a tile that labels it, in pixels of the
            tile; None for all of the tile.
        pixel_size: The side of a pixel of the tile, in pixels of level 0.
        background: The class of the tiles in no class; None leaves them without one.
        source: What the regions are of, for messages.

    Raises:
        DataError: If `min_fraction` is not in 0 to 1, `center` is below 1, `pixel_size` is not
            positive, there are too many classes or two differ only in case, combining the regions
            would take too long, or shapely is not installed.
    """

    def __init__(
        self,
        regions: Sequence[AnnotatedRegion],
        min_fraction: float | None = None,
        center: float | None = None,
        *,
        pixel_size: float = 1.0,
        background: str | None = None,
        source: str = "annotations",
    ) -> None:
        check_shapely()
        import shapely

        if min_fraction is not None and not 0 <= min_fraction <= 1:
            raise DataError(f"minimum fraction {min_fraction}: give a number from 0 to 1")
        if center is not None and not 1 <= center < np.inf:
            raise DataError(f"center {center}: give a number of pixels from 1")
        if not 0 < pixel_size < np.inf:
            raise DataError(f"pixel size {pixel_size}: give a positive number of pixels of level 0")
        default = DEFAULT_MIN_FRACTION if center is None else 1 / center**2
        self._min_fraction = default if min_fraction is None else min_fraction
        self._center = None if center is None else center * pixel_size
        self._background = background
        self.class_names = tuple(sorted({region.class_name for region in regions}))
        check_class_names(source, self.class_names, "the annotations")
        layers = divide_regions(regions, self.class_names, source)
        self._polygons, self._layers = layers.polygons, layers.layers
        self._tree = shapely.STRtree(self._polygons)
        shapely.prepare(self._polygons)

    def label(self, left: float, top: float, width: float, height: float) -> TileLabel:
        """Return the label of one tile; `label_tiles` takes less time for many."""
        return self.label_tiles(np.array([left]), np.array([top]), width, height)[0]

    def label_tiles(
        self, left: Floats, top: Floats, width: float, height: float
    ) -> list[TileLabel]:
        """Label tiles of one size. All lengths are in pixels of level 0.

        Args:
            left: The left side of each tile, shape (n,).
            top: The top side of each tile, shape (n,).
            width: The width of the tiles.
            height: Their height.

        Returns:
            The label of each tile.

        Raises:
            DataError: If a position is not finite, the tiles have no finite area, or they are
                smaller than the center.
        """
        self._check_tiles(left, top, width, height)
        size = max(1, min(BATCH_SIZE, MAX_BATCH_FRACTIONS // (len(self.class_names) + 1)))
        labels: list[TileLabel] = []
        for start in range(0, len(left), size):
            batch = slice(start, start + size)
            fractions = self._fractions(left[batch], top[batch], width, height)
            labels += self._labels(fractions[:, :-1], fractions[:, -1] > MAX_OVERLAP)
        return labels

    def _check_tiles(self, left: Floats, top: Floats, width: float, height: float) -> None:
        if not (0 < width < np.inf and 0 < height < np.inf):
            raise DataError(f"tile of {width} x {height} pixels: give a positive, finite size")
        if not (np.isfinite(left).all() and np.isfinite(top).all()):
            raise DataError("the position of a tile is not finite; give pixels of level 0")
        side = min(width, height)
        if self._center is not None and self._center > side * (1 + TOLERANCE):
            raise DataError(
                f"center of {self._center} pixels of level 0: larger than a tile of {width} x"
                f" {height}; give at most {side}"
            )

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

    def _labels(self, fractions: Floats, overlap: NDArray[np.bool_]) -> list[TileLabel]:
        if not self.class_names:
            return [TileLabel(self._background, 0.0, False)] * len(fractions)
        rounded = np.round(fractions, DIGITS)  # rounding makes no difference between equal ones
        best = rounded.argmax(axis=1)
        largest = fractions[np.arange(len(fractions)), best]
        is_equal = (rounded == rounded.max(axis=1, keepdims=True)).sum(axis=1) > 1
        is_background = largest <= TOLERANCE
        is_labeled = ~is_background & (largest >= self._min_fraction - TOLERANCE)
        conflicts = overlap | (is_labeled & is_equal)
        numbers = np.where(is_labeled & ~is_equal, best, np.where(is_background, -1, -2))
        names = {-1: self._background, -2: None, **dict(enumerate(self.class_names))}
        return [
            TileLabel(names[number], fraction, conflict)
            for number, fraction, conflict in zip(
                numbers.tolist(), largest.tolist(), conflicts.tolist(), strict=True
            )
        ]
