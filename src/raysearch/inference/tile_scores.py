"""The scores of the tiles of a slide on their grid, and the regions that the tiles form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raysearch.data.slides.tile_grid import TileGrid

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon

NO_TILE = -1
MICROMETRES_PER_MM = 1000.0


@dataclass(frozen=True)
class TileScores:
    """The scores of the tiles of a slide; each tile is a cell of the grid.

    A cell is as large as the distance of neighboring tiles, and lies in the center of its tile: the
    cells do not overlap, also if the tiles do.

    Attributes:
        grid: The grid of the tiles.
        probabilities: Probability of each class, shape (C, rows, columns); NaN without a tile.
        decided: The number of the decided class, shape (rows, columns); NO_TILE without a tile.
    """

    grid: TileGrid
    probabilities: NDArray[np.float32]
    decided: NDArray[np.int16]

    @classmethod
    def of(
        cls,
        grid: TileGrid,
        left: NDArray[np.int64],
        top: NDArray[np.int64],
        probabilities: NDArray[np.float64],
        decided: NDArray[np.int64],
    ) -> TileScores:
        """Place N tiles on their grid.

        Args:
            grid: The grid.
            left: The left side of each tile in pixels of level 0, shape (N,).
            top: The top side of each tile, shape (N,).
            probabilities: Probability of each class, shape (N, C).
            decided: The number of the decided class of each tile, shape (N,).
        """
        columns, rows = (left - grid.left) // grid.stride[0], (top - grid.top) // grid.stride[1]
        shape = (grid.num_rows, grid.num_columns)
        maps = np.full((probabilities.shape[1], *shape), np.nan, np.float32)
        maps[:, rows, columns] = probabilities.T
        classes = np.full(shape, NO_TILE, np.int16)
        classes[rows, columns] = decided
        return cls(grid, maps, classes)

    @property
    def is_tile(self) -> NDArray[np.bool_]:
        """Whether each cell has a tile, shape (rows, columns)."""
        return np.asarray(self.decided != NO_TILE)

    @property
    def num_tiles(self) -> int:
        """The number of tiles."""
        return int(self.is_tile.sum())

    @property
    def cell_area(self) -> float:
        """The area of a cell in square millimetres."""
        width, height = (side * self.slide_mpp / MICROMETRES_PER_MM for side in self.grid.stride)
        return width * height

    @property
    def slide_mpp(self) -> float:
        """The side of a pixel of level 0, in micrometres."""
        return self.grid.mpp / self.grid.pixel_size

    @property
    def origin(self) -> tuple[float, float]:
        """The left and the top side of the first cell, in pixels of level 0."""
        (width, height), (stride_x, stride_y) = self.grid.side, self.grid.stride
        return self.grid.left + (width - stride_x) / 2, self.grid.top + (height - stride_y) / 2


@dataclass(frozen=True)
class TileRegion:
    """Connected tiles that are decided to be of one class.

    Attributes:
        class_number: The number of the class.
        geometry: Their outline, with holes, in pixels of level 0.
        num_tiles: The number of tiles.
        area: Their area in square millimetres.
        mean_probabilities: The mean probability of each class, shape (C,).
        max_probability: The largest probability of the region's class.
    """

    class_number: int
    geometry: Polygon | MultiPolygon
    num_tiles: int
    area: float
    mean_probabilities: NDArray[np.float64]
    max_probability: float

    @property
    def mean_probability(self) -> float:
        """The mean probability of the region's class."""
        return float(self.mean_probabilities[self.class_number])


def merge_tiles(scores: TileScores) -> Iterator[TileRegion]:
    """Merge the tiles of each class that share a side; yield the regions, class by class."""
    import shapely
    from scipy import ndimage

    left, top = scores.origin
    stride_x, stride_y = scores.grid.stride
    for class_number in range(len(scores.probabilities)):
        labels, _num_regions = ndimage.label(scores.decided == class_number)
        for number, area in enumerate(ndimage.find_objects(labels), start=1):
            rows, columns = np.nonzero(labels[area] == number)
            rows, columns = rows + area[0].start, columns + area[1].start
            x, y = left + columns * stride_x, top + rows * stride_y
            # The cells share whole sides.
            cells = shapely.box(x, y, x + stride_x, y + stride_y)
            outline = shapely.simplify(shapely.coverage_union_all(cells), 0)
            probabilities = scores.probabilities[:, rows, columns].astype(np.float64)
            yield TileRegion(
                class_number,
                outline,
                len(rows),
                len(rows) * scores.cell_area,
                probabilities.mean(1),
                float(probabilities[class_number].max()),
            )
