"""Reads what a model scores, batch by batch: rows of shards, or image files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.shard_reader import read_row_group_pixels
from raysearch.data.files import Folder
from raysearch.data.images.chunk_decoding import decode_files
from raysearch.data.images.hdf5 import read_rows
from raysearch.data.images.shared_memory import Slots
from raysearch.data.shards.bags import read_bags
from raysearch.data.shards.patches import Inputs
from raysearch.data.shards.shard_files import DOWNSAMPLE, check_rows, open_shard
from raysearch.data.shards.shard_manifest import (
    MANIFEST_FILE,
    Manifest,
    Shard,
    TileSettings,
    label_column,
    read_manifest,
)
from raysearch.data.sources import is_slide_source, list_source
from raysearch.data.sources.listing import Item, Rejected, SourceOptions, check_depth
from raysearch.errors import DataError
from raysearch.inference.score_batches import Batch, Source, label_names
from raysearch.inference.slide_source import open_slides
from raysearch.inference.tile_source import open_tiles
from raysearch.models import is_bag_shape

BATCH_SIZE = 1024
RESIZE_MODE = "resize_mode"


@dataclass(frozen=True)
class ImageSource:
    """Image files, resized to the model's input size as `raysearch shard` resizes them.

    Attributes:
        address: Path or address of the source.
        folder: The folder with the images; a scratch folder if the source is an archive.
        items: The images, sorted by patient and file.
        class_names: The classes that the items' labels index; empty without labels.
        size: (width, height) in pixels.
        is_hdf5: Whether the items are rows of HDF5 files.
        rejected: The files that were rejected before decoding.
        batch_size: Images per batch.
        depth: The number of bits that images of 16 bits a channel use; None rejects these images.
    """

    address: str
    folder: Folder
    items: tuple[Item, ...]
    class_names: tuple[str, ...]
    size: tuple[int, int]
    is_hdf5: bool
    rejected: tuple[Rejected, ...]
    batch_size: int
    depth: int | None = None

    @property
    def num_batches(self) -> int:
        """The number of batches."""
        return -(-len(self.items) // self.batch_size)

    @property
    def fingerprint(self) -> str:
        """A hash over the files' names, their labels and the settings."""
        items = [list(item) for item in self.items]
        settings = [self.size, self.batch_size, self.depth]
        content = [self.address, settings, self.class_names, items]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def num_rows(self, number: int) -> int:
        """The number of images of the batch with that number."""
        return min(self.batch_size, len(self.items) - number * self.batch_size)

    def read(self, number: int) -> Batch:
        """Read and decode the batch with that number."""
        items = self.items[number * self.batch_size : (number + 1) * self.batch_size]
        patch_bytes = self.size[0] * self.size[1] * 3
        with Slots(1, len(items) * patch_bytes) as slots:
            slot = slots.take()
            files = [item.file for item in items]
            if self.is_hdf5:
                chunk = read_rows(self.folder, files, self.size, slot)
            else:
                chunk = decode_files(self.folder, files, self.size, slot, self.depth)
            pixels = np.array(slot.bytes().reshape(-1, patch_bytes)[: len(chunk.decoded)])
        decoded = [items[index] for index in chunk.decoded]
        rejected = [Rejected(items[index].file, reason) for index, reason in chunk.rejected]
        labels = label_names(decoded, self.class_names)
        return Batch(decoded, labels, pixels, rejected, resize_modes=chunk.resize_modes)


@dataclass(frozen=True)
class ShardSource:
    """Shards, one row group per batch.

    Attributes:
        data: Path or address of the shards.
        task: The task whose labels are copied to the scores.
        row_groups: Shard, row-group number and number of rows of each batch.
        manifest: The manifest of the shards.
        rejected: Always empty.
    """

    data: str
    task: str
    row_groups: tuple[tuple[Shard, int, int], ...]
    manifest: Manifest
    rejected: tuple[Rejected, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the task."""
        return self.manifest.classes_of(self.task)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of a patch."""
        return self.manifest.shape

    @property
    def fingerprint(self) -> str:
        """The hash over the shards."""
        return self.manifest.fingerprint

    @property
    def num_batches(self) -> int:
        """The number of batches."""
        return len(self.row_groups)

    def num_rows(self, number: int) -> int:
        """The number of rows of the row group with that number."""
        return self.row_groups[number][2]

    def read(self, number: int) -> Batch:
        """Read and decode the row group with that number."""
        folder, (shard, row_group, _num_rows) = Folder(self.data), self.row_groups[number]
        columns = ["source", label_column(self.task), "patient", "slide", "x", "y"]
        with open_shard(folder, shard, self.manifest) as parquet:
            more_columns = (RESIZE_MODE, DOWNSAMPLE) if self.manifest.has_tiles else (RESIZE_MODE,)
            table = parquet.read_row_group(row_group, columns=[*columns, *more_columns])
            check_rows(table, folder, shard, self.manifest)
            inputs: Inputs
            positions: list[NDArray[np.int32] | None] = []
            if self.manifest.is_bags:
                inputs, positions = read_bags(parquet, row_group, self.manifest.patch_bytes)
            else:
                pixels = read_row_group_pixels(parquet, row_group, self.shape)
                inputs = np.array(pixels).reshape(len(pixels), -1)
        values = [table.column(column).to_pylist() for column in columns]
        items = [Item(*row) for row in zip(*values, strict=True)]
        if self.manifest.has_tiles:
            downsamples = table.column(DOWNSAMPLE).to_pylist()
            pairs = zip(items, downsamples, strict=True)
            items = [item._replace(downsample=downsample) for item, downsample in pairs]
        labels = label_names(items, self.class_names)
        return Batch(items, labels, inputs, [], positions, table.column(RESIZE_MODE).to_pylist())


def open_source(
    address: str,
    source_format: str | None,
    task: str,
    shape: tuple[int, int, int],
    options: SourceOptions,
    tile_settings: TileSettings | None = None,
) -> Source:
    """Open shards, images or slides as a source of patches.

    Args:
        address: Path or address of shards, or of images or slides that `raysearch shard` accepts.
        source_format: Format of the images. If None, it is detected from their layout; if the
            layout has no known format, all images below `address` are read without labels.
        task: The task whose labels are read from shards.
        shape: (H, W, 3) of the model's input. Images are resized to it.
        options: How to read images, and the folder for unpacked archives.
        tile_settings: How slides were cut into the tiles that the model was trained on; None if
            that is unknown.

    Raises:
        DataError: If the patches of shards have another size, there is no image, or an option has
            no effect.
    """
    folder = Folder(address)
    if source_format is None and folder.exists(MANIFEST_FILE):
        unused = {"--patient": options.patient, "--depth": options.depth, "--root": options.root}
        for option, value in unused.items():
            if value is not None:
                raise DataError(f"{option}: has no effect with shards, only with images; remove it")
        return _open_shards(folder, task, shape)
    if is_slide_source(address, source_format):
        return open_tiles(address, shape, options, tile_settings)
    if is_bag_shape(shape):
        return open_slides(address, source_format, options, shape[1])
    found_format, listing = list_source(address, source_format, options, are_labels_required=False)
    if listing.folder is None:
        raise DataError(
            f"{address}: a synthetic source has no files to score; create shards from it with"
            " `raysearch shard`, and score those"
        )
    if not listing.items:
        raise DataError(f"{address}: no image in it; name the folder that contains the images")
    check_depth(options.depth, listing, found_format)
    return ImageSource(
        address,
        listing.folder,
        tuple(sorted(listing.items, key=lambda item: (item.patient, item.file))),
        listing.class_names,
        (shape[1], shape[0]),
        listing.is_hdf5,
        tuple(listing.rejected),
        BATCH_SIZE,
        options.depth,
    )


def _open_shards(folder: Folder, task: str, shape: tuple[int, int, int]) -> ShardSource:
    manifest = read_manifest(folder)
    if manifest.is_bags != is_bag_shape(shape) or (
        manifest.is_bags and manifest.shape[1] != shape[1]
    ):
        raise DataError(
            f"{folder.address}: {_kind(manifest.shape)}, and the model takes {_kind(shape)}; give"
            " shards of the same kind"
        )
    if not manifest.is_bags and manifest.shape != shape:
        raise DataError(
            f"{folder.address}: its patches have {manifest.shape[1]}x{manifest.shape[0]} pixels,"
            f" but the model takes {shape[1]}x{shape[0]}; create shards of that size with"
            " `raysearch shard --size`, or score the images"
        )
    row_groups = []
    for shard in manifest.shards:
        with open_shard(folder, shard, manifest) as file:
            row_groups += [
                (shard, number, file.metadata.row_group(number).num_rows)
                for number in range(file.num_row_groups)
            ]
    manifest.classes_of(task)
    return ShardSource(folder.address, task, tuple(row_groups), manifest)


def _kind(shape: tuple[int, int, int]) -> str:
    """Return what rows of a shape are, in words."""
    if is_bag_shape(shape):
        return f"slides with {shape[1]:,} features of each patch"
    return f"patches of {shape[1]}x{shape[0]} pixels"
