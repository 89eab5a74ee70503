"""Finds what two sets of patches have in common: patients by name, and patches by their pixels.

A file name proves nothing: where no patient is known, each file counts as its own patient, and two
sets can both have a `0.png`. Only names that are no file names are compared. Patches of a single
color, such as empty background, are equal without showing the same tissue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.data.audit.duplicates import is_single_color
from raysearch.data.audit.shard_reader import Images, read_row_group_pixels, remove_padding
from raysearch.data.files import Folder
from raysearch.data.parquet_files import filter_rows
from raysearch.data.shards.rows import View, row_columns
from raysearch.data.shards.shard_files import check_rows, open_shard
from raysearch.data.shards.shard_manifest import read_manifest

MAX_NAMED = 3


@dataclass(frozen=True)
class PatchOrigins:
    """The origin of each of N patches of a set of shards.

    Attributes:
        data: Path or address of the shards.
        row_numbers: Number of each patch among all rows of the shards, ascending, shape (N,).
        files: Names of the source files, shape (N,).
        patients: Patient of each patch, shape (N,); the file's name if no patient is known.
        pixel_hashes: SHA-256 of the pixels, 32 bytes each, shape (N,).
        padded: Whether sharding padded the image with white, shape (N,).
    """

    data: str
    row_numbers: NDArray[np.int64]
    files: NDArray[np.str_]
    patients: NDArray[np.str_]
    pixel_hashes: NDArray[np.bytes_]
    padded: NDArray[np.bool_]

    @property
    def known_patients(self) -> frozenset[str]:
        """The patients that are not the names of their files."""
        return frozenset(self.patients[self.patients != self.files].tolist())


class PixelMatch(NamedTuple):
    """Two files of different sets with the same pixels."""

    file: str
    other_file: str


def read_origins(data: str, view: View | None = None) -> PatchOrigins:
    """Read the origins of the patches at `data` that `view` shows; of all patches without a view.

    Raises:
        DataError: If the shards are missing or damaged.
    """
    folder = Folder(data)
    manifest = read_manifest(folder)
    columns = ["source", "patient", "sha256", "resize_mode"]
    values: dict[str, list[str | bytes]] = {column: [] for column in columns}
    row_numbers, start = [], 0
    for shard in manifest.shards:
        needed = columns if view is None else sorted({*columns, *row_columns(manifest)})
        with open_shard(folder, shard, manifest) as parquet:
            table = parquet.read(columns=needed)
            check_rows(table, folder, shard, manifest)
        visible = np.full(table.num_rows, True) if view is None else view.mask(table, manifest)
        row_numbers.append(start + np.flatnonzero(visible))
        start += table.num_rows
        table = filter_rows(table, visible)
        for column in columns:
            values[column] += table.column(column).to_pylist()
    return PatchOrigins(
        data,
        np.concatenate(row_numbers),
        np.array(values["source"], np.str_),
        np.array(values["patient"], np.str_),
        np.array(values["sha256"], "V32").view("S32"),
        np.array(["padded" in str(mode) for mode in values["resize_mode"]], np.bool_),
    )


def common_patients(first: PatchOrigins, second: PatchOrigins) -> list[str]:
    """Return the patients that are known in both sets, sorted by name."""
    return sorted(first.known_patients & second.known_patients)


def pixel_matches(first: PatchOrigins, second: PatchOrigins) -> list[PixelMatch]:
    """Return each patch of `first` whose pixels are those of a patch of `second`.

    Patches of a single color are left out; of slides, the features are compared.
    """
    second_files = dict(zip(second.pixel_hashes.tolist(), second.files.tolist(), strict=True))
    matches = _textured_rows(first, np.isin(first.pixel_hashes, second.pixel_hashes))
    return [
        PixelMatch(str(first.files[index]), second_files[first.pixel_hashes[index]])
        for index in matches
    ]


def textured_files(origins: PatchOrigins, mask: NDArray[np.bool_]) -> list[str]:
    """Return the files of the patches in `mask`, shape (N,), that have more than one color."""
    return [str(origins.files[index]) for index in _textured_rows(origins, mask)]


def _textured_rows(origins: PatchOrigins, mask: NDArray[np.bool_]) -> list[int]:
    """Return the indices of the patches in `mask`, shape (N,), that have more than one color."""
    indices = np.flatnonzero(mask)
    if not len(indices):
        return []
    if read_manifest(Folder(origins.data)).is_bags:  # features have no color
        return list(indices.tolist())
    _hashes, unique = np.unique(origins.pixel_hashes[indices], return_index=True)
    padded = dict(zip(origins.row_numbers.tolist(), origins.padded.tolist(), strict=True))
    hashes = dict(zip(origins.row_numbers.tolist(), origins.pixel_hashes.tolist(), strict=True))
    textured = {
        hashes[row]
        for row, image in read_images(origins.data, np.sort(origins.row_numbers[indices[unique]]))
        if not is_single_color(remove_padding(image) if padded[row] else image)
    }
    return [index for index in indices.tolist() if origins.pixel_hashes[index] in textured]


def read_images(data: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Images]]:
    """Read patches of the shards at `data`.

    Args:
        data: Path or address of the shards.
        rows: Numbers of the patches among all rows, ascending, shape (N,).

    Yields:
        Number and pixels (H, W, 3) of each patch.

    Raises:
        DataError: If the shards are missing or damaged.
    """
    folder = Folder(data)
    manifest = read_manifest(folder)
    start = 0
    for shard in manifest.shards:
        end = start + shard.rows
        selected = rows[(rows >= start) & (rows < end)]
        if len(selected):
            with open_shard(folder, shard, manifest) as parquet:
                yield from _read_shard_images(parquet, selected - start, start, manifest.shape)
        start = end


def _read_shard_images(
    parquet: pq.ParquetFile, rows: NDArray[np.int64], offset: int, shape: tuple[int, int, int]
) -> Iterator[tuple[int, Images]]:
    start = 0
    for group in range(parquet.num_row_groups):
        end = start + parquet.metadata.row_group(group).num_rows
        selected = rows[(rows >= start) & (rows < end)]
        if len(selected):
            pixels = read_row_group_pixels(parquet, group, shape)
            yield from ((offset + row, pixels[row - start]) for row in selected.tolist())
        start = end


def matches_text(matches: Sequence[PixelMatch]) -> str:
    """Return the first of the `matches` by their files."""
    names = [f"{match.file!r} is {match.other_file!r}" for match in matches[:MAX_NAMED]]
    return ", ".join([*names, *(["..."] if len(matches) > MAX_NAMED else [])])
