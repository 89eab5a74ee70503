"""Unpacks shards once on each node into one flat pixel file, which all processes memory-map.

Reading Parquet copies the pixels; a memory-mapped file does not, so all trials of a node use one
copy of the pixels.
"""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.shards.rows import ALL, Rows, View, row_columns, shard_errors
from raysearch.data.shards.shard_manifest import Manifest, Shard, read_manifest
from raysearch.errors import DataError

# Where the text of the header of a .npy file of format version 1.0 begins.
NPY_HEADER_START = 10


@dataclass(frozen=True)
class Patches(Rows):
    """The rows with their `pixels`, uint8, shape (N, H*W*3), memory-mapped from the pixel file."""

    pixels: NDArray[np.uint8]


def cache_folder() -> Path:
    """The folder of a node's cached files: RAYSEARCH_CACHE, or `~/.cache/raysearch`."""
    return Path(os.environ.get("RAYSEARCH_CACHE") or Path.home() / ".cache" / "raysearch")


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
    pixel_path = (cache or cache_folder()) / "pixels" / f"{manifest.fingerprint}-{view.key}.npy"
    row_path = pixel_path.with_suffix(".parquet")
    try:
        pixel_path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(pixel_path.with_suffix(".lock")):
            if not (pixel_path.is_file() and row_path.is_file()):
                _unpack(_Shards(folder, manifest, view), pixel_path, row_path)
    except OSError as error:
        raise DataError(
            f"{pixel_path}: cannot be written ({error.strerror or error}); free disk space, or set"
            " RAYSEARCH_CACHE to another folder"
        ) from None
    return _map(pixel_path, row_path, manifest, view)


def _map(pixel_path: Path, row_path: Path, manifest: Manifest, view: View) -> Patches:
    try:
        # Copy-on-write: nothing writes to it, but torch needs a writable array.
        pixels: Any = np.load(pixel_path, mmap_mode="c")
        table = pq.read_table(row_path, page_checksum_verification=True)
    except (OSError, ValueError, EOFError, pa.ArrowException):
        raise DataError(f"{pixel_path}: damaged; remove it, and start again") from None
    if len(pixels) != table.num_rows:
        raise DataError(
            f"{pixel_path}: {len(pixels)} rows for {table.num_rows}; remove it, and start again"
        )
    rows = Rows.from_table(table, manifest, view.task)
    return Patches(**{item.name: getattr(rows, item.name) for item in fields(rows)}, pixels=pixels)


@dataclass(frozen=True)
class _Shards:
    folder: Folder
    manifest: Manifest
    view: View


def _unpack(shards: _Shards, pixel_path: Path, row_path: Path) -> None:
    """Write the visible pixels to the flat file `pixel_path`, and their rows to `row_path`."""
    height, width, channels = shards.manifest.shape
    suffix = uuid.uuid4().hex[:8]
    partial_pixels, partial_rows = (
        path.with_name(f".{path.name}.{suffix}") for path in (pixel_path, row_path)
    )
    try:
        shape = (shards.manifest.rows, height * width * channels)
        flat = np.lib.format.open_memmap(partial_pixels, mode="w+", dtype=np.uint8, shape=shape)
        _allocate(partial_pixels)
        tables, num_rows = [], 0
        for shard in shards.manifest.shards:
            content = _fetch(shards.folder, shard, pixel_path.parent.with_name("shards"))
            with shard_errors(shards.folder, shard.name):
                file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
                table = file.read(columns=row_columns(shards.manifest))
                mask = shards.view.mask(table, shards.manifest)
                tables.append(table.filter(mask))
                num_rows = _copy_pixels(file, mask, flat, num_rows)
        flat.flush()
        del flat
        if not num_rows:
            raise DataError(f"{shards.folder.address}: no row is visible; check its split manifest")
        _truncate(partial_pixels, (num_rows, shape[1]))
        pq.write_table(pa.concat_tables(tables), partial_rows, write_page_checksum=True)
        partial_rows.replace(row_path)
        partial_pixels.replace(pixel_path)
    finally:
        partial_pixels.unlink(missing_ok=True)
        partial_rows.unlink(missing_ok=True)


def _allocate(path: Path) -> None:
    """Allocate the file's disk space; OSError if there is too little.

    Without it, writing to a memory map of a full disk kills the process.
    """
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


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
        return _read_verified(folder, shard)
    cache.mkdir(parents=True, exist_ok=True)
    name = f"{shard.sha256}.parquet"
    cached = Folder(cache)
    with FileLock(cache / f"{shard.sha256}.lock"):
        if cached.exists(name):
            content = cached.read(name)
            if hashlib.sha256(content).hexdigest() == shard.sha256:
                return content
        content = _read_verified(folder, shard)
        cached.write(name, content)
        return content


def _read_verified(folder: Folder, shard: Shard) -> bytes:
    """Read a shard; DataError if its hash differs from that in the manifest."""
    with shard_errors(folder, shard.name):
        content = folder.read(shard.name)
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise DataError(
            f"{folder.path(shard.name)}: its hash is not the manifest's; shard the images"
            " again with `raysearch shard`"
        )
    return content


def _copy_pixels(
    file: pq.ParquetFile, mask: NDArray[np.bool_], flat: NDArray[np.uint8], start: int
) -> int:
    """Copy the pixels of the visible rows of a shard.

    Args:
        file: The shard.
        mask: Which rows of the shard are visible, shape (rows,).
        flat: All pixels, shape (N, H*W*3).
        start: The row of `flat` to which the first visible row is copied.

    Returns:
        The row of `flat` after the last copied row.
    """
    row_bytes, num_read = flat.shape[1], 0
    for group in range(file.num_row_groups):
        column = file.read_row_group(group, columns=["pixels"]).column("pixels")
        for chunk in column.chunks:
            raw = np.frombuffer(chunk.buffers()[1], np.uint8)
            chunk_bytes = raw[chunk.offset * row_bytes : (chunk.offset + len(chunk)) * row_bytes]
            rows = chunk_bytes.reshape(-1, row_bytes)
            visible = mask[num_read : num_read + len(chunk)]
            num_visible = int(visible.sum())
            flat[start : start + num_visible] = rows if num_visible == len(chunk) else rows[visible]
            start, num_read = start + num_visible, num_read + len(chunk)
    return start
