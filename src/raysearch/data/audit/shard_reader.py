"""Shards read a row group at a time, so that a set of any size fits in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.patches import shard_errors
from raysearch.data.shards.shard_manifest import Manifest, label_column, read_manifest

WHITE = 255
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Shards:
    """The shards in `folder`, of which the rows with a label in `task` are read."""

    folder: Folder
    manifest: Manifest
    task: str


@dataclass(frozen=True)
class Names:
    """What tells a row from others: its file's name, whether it was padded, its pixels' SHA-256.

    All (N,); the hashes are 32 bytes each.
    """

    files: NDArray[np.str_]
    padded: NDArray[np.bool_]
    hashes: NDArray[np.bytes_]


def open_shards(data: str, task: str) -> Shards:
    """The shards at `data`; DataError where there are none, or they have no such task."""
    folder = Folder(data)
    manifest = read_manifest(folder)
    manifest.classes_of(task)
    return Shards(folder, manifest, task)


def read_names(shards: Shards) -> Names:
    """The names of the rows that have a label; DataError for a damaged shard."""
    label = label_column(shards.task)
    files: list[str] = []
    fitted: list[str] = []
    hashes: list[bytes] = []
    for shard in shards.manifest.shards:
        with shard_errors(shards.folder, shard.name), shards.folder.open(shard.name) as file:
            columns = [label, "source", "fitted", "sha256"]
            table = pq.read_table(file, columns=columns, page_checksum_verification=True)
            table = table.filter(table.column(label).is_valid())
        files += table.column("source").to_pylist()
        fitted += table.column("fitted").to_pylist()
        hashes += table.column("sha256").to_pylist()
    return Names(
        np.array(files, np.str_),
        np.array(["padded" in how for how in fitted], np.bool_),
        np.array(hashes, "S32"),
    )


def scan(
    shards: Shards, wanted: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], Images]]:
    """Each row group's (row numbers (n,), pixels uint8 (n, H, W, 3)), of those `wanted`, or of all.

    A row's number is its place among the rows that have a label. A group without a wanted row is
    not read. DataError for a damaged shard.
    """
    start = 0
    for shard in shards.manifest.shards:
        with shard_errors(shards.folder, shard.name), shards.folder.open(shard.name) as file:
            content = pq.ParquetFile(file, page_checksum_verification=True)
            for group in range(content.num_row_groups):
                shown = _labelled(content, group, label_column(shards.task))
                rows = np.where(shown, start + np.cumsum(shown) - 1, -1)
                start += int(shown.sum())
                mask = shown if wanted is None else shown & np.isin(rows, wanted)
                if mask.any():
                    pixels = group_pixels(content, group, shards.manifest.shape)
                    whole = bool(mask.all())
                    yield (rows, pixels) if whole else (rows[mask], pixels[mask])


def _labelled(content: pq.ParquetFile, group: int, label: str) -> NDArray[np.bool_]:
    column = content.read_row_group(group, columns=[label]).column(label)
    return np.asarray(column.is_valid().to_numpy(), np.bool_)


def group_pixels(content: pq.ParquetFile, group: int, shape: tuple[int, int, int]) -> Images:
    """The pixels uint8 (n, H, W, 3) of row group `group`, which nobody may write to."""
    column = content.read_row_group(group, columns=["pixels"]).column("pixels").combine_chunks()
    parts = column.chunks if hasattr(column, "chunks") else [column]
    size = int(np.prod(shape))
    flat = [
        np.frombuffer(part.buffers()[1], np.uint8)[
            part.offset * size : (part.offset + len(part)) * size
        ]
        for part in parts
    ]
    whole = flat[0] if len(flat) == 1 else np.concatenate(flat)
    return whole.reshape(-1, *shape)


def unpadded(image: Images) -> Images:
    """`image` (H, W, 3) without the white at its right and bottom: what the file itself held.

    White that `raysearch shard` adds to a smaller image would make it less grey and less uniform
    than it is. Of an image that is white all over, one pixel is left.
    """
    ink = (image != WHITE).any(axis=2)
    down, across = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(down):
        return image[:1, :1]
    return image[: down[-1] + 1, : across[-1] + 1]
