"""Unpacks shards once on each node into one flat pixel file, which all processes memory-map.

Reading Parquet copies the pixels; a memory-mapped file does not, so all trials of a node use one
copy of the pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tokenize
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from raysearch.config.json_values import parse_json
from raysearch.data.cache_folder import (
    VARIABLE,
    FileState,
    cache_folder,
    content_hash,
    file_state,
    has_content_hash,
    private_folder,
)
from raysearch.data.disk_errors import disk_errors
from raysearch.data.files import Folder
from raysearch.data.parquet_files import filter_rows, read_parquet
from raysearch.data.shards.arrow_columns import to_integers
from raysearch.data.shards.bags import COUNT_COLUMN, Bags, bag_counts, copy_bags
from raysearch.data.shards.rows import ALL, Rows, View, row_columns
from raysearch.data.shards.shard_files import (
    check_patch_hashes,
    check_rows,
    check_totals,
    open_shard,
    pixel_chunks,
    read_verified,
)
from raysearch.data.shards.shard_manifest import Manifest, Shard, read_manifest
from raysearch.errors import DataError

# Where the text of the header of a .npy file of format version 1.0 begins.
NPY_HEADER_START = 10
HASH_COLUMN = "sha256"
# What reading the cached files raises; numpy parses the header of a .npy file as Python.
UNREADABLE = (
    *(OSError, ValueError, EOFError, RecursionError, MemoryError, KeyError, TypeError),
    *(SyntaxError, tokenize.TokenError, pa.ArrowException),
)
# A partial cached file, or a partial result of the check of one; the name of the entry is group 1.
PARTIAL_FILE = re.compile(
    r"\.[0-9a-f]{8}-(.+?)\.(?:npy|parquet|json)(?:\.(?:[0-9a-f-]*\.)?checked)?"
)
# The cached files whose content this process has compared with the stored hash.
_CHECKED: set[FileState] = set()
# The pixels of patches, uint8 (N, H*W*3), or the features of N slides.
Inputs = NDArray[np.uint8] | Bags


@dataclass(frozen=True)
class Patches(Rows):
    """The rows with their pixels.

    Attributes:
        pixels: uint8, shape (N, H*W*3), memory-mapped from the pixel file. Of bags, the features of
            all patches, float16, as bytes: shape (M, 2*D), the patches of a slide in succession.
        bag_ends: Of bags, the number of patches up to each slide and of it, int64, shape (N,); else
            None.
    """

    pixels: NDArray[np.uint8]
    bag_ends: NDArray[np.int64] | None = None

    @property
    def inputs(self) -> Inputs:
        """What a model takes: the pixels of each patch, or the features of each slide."""
        return self.pixels if self.bag_ends is None else Bags(self.pixels, self.bag_ends)

    def bag(self, row: int) -> NDArray[np.float16]:
        """Return the features of the patches of a slide, shape (patches, D)."""
        inputs = self.inputs
        if not isinstance(inputs, Bags):
            raise TypeError("these rows are no bags")
        return inputs[row]


def load_patches(address: str, cache: Path | None = None, view: View = ALL) -> Patches:
    """Memory-map the patches of the shards at `address` that `view` shows.

    The first process on a node writes the pixel file and a file with the rows, and verifies the
    hash of each shard; other processes wait for it.

    Args:
        address: The address of the shards.
        cache: The folder of the cached files; None for `cache_folder()`.
        view: Which rows to read.

    Raises:
        DataError: If the shards do not match their manifest, or there is not enough disk space.
    """
    folder = Folder(address)
    manifest = read_manifest(folder)
    cache = cache or cache_folder()
    entry = _CacheEntry(private_folder(cache / "pixels") / f"{manifest.fingerprint}-{view.key}.npy")
    try:
        with FileLock(entry.pixels.with_suffix(".lock")):
            if not entry.is_complete():
                _remove_abandoned(entry)
                _unpack(_Shards(folder, manifest, view), entry, cache / "shards")
    except OSError as error:
        raise DataError(
            f"{entry.pixels}: cannot be written ({error.strerror or error}); free disk space, or"
            f" set {VARIABLE} to another folder"
        ) from None
    return _map(entry, manifest, view)


@dataclass(frozen=True)
class _CacheEntry:
    """The cached files of a view of a set of shards; that of the hashes is written last."""

    pixels: Path

    @property
    def rows(self) -> Path:
        return self.pixels.with_suffix(".parquet")

    @property
    def hashes(self) -> Path:
        return self.pixels.with_suffix(".json")

    def is_complete(self) -> bool:
        return all(path.is_file() for path in (self.pixels, self.rows, self.hashes))

    def check(self) -> None:
        """Compare the content with the stored hashes, once in this process for each file.

        Raises:
            ValueError: If it differs.
        """
        stored = parse_json(self.hashes.read_bytes())
        for path in (self.pixels, self.rows):
            state = file_state(path)
            if state not in _CHECKED:
                expected = stored.get(path.suffix) if isinstance(stored, dict) else None
                if expected is None or not has_content_hash(path, expected):
                    raise ValueError(path.name)
                _CHECKED.add(state)


def _map(entry: _CacheEntry, manifest: Manifest, view: View) -> Patches:
    try:
        entry.check()
        # Copy-on-write: nothing writes to it, but torch needs a writable array.
        pixels: Any = np.load(entry.pixels, mmap_mode="c")
        table = read_parquet(str(entry.rows))
        counts = bag_counts(table) if manifest.is_bags else None
        num_rows = table.num_rows if counts is None else int(counts.sum())
        if pixels.shape != (num_rows, manifest.patch_bytes):
            raise ValueError("another shape")
        rows = Rows.from_table(table, manifest, view.task)
    except UNREADABLE:
        raise DataError(f"{entry.pixels}: damaged; remove it, and start again") from None
    values = {item.name: getattr(rows, item.name) for item in fields(rows)}
    return Patches(**values, pixels=pixels, bag_ends=None if counts is None else np.cumsum(counts))


@dataclass(frozen=True)
class _Shards:
    folder: Folder
    manifest: Manifest
    view: View


def _unpack(shards: _Shards, entry: _CacheEntry, shard_cache: Path) -> None:
    """Check all shards, and write what is visible of them to the files of `entry`."""
    manifest, suffix = shards.manifest, uuid.uuid4().hex[:8]
    partial = _CacheEntry(entry.pixels.with_name(f".{suffix}-{entry.pixels.name}"))
    columns = row_columns(manifest)
    try:
        shape = (manifest.num_patches, manifest.patch_bytes)
        copy = copy_bags if manifest.is_bags else _copy_pixels
        counts: list[int] = []
        flat = np.lib.format.open_memmap(partial.pixels, mode="w+", dtype=np.uint8, shape=shape)
        _allocate(partial.pixels)
        tables, masks, num_rows = [], [], 0
        for shard in manifest.shards:
            content = _fetch(shards.folder, shard, shard_cache)
            with open_shard(shards.folder, shard, manifest, content) as file:
                table = file.read(columns=[*columns, HASH_COLUMN])
                check_rows(table, shards.folder, shard, manifest)
                mask = shards.view.mask(table, manifest)
                patch_hashes = table.column(HASH_COLUMN).to_pylist()
                num_rows = copy(file, mask, patch_hashes, flat, num_rows, counts)
            tables.append(table.select(columns))
            masks.append(mask)
        flat.flush()
        del flat
        if not num_rows:
            raise DataError(
                f"{shards.folder.address}: no row with a label is visible; check its labels and its"
                " split manifest"
            )
        all_rows = pa.concat_tables(tables)
        check_totals(all_rows, shards.folder, manifest)
        _truncate(partial.pixels, (num_rows, shape[1]))
        visible_rows = filter_rows(all_rows, np.concatenate(masks))
        if manifest.is_bags:
            visible_rows = visible_rows.append_column(COUNT_COLUMN, to_integers(counts, np.int32))
        pq.write_table(visible_rows, partial.rows, write_page_checksum=True)
        hashes = {path.suffix: content_hash(path) for path in (partial.pixels, partial.rows)}
        partial.hashes.write_text(json.dumps(hashes))
        for name in ("rows", "pixels", "hashes"):
            getattr(partial, name).replace(getattr(entry, name))
    finally:
        for path in (partial.rows, partial.pixels, partial.hashes):
            path.unlink(missing_ok=True)


def _allocate(path: Path) -> None:
    """Allocate the file's disk space; OSError if there is too little.

    Without it, writing to a memory map of a full disk kills the process.
    """
    num_bytes = path.stat().st_size
    with disk_errors(path, num_bytes), path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, num_bytes)


def _remove_abandoned(locked: _CacheEntry) -> None:
    """Remove the partial files of killed processes: a process locks the entry that it writes.

    Args:
        locked: The entry that this process has locked.
    """
    for path in locked.pixels.parent.iterdir():
        match = PARTIAL_FILE.fullmatch(path.name)
        if match is None:
            continue
        if match[1] == locked.pixels.stem:
            path.unlink(missing_ok=True)
            continue
        with suppress(Timeout), FileLock(path.with_name(f"{match[1]}.lock"), blocking=False):
            path.unlink(missing_ok=True)


def _truncate(path: Path, shape: tuple[int, int]) -> None:
    """Truncate the .npy file at `path` to its first rows, and write their `shape` to its header."""
    with path.open("r+b") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise OSError(f"{path.name} has a header of version {version}")
        np.lib.format.read_array_header_1_0(file)
        data_start = file.tell()
        header = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
        file.seek(NPY_HEADER_START)
        file.write(header.ljust(data_start - NPY_HEADER_START - 1) + b"\n")
        file.truncate(data_start + shape[0] * shape[1])


def _fetch(folder: Folder, shard: Shard, cache: Path) -> bytes:
    """Read and verify a shard; from remote storage, a node fetches it once for all views."""
    if folder.is_local:
        return read_verified(folder, shard)
    private_folder(cache)
    name = f"{shard.sha256}.parquet"
    cached = Folder(cache)
    with FileLock(cache / f"{shard.sha256}.lock"):
        if cached.exists(name):
            content = cached.read(name)
            if hashlib.sha256(content).hexdigest() == shard.sha256:
                return content
        content = read_verified(folder, shard)
        cached.write(name, content)
        return content


def _copy_pixels(
    file: pq.ParquetFile,
    mask: NDArray[np.bool_],
    hashes: Sequence[bytes],
    flat: NDArray[np.uint8],
    start: int,
    _counts: list[int],
) -> int:
    """Copy the pixels of the visible rows of a shard, and check the pixels of all.

    Args:
        file: The shard.
        mask: Which rows of the shard are visible, shape (rows,).
        hashes: The SHA-256 of the pixels of each row of the shard.
        flat: All pixels, shape (N, H*W*3).
        start: The row of `flat` to which the first visible row is copied.

    Returns:
        The row of `flat` after the last copied row.

    Raises:
        pyarrow.ArrowInvalid: If a hash is not that of the pixels.
    """
    num_read = 0
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=["pixels"])
        for rows in pixel_chunks(table, flat.shape[1]):
            check_patch_hashes(rows, hashes[num_read : num_read + len(rows)])
            visible = mask[num_read : num_read + len(rows)]
            num_visible = int(visible.sum())
            flat[start : start + num_visible] = rows if num_visible == len(rows) else rows[visible]
            start, num_read = start + num_visible, num_read + len(rows)
    return start
