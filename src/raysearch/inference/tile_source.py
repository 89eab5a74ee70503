"""Reads the tiles of whole slides that a model of patches scores."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from raysearch.data.files import Folder
from raysearch.data.images.decoding import RejectedImageError
from raysearch.data.shards.shard_manifest import TileSettings
from raysearch.data.shards.worker_processes import worker_pool
from raysearch.data.slides.slide_options import SlideOptions
from raysearch.data.slides.tile_chunks import read_tile_pixels, resize_mode
from raysearch.data.slides.tile_grid import TileGrid
from raysearch.data.sources import SLIDES, list_source
from raysearch.data.sources.listing import Item, Rejected, SourceOptions, check_depth
from raysearch.errors import DataError
from raysearch.inference.score_batches import Batch
from raysearch.models import is_bag_shape

# The bytes of the pixels of a batch: the next batch is read while one is scored.
BATCH_BYTES = 64 * 2**20
# Separates the file of a slide from the position of a tile.
POSITION = "#"


@dataclass(frozen=True)
class TileSource:
    """The tiles of slides; a batch has tiles of one slide.

    Attributes:
        address: The folder of the slides.
        items: The tiles, slide by slide, row by row.
        grids: The grid of the tiles of each slide, by the name of the slide.
        batches: The first tile of each batch, and the one after its last.
        settings: How the slides were cut into tiles.
        rejected: The slides that cannot be used.
    """

    address: str
    items: tuple[Item, ...]
    grids: Mapping[str, TileGrid]
    batches: tuple[tuple[int, int], ...]
    settings: SlideOptions
    rejected: tuple[Rejected, ...]

    @property
    def num_batches(self) -> int:
        """The number of batches."""
        return len(self.batches)

    @property
    def fingerprint(self) -> str:
        """A hash over the names of the slides, the positions of the tiles and the settings."""
        tiles = [[item.file, item.patient, item.x, item.y] for item in self.items]
        content = [self.address, repr(self.settings), self.batches, tiles]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def num_rows(self, number: int) -> int:
        """The number of tiles of the batch with that number."""
        start, stop = self.batches[number]
        return stop - start

    def read(self, number: int) -> Batch:
        """Read the tiles of the batch with that number; all are rejected if one is damaged."""
        start, stop = self.batches[number]
        items = list(self.items[start:stop])
        grid = self.grids[items[0].slide]
        width, height = grid.size
        positions = [(item.x or 0, item.y or 0) for item in items]
        pixels = np.empty((len(items), height, width, 3), np.uint8)
        try:
            read_tile_pixels(self.path_of(items[0]), grid, positions, pixels)
        except RejectedImageError as error:
            rejected = [Rejected(item.file, str(error)) for item in items]
            return Batch([], [], pixels[:0].reshape(0, height * width * 3), rejected)
        inputs = pixels.reshape(len(items), -1)
        return Batch(items, [None] * len(items), inputs, [], (), [resize_mode(grid)] * len(items))

    def path_of(self, item: Item) -> str:
        """Return the path of the slide of a tile."""
        return Folder(self.address).path(slide_file(item.file))

    def slides(self) -> Iterator[list[Item]]:
        """Yield the tiles of each slide."""
        for _file, items in groupby(self.items, lambda item: slide_file(item.file)):
            yield list(items)


def slide_file(tile_file: str) -> str:
    """Return the file of the slide of a tile."""
    return tile_file.rpartition(POSITION)[0]


def open_tiles(
    address: str,
    shape: tuple[int, int, int],
    options: SourceOptions,
    tile_settings: TileSettings | None,
) -> TileSource:
    """Find the tiles of the slides in a folder, cut as the model's training tiles were.

    Args:
        address: The folder of the slides.
        shape: (H, W, 3) of the model's input.
        options: The patients, and what the user says about the resolution.
        tile_settings: How the slides of the training set were cut; None if that is unknown.

    Raises:
        DataError: If the model takes features, the resolution of its tiles is unknown or another
            than the user says, no slide can be used, or an option has no effect.
    """
    if is_bag_shape(shape):
        raise DataError(
            f"{address}: a folder of slides, and the model takes their features; cut the slides"
            " into tiles with `raysearch shard`, compute the features with `raysearch features`,"
            " and score those"
        )
    settings = _settings(address, shape, options.slides, tile_settings)
    # In other processes: a library may crash for a damaged slide.
    with worker_pool(os.cpu_count() or 1) as pool:
        listing_options = replace(options, slides=settings, contact_sheets=False, executor=pool)
        found_format, listing = list_source(address, SLIDES, listing_options)
    check_depth(options.depth, listing, found_format)
    if listing.slides is None or not listing.items:
        reasons = [f"{rejected.file}: {rejected.reason}" for rejected in listing.rejected]
        raise DataError(f"{address}: no slide can be used; {reasons[0] if reasons else 'none'}")
    items = tuple(listing.items)
    max_tiles = max(1, BATCH_BYTES // (shape[0] * shape[1] * 3))
    batches = tuple(_batches(items, max_tiles))
    rejected = tuple(listing.rejected)
    return TileSource(address, items, listing.slides.grids, batches, settings, rejected)


def _settings(
    address: str,
    shape: tuple[int, int, int],
    options: SlideOptions,
    tile_settings: TileSettings | None,
) -> SlideOptions:
    """Return the options of the model's training tiles.

    Raises:
        DataError: If their resolution is unknown, or another than the user says.
    """
    settings = replace(options, size=(shape[1], shape[0]))
    if tile_settings is not None:
        if "mpp" in options.named and options.mpp != tile_settings.mpp:
            raise DataError(
                f"--mpp {options.mpp:g}: the model was trained on tiles of {tile_settings.mpp:g}"
                " micrometres a pixel; remove it"
            )
        settings = replace(
            settings,
            mpp=tile_settings.mpp,
            overlap=tile_settings.overlap,
            min_tissue=tile_settings.min_tissue,
        )
    elif "mpp" not in options.named:
        raise DataError(
            f"{address}: a folder of slides, and the model does not say the size of the pixels that"
            " it was trained on; give --mpp"
        )
    return settings


def _batches(items: Sequence[Item], max_tiles: int) -> Iterator[tuple[int, int]]:
    start = 0
    for _file, tiles in groupby(items, lambda item: slide_file(item.file)):
        stop = start + len(list(tiles))
        for first in range(start, stop, max_tiles):
            yield first, min(first + max_tiles, stop)
        start = stop
