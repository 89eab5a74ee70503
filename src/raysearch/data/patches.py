"""Shards unpacked once a node into one flat pixel file, which every process maps.

Reading Parquet copies; a mapped file does not, so ten trials on a node share one set of pixels.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.manifest import Manifest, Shard, read_manifest
from raysearch.errors import DataError

COLUMNS = ("label", "patient", "x", "y")


@dataclass(frozen=True)
class Rows:
    """Every row of a set of shards but its pixels, in their order.

    `labels` is int64 (N,), `patients` text (N,), `xs` and `ys` float64 (N,) with NaN for unknown.
    """

    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    xs: NDArray[np.float64]
    ys: NDArray[np.float64]
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    fingerprint: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Patches(Rows):
    """The rows with their `pixels`, uint8 (N, H*W*3), mapped from the node's pixel file."""

    pixels: NDArray[np.uint8]


def cache_folder() -> Path:
    """Where a node keeps its pixel files: RAYSEARCH_CACHE, or `~/.cache/raysearch`."""
    return Path(os.environ.get("RAYSEARCH_CACHE") or Path.home() / ".cache" / "raysearch")


def load_rows(address: str) -> Rows:
    """The rows of the shards at `address`, without pixels; DataError where they cannot be used."""
    folder = Folder(address)
    manifest = read_manifest(folder)
    tables = []
    for shard in manifest.shards:
        with _shard_errors(folder, shard.name), folder.open(shard.name) as file:
            tables.append(
                pq.read_table(file, columns=list(COLUMNS), page_checksum_verification=True)
            )
    return Rows(**_columns(pa.concat_tables(tables), manifest, address))


def load_patches(address: str, cache: Path | None = None) -> Patches:
    """The patches of the shards at `address`, their pixels mapped from one file a node.

    The first process to ask makes the file, and one of the rows beside it, checking each shard's
    hash, and moves them into place; the others wait for them. DataError for shards that are not
    what their manifest says, and where there is no room.
    """
    folder = Folder(address)
    manifest = read_manifest(folder)
    path = (cache or cache_folder()) / "pixels" / f"{manifest.fingerprint}.npy"
    rows = path.with_suffix(".parquet")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if not (path.is_file() and rows.is_file()):
                _unpack(folder, manifest, path, rows)
    except OSError as fault:
        raise DataError(
            f"{path}: cannot be made ({fault.strerror or fault}); make room, or set"
            " RAYSEARCH_CACHE to another folder"
        ) from None
    return _mapped(path, rows, manifest)


def _mapped(path: Path, rows: Path, manifest: Manifest) -> Patches:
    try:
        # Copy on write: nobody writes, and torch wants an array that could be written.
        pixels: Any = np.load(path, mmap_mode="c")
        table = pq.read_table(rows, page_checksum_verification=True)
    except (OSError, ValueError, EOFError, pa.ArrowException):
        raise DataError(f"{path}: damaged; remove it, and start again") from None
    if len(pixels) != manifest.rows:
        raise DataError(
            f"{path}: {len(pixels)} rows for {manifest.rows}; remove it, and start again"
        )
    return Patches(pixels=pixels, **_columns(table, manifest, str(rows)))


def _unpack(folder: Folder, manifest: Manifest, path: Path, rows: Path) -> None:
    """Write the pixels of the shards into the flat file at `path`, the rest of them at `rows`."""
    height, width, channels = manifest.shape
    mark = uuid.uuid4().hex[:8]
    beside, rows_beside = (one.with_name(f".{one.name}.{mark}") for one in (path, rows))
    try:
        shape = (manifest.rows, height * width * channels)
        flat = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        _claim_room(beside)
        tables, start = [], 0
        for shard in manifest.shards:
            content = _checked(folder, shard)
            with _shard_errors(folder, shard.name):
                file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
                tables.append(file.read(columns=list(COLUMNS)))
                start = _copy_pixels(file, flat, start)
        flat.flush()
        del flat
        pq.write_table(pa.concat_tables(tables), rows_beside, write_page_checksum=True)
        rows_beside.replace(rows)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
        rows_beside.unlink(missing_ok=True)


def _claim_room(path: Path) -> None:
    """OSError now where the disk is too full; writing through a map would end the process."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _checked(folder: Folder, shard: Shard) -> bytes:
    """The bytes of `shard`; DataError where they are not those that the manifest was made of."""
    with _shard_errors(folder, shard.name):
        content = folder.read(shard.name)
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise DataError(
            f"{folder.path(shard.name)}: its hash is not the manifest's; shard the images"
            " again with `raysearch shard`"
        )
    return content


def _copy_pixels(file: pq.ParquetFile, flat: NDArray[np.uint8], start: int) -> int:
    for group in range(file.num_row_groups):
        column = file.read_row_group(group, columns=["pixels"]).column("pixels")
        for part in column.chunks:
            raw = np.frombuffer(part.buffers()[1], np.uint8)
            width = flat.shape[1]
            rows = raw[part.offset * width : (part.offset + len(part)) * width].reshape(-1, width)
            flat[start : start + len(part)] = rows
            start += len(part)
    return start


def _columns(table: pa.Table, manifest: Manifest, address: str) -> dict[str, Any]:
    if table.num_rows != manifest.rows:
        raise DataError(
            f"{address}: {table.num_rows} rows, {manifest.rows} in its manifest; shard the images"
            " again with `raysearch shard`"
        )
    places = {
        name: table.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy()
        for name in ("x", "y")
    }
    return {
        "labels": table.column("label").to_numpy().astype(np.int64),
        "patients": np.array(table.column("patient").to_pylist(), dtype=np.str_),
        "xs": places["x"],
        "ys": places["y"],
        "shape": manifest.shape,
        "class_names": manifest.class_names,
        "fingerprint": manifest.fingerprint,
        "warnings": manifest.warnings,
    }


@contextmanager
def _shard_errors(folder: Folder, name: str) -> Iterator[None]:
    """Name the shard that is missing or damaged."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{folder.path(name)}: missing; copy the shards again, or shard the images again"
        ) from None
    except (OSError, pa.ArrowException) as fault:
        reason = str(fault).splitlines()[0][:200]
        raise DataError(
            f"{folder.path(name)}: damaged ({reason}); copy the shards again, or shard the"
            " images again"
        ) from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file at `path` locked; the kernel lets go of it when the process dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
