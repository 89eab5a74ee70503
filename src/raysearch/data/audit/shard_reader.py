"""Reads shards one row group at a time, so that a set of any size fits in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.parquet_files import valid_rows
from raysearch.data.shards.shard_files import check_rows, open_shard, pixel_chunks
from raysearch.data.shards.shard_manifest import Manifest, label_column, read_manifest
from raysearch.errors import DataError

WHITE = 255
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class LabeledShards:
    """The shards in `folder`, limited to the rows that have a label in `task`."""

    folder: Folder
    manifest: Manifest
    task: str


@dataclass(frozen=True)
class RowSources:
    """The origin of each of N rows.

    Attributes:
        files: Names of the source files, shape (N,).
        padded: Whether sharding padded the image with white, shape (N,).
        pixel_hashes: SHA-256 of the pixels, 32 bytes each, shape (N,).
    """

    files: NDArray[np.str_]
    padded: NDArray[np.bool_]
    pixel_hashes: NDArray[np.bytes_]


def open_shards(data: str, task: str) -> LabeledShards:
    """Open the shards at `data`.

    Raises:
        DataError: If there are no shards, or they have no such task.
    """
    folder = Folder(data)
    manifest = read_manifest(folder)
    if manifest.is_bags:
        raise DataError(f"{data}: features of slides, which have no pixels to inspect")
    manifest.classes_of(task)
    return LabeledShards(folder, manifest, task)


def read_row_sources(shards: LabeledShards) -> RowSources:
    """Read the origin of each labeled row.

    Raises:
        DataError: If a shard is damaged.
    """
    label = label_column(shards.task)
    files: list[str] = []
    resize_modes: list[str] = []
    hashes: list[bytes] = []
    for shard in shards.manifest.shards:
        with open_shard(shards.folder, shard, shards.manifest) as file:
            table = file.read(columns=[label, "source", "resize_mode", "sha256"])
            check_rows(table, shards.folder, shard, shards.manifest)
            table = table.filter(table.column(label).is_valid())
        files += table.column("source").to_pylist()
        resize_modes += table.column("resize_mode").to_pylist()
        hashes += table.column("sha256").to_pylist()
    return RowSources(
        np.array(files, np.str_),
        np.array(["padded" in mode for mode in resize_modes], np.bool_),
        np.array(hashes, "S32"),
    )


def iter_row_groups(
    shards: LabeledShards, selected_rows: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], Images]]:
    """Iterate over the pixels of the labeled rows, one row group at a time.

    A row's number is its position among the labeled rows. A row group without a selected row is
    not decoded.

    Args:
        shards: The shards to read.
        selected_rows: Numbers of the rows to read; None reads all.

    Yields:
        Row numbers, shape (n,), and pixels, uint8, shape (n, H, W, 3).

    Raises:
        DataError: If a shard is damaged.
    """
    for rows, read_pixels in iter_row_group_readers(shards, selected_rows):
        yield rows, read_pixels()


def iter_row_group_readers(
    shards: LabeledShards, selected_rows: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], Callable[[], Images]]]:
    """Iterate as `iter_row_groups` does, without reading the pixels.

    Yields:
        Row numbers, shape (n,), and a function that reads their pixels until the next iteration.
    """
    start = 0
    for shard in shards.manifest.shards:
        with open_shard(shards.folder, shard, shards.manifest) as parquet:
            for group in range(parquet.num_row_groups):
                labeled = _labeled_mask(parquet, group, label_column(shards.task))
                rows = np.where(labeled, start + np.cumsum(labeled) - 1, -1)
                start += int(labeled.sum())
                mask = labeled
                if selected_rows is not None:
                    mask = labeled & np.isin(rows, selected_rows)
                if mask.any():
                    yield rows[mask], partial(_read_masked, parquet, group, shards, mask)


def _read_masked(
    parquet: pq.ParquetFile, group: int, shards: LabeledShards, mask: NDArray[np.bool_]
) -> Images:
    pixels = read_row_group_pixels(parquet, group, shards.manifest.shape)
    return pixels if mask.all() else pixels[mask]


def _labeled_mask(parquet: pq.ParquetFile, group: int, label: str) -> NDArray[np.bool_]:
    column = parquet.read_row_group(group, columns=[label]).column(label)
    return valid_rows(column)


def read_row_group_pixels(
    parquet: pq.ParquetFile, group: int, shape: tuple[int, int, int]
) -> Images:
    """Read the pixels of a row group as a read-only uint8 array, shape (n, H, W, 3).

    Args:
        parquet: An open shard.
        group: Index of the row group.
        shape: (H, W, 3) of a patch.
    """
    table = parquet.read_row_group(group, columns=["pixels"])
    arrays = list(pixel_chunks(table, int(np.prod(shape))))
    flat = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return flat.reshape(-1, *shape)


def remove_padding(image: Images) -> Images:
    """Remove white rows at the bottom and white columns at the right of an image (H, W, 3).

    `raysearch shard` pads smaller images there. Without the padding, an image's color statistics
    are those of its file. One pixel remains of an image that is completely white.
    """
    not_white = (image != WHITE).any(axis=2)
    ys, xs = np.flatnonzero(not_white.any(axis=1)), np.flatnonzero(not_white.any(axis=0))
    if not len(ys):
        return image[:1, :1]
    return image[: ys[-1] + 1, : xs[-1] + 1]
