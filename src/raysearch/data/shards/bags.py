"""Unpacks shards of bags: the features of all patches, one slide after another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.parquet_files import numeric_array
from raysearch.data.shards.rows import View, row_columns
from raysearch.data.shards.shard_files import POSITIONS, bag_values, open_shard
from raysearch.data.shards.shard_manifest import read_manifest

# The column of the unpacked rows with the number of the patches of a slide.
COUNT_COLUMN = "num_patches"
# Two numbers of 32 bits.
POSITION_BYTES = 8


@dataclass(frozen=True)
class Bags:
    """The features of the patches of slides, which are read one after another.

    Attributes:
        values: The float16 features of all patches as bytes, uint8, shape (M, 2*D).
        ends: The number of patches up to each slide and of it, int64, shape (N,).
    """

    values: NDArray[np.uint8]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of slides."""
        return len(self.ends)

    def __getitem__(self, row: int) -> NDArray[np.float16]:
        """Return the features of the patches of a slide, shape (patches, D)."""
        start = 0 if row == 0 else int(self.ends[row - 1])
        features: NDArray[np.float16] = self.values[start : int(self.ends[row])].view(np.float16)
        return features

    @classmethod
    def of(cls, slides: Sequence[NDArray[np.float16]], num_features: int) -> Bags:
        """Join the features of slides, each of shape (patches, D)."""
        ends = np.cumsum(list(map(len, slides)), dtype=np.int64)
        values = np.concatenate([np.empty((0, num_features), np.float16), *slides])
        return cls(values.view(np.uint8), ends)


def read_bags(
    parquet: pq.ParquetFile, group: int, patch_bytes: int
) -> tuple[Bags, list[NDArray[np.int32] | None]]:
    """Read the slides of a row group: their features, and where their patches are.

    Args:
        parquet: A shard that `open_shard` has opened.
        group: The number of the row group.
        patch_bytes: The bytes of the features of a patch.

    Returns:
        The features, and the positions (patches, 2) of each slide; None if they are unknown.

    Raises:
        pyarrow.ArrowInvalid: If features or positions are missing.
    """
    table = parquet.read_row_group(group, columns=["pixels", POSITIONS])
    features = [values.view(np.float16) for values in bag_values(table, patch_bytes)]
    positions: list[NDArray[np.int32] | None] = []
    for values, stored in zip(features, table.column(POSITIONS), strict=True):
        content = stored.as_py()
        if content and len(content) != POSITION_BYTES * len(values):
            raise pa.ArrowInvalid("column positions does not have two numbers for each patch")
        positions.append(np.frombuffer(content, np.int32).reshape(-1, 2) if content else None)
    return Bags.of(features, patch_bytes // 2), positions


def bag_counts(table: pa.Table) -> NDArray[np.int64]:
    """Return the number of patches of each slide; ValueError if one has none."""
    counts = np.array(numeric_array(table.column(COUNT_COLUMN)), np.int64)
    if len(counts) and counts.min() < 1:
        raise ValueError("a slide without patches")
    return counts


def copy_bags(
    file: pq.ParquetFile,
    mask: NDArray[np.bool_],
    hashes: Sequence[bytes],
    flat: NDArray[np.uint8],
    start: int,
    counts: list[int],
) -> int:
    """Copy the features of the visible slides of a shard, and check those of all.

    Args:
        file: The shard.
        mask: Which rows of the shard are visible, shape (rows,).
        hashes: The SHA-256 of the features of each row of the shard.
        flat: The features of all patches, shape (M, bytes).
        start: The patch of `flat` to which the first visible one is copied.
        counts: The number of patches of each visible slide is appended to it.

    Returns:
        The patch of `flat` after the last copied one.

    Raises:
        pyarrow.ArrowInvalid: If a hash is not that of the features, or there are too many patches.
    """
    row = 0
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=["pixels"])
        for features in bag_values(table, flat.shape[1]):
            if hashlib.sha256(features.data).digest() != hashes[row]:
                raise pa.ArrowInvalid("column sha256 does not have the hashes of the features")
            if mask[row]:
                if start + len(features) > len(flat):
                    raise pa.ArrowInvalid("more patches than in the manifest")
                flat[start : start + len(features)] = features
                counts.append(len(features))
                start += len(features)
            row += 1
    return start


@dataclass(frozen=True)
class SlidePatches:
    """The patches of a slide.

    Attributes:
        slide: The name of the slide.
        features: Their features, shape (n, D).
        positions: Their left and top sides on the slide in pixels, shape (n, 2); None if unknown.
    """

    slide: str
    features: NDArray[np.float16]
    positions: NDArray[np.int32] | None


def read_slides(address: str, view: View, rows: Sequence[int]) -> dict[int, SlidePatches]:
    """Read a few slides of shards of bags.

    Args:
        address: The address of the shards.
        view: What is visible of them.
        rows: The numbers of the slides among the visible rows.

    Raises:
        DataError: If the shards are missing or damaged.
    """
    folder = Folder(address)
    manifest = read_manifest(folder)
    needed_rows, slides, row = set(rows), {}, 0
    for shard in manifest.shards:
        with open_shard(folder, shard, manifest) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=row_columns(manifest))
                visible = np.flatnonzero(view.mask(table, manifest)).tolist()
                numbers = range(row, row + len(visible))
                row += len(visible)
                if needed_rows.isdisjoint(numbers):
                    continue
                names = table.column("slide").to_pylist()
                bags, positions = read_bags(file, group, manifest.patch_bytes)
                for number, index in zip(numbers, visible, strict=True):
                    if number in needed_rows:
                        slides[number] = SlidePatches(names[index], bags[index], positions[index])
    return slides
