"""Reads tiles of a slide into shared memory, in a worker process."""

from __future__ import annotations

from collections.abc import Sequence

from raysearch.data.images.chunk_decoding import Chunk, patch_hashes
from raysearch.data.images.decoding import RejectedImageError
from raysearch.data.images.shared_memory import Slot
from raysearch.data.slides.slide_formats import open_slide
from raysearch.data.slides.slide_reader import Pixels, SlideReader
from raysearch.data.slides.tile_grid import TileGrid, read_tile

# The positions of `scaled` patches are in pixels of another size; tiles have their `downsample`.
UNSCALED, REDUCED, ENLARGED = "as is", "resampled by area", "interpolated"


class OpenSlide:
    """The slide that a worker process reads: it stays open until another one is read."""

    def __init__(self) -> None:
        self._path = ""
        self._slide: SlideReader | None = None

    def get(self, path: str) -> SlideReader:
        """Return the open slide of a file.

        Raises:
            RejectedImageError: If it is no slide, or damaged.
            DataError: If the file cannot be read at all.
        """
        if self._slide is None or self._path != path:
            self.close()
            self._slide, self._path = open_slide(path), path
        return self._slide

    def close(self) -> None:
        """Close the slide, if one is open."""
        slide, self._slide = self._slide, None
        if slide is not None:
            slide.close()


OPEN_SLIDE = OpenSlide()


def resize_mode(grid: TileGrid) -> str:
    """Return how the tiles of a slide got their size."""
    if grid.scale == 1.0:
        return UNSCALED
    return REDUCED if grid.scale > 1 else ENLARGED


def read_tiles(
    path: str, grid: TileGrid, positions: Sequence[tuple[int, int]], slot: Slot
) -> Chunk:
    """Read tiles of one slide into `slot`.

    Args:
        path: The file of the slide.
        grid: The grid of its tiles.
        positions: The left and the top side of each tile, in pixels of level 0.
        slot: Where the pixels are written.

    Returns:
        The tiles. If the slide is damaged, no tile, and the reason in `broken`.

    Raises:
        DataError: If the file cannot be read any more.
    """
    width, height = grid.size
    pixels = slot.bytes().reshape(-1, height, width, 3)[: len(positions)]
    try:
        read_tile_pixels(path, grid, positions, pixels)
    except RejectedImageError as error:
        return Chunk(broken=str(error))
    modes = [resize_mode(grid)] * len(positions)
    return Chunk(list(range(len(positions))), modes, patch_hashes(pixels))


def read_tile_pixels(
    path: str, grid: TileGrid, positions: Sequence[tuple[int, int]], pixels: Pixels
) -> None:
    """Read tiles of one slide.

    Args:
        path: The file of the slide.
        grid: The grid of its tiles.
        positions: The left and the top side of each tile, in pixels of level 0.
        pixels: Where the RGB pixels are written, shape (N, height, width, 3).

    Raises:
        RejectedImageError: If the slide is damaged.
        DataError: If the file cannot be read any more.
    """
    try:
        slide = OPEN_SLIDE.get(path)
        for number, (left, top) in enumerate(positions):
            pixels[number] = read_tile(slide, grid, left, top)
    except RejectedImageError:
        OPEN_SLIDE.close()
        raise
