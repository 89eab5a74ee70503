"""Shards unpacked once a node into one flat pixel file, which every process maps.

Reading Parquet copies; a mapped file does not, so ten trials on a node share one set of pixels.
"""

from __future__ import annotations

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

from raysearch.data.file_lock import locked
from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import Manifest, Shard, label_column, read_manifest
from raysearch.data.view import ALL, GROUPS, View
from raysearch.errors import DataError

TEXTS = {"patients": "patient", "slides": "slide", "sites": "site", "parts": "split"}
NUMBERS = {"xs": "x", "ys": "y", "magnifications": "magnification"}
# Where the text of a .npy file's header begins, by its format's version 1.0.
HEADER_START = 10
COLUMNS = (*TEXTS.values(), *NUMBERS.values())


@dataclass(frozen=True)
class Rows:
    """Every row of a set of shards but its pixels, in their order.

    `labels` is int64 (N,); `patients`, `slides`, `sites` and `parts` (of an official split) are
    text (N,), empty for unknown; `xs`, `ys` and `magnifications` are float64 (N,) with NaN for
    unknown.
    """

    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    slides: NDArray[np.str_]
    sites: NDArray[np.str_]
    parts: NDArray[np.str_]
    magnifications: NDArray[np.float64]
    xs: NDArray[np.float64]
    ys: NDArray[np.float64]
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    fingerprint: str
    warnings: tuple[str, ...]

    def groups(self, by: str) -> NDArray[np.str_]:
        """The group of each row, (N,), by a column that every row has; DataError for another."""
        if by not in GROUPS:
            raise DataError(f"--by {by!r}: no such column; one of {', '.join(GROUPS)}")
        groups: NDArray[np.str_] = getattr(self, GROUPS[by])
        empty = int((groups == "").sum())
        if empty:
            raise DataError(
                f"--by {by}: {empty:,} of {len(groups):,} rows have none; choose another"
            )
        return groups


@dataclass(frozen=True)
class Patches(Rows):
    """The rows with their `pixels`, uint8 (N, H*W*3), mapped from the node's pixel file."""

    pixels: NDArray[np.uint8]


def cache_folder() -> Path:
    """Where a node keeps its pixel files: RAYSEARCH_CACHE, or `~/.cache/raysearch`."""
    return Path(os.environ.get("RAYSEARCH_CACHE") or Path.home() / ".cache" / "raysearch")


def load_rows(address: str, view: View = ALL) -> Rows:
    """The rows that `view` shows of the shards at `address`, without pixels.

    DataError where they cannot be used, or have no such task.
    """
    folder = Folder(address)
    manifest = read_manifest(folder)
    tables = []
    for shard in manifest.shards:
        with shard_errors(folder, shard.name), folder.open(shard.name) as file:
            tables.append(
                pq.read_table(file, columns=_names(manifest), page_checksum_verification=True)
            )
    table = pa.concat_tables(tables)
    _reject_count(table.num_rows, manifest.rows, address)
    shown = table.filter(_shown(table, manifest, view))
    if not shown.num_rows:
        raise DataError(f"{address}: no row of it has a label in task {view.task!r}; name another")
    return Rows(**_columns(shown, manifest, view))


def load_hashes(address: str, view: View | None = None) -> NDArray[np.bytes_]:
    """The SHA-256 of every patch of the shards at `address`, 32 bytes each, (N,).

    Of those that `view` shows, where one is given.
    """
    folder = Folder(address)
    manifest = read_manifest(folder)
    columns, found = ["sha256", *(() if view is None else _names(manifest))], []
    for shard in manifest.shards:
        with shard_errors(folder, shard.name), folder.open(shard.name) as file:
            table = pq.read_table(file, columns=columns, page_checksum_verification=True)
        if view is not None:
            table = table.filter(_shown(table, manifest, view))
        found += table.column("sha256").to_pylist()
    return np.array(found, dtype="V32").view("S32")


def load_patches(address: str, cache: Path | None = None, view: View = ALL) -> Patches:
    """The patches that `view` shows of those at `address`, mapped from one file of pixels a node.

    The first process to ask makes the file, and one of the rows beside it, checking each shard's
    hash, and moves them into place; the others wait for them. DataError for shards that are not
    what their manifest says, and where there is no room.
    """
    folder = Folder(address)
    manifest = read_manifest(folder)
    name = f"{manifest.fingerprint}-{view.key}.npy"
    path = (cache or cache_folder()) / "pixels" / name
    rows = path.with_suffix(".parquet")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if not (path.is_file() and rows.is_file()):
                _unpack(_Shards(folder, manifest, view), path, rows)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be made ({error.strerror or error}); make room, or set"
            " RAYSEARCH_CACHE to another folder"
        ) from None
    return _mapped(path, rows, manifest, view)


def _mapped(path: Path, rows: Path, manifest: Manifest, view: View) -> Patches:
    try:
        # Copy on write: nobody writes, and torch wants an array that could be written.
        pixels: Any = np.load(path, mmap_mode="c")
        table = pq.read_table(rows, page_checksum_verification=True)
    except (OSError, ValueError, EOFError, pa.ArrowException):
        raise DataError(f"{path}: damaged; remove it, and start again") from None
    if len(pixels) != table.num_rows:
        raise DataError(
            f"{path}: {len(pixels)} rows for {table.num_rows}; remove it, and start again"
        )
    return Patches(pixels=pixels, **_columns(table, manifest, view))


@dataclass(frozen=True)
class _Shards:
    folder: Folder
    manifest: Manifest
    view: View


def _unpack(shards: _Shards, path: Path, rows: Path) -> None:
    """Write the pixels that the view shows into the flat file at `path`, their rows at `rows`."""
    height, width, channels = shards.manifest.shape
    mark = uuid.uuid4().hex[:8]
    beside, rows_beside = (one.with_name(f".{one.name}.{mark}") for one in (path, rows))
    try:
        shape = (shards.manifest.rows, height * width * channels)
        flat = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        _claim_room(beside)
        tables, start = [], 0
        for shard in shards.manifest.shards:
            content = _fetched(shards.folder, shard, path.parent.with_name("shards"))
            with shard_errors(shards.folder, shard.name):
                file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
                table = file.read(columns=_names(shards.manifest))
                mask = _shown(table, shards.manifest, shards.view)
                tables.append(table.filter(mask))
                start = _copy_pixels(file, mask, flat, start)
        flat.flush()
        del flat
        if not start:
            raise DataError(f"{shards.folder.address}: no row is left of it; see its splits")
        _cut_to(beside, (start, shape[1]))
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


def _cut_to(path: Path, shape: tuple[int, int]) -> None:
    """Leave of the flat file at `path` its first rows, and say so in its header."""
    with path.open("r+b") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise OSError(f"{path.name} has a header of version {version}")
        np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        header = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
        file.seek(HEADER_START)
        file.write(header.ljust(start - HEADER_START - 1) + b"\n")
        file.truncate(start + shape[0] * shape[1])


def _checked(folder: Folder, shard: Shard) -> bytes:
    """The bytes of `shard`; DataError where they are not those that the manifest was made of."""
    with shard_errors(folder, shard.name):
        content = folder.read(shard.name)
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise DataError(
            f"{folder.path(shard.name)}: its hash is not the manifest's; shard the images"
            " again with `raysearch shard`"
        )
    return content


def _fetched(folder: Folder, shard: Shard, cache: Path) -> bytes:
    """The checked bytes of `shard`; a node fetches them from another machine once for all views."""
    if folder.is_local:
        return _checked(folder, shard)
    cache.mkdir(parents=True, exist_ok=True)
    name = f"{shard.sha256}.parquet"
    kept = Folder(cache)
    with locked(cache / f"{shard.sha256}.lock"):
        if kept.exists(name):
            content = kept.read(name)
            if hashlib.sha256(content).hexdigest() == shard.sha256:
                return content
        content = _checked(folder, shard)
        kept.write(name, content)
        return content


def _copy_pixels(
    file: pq.ParquetFile, mask: NDArray[np.bool_], flat: NDArray[np.uint8], start: int
) -> int:
    """Copy the rows of `file` that `mask` shows into `flat` from `start` on; where they end."""
    width, seen = flat.shape[1], 0
    for group in range(file.num_row_groups):
        column = file.read_row_group(group, columns=["pixels"]).column("pixels")
        for part in column.chunks:
            raw = np.frombuffer(part.buffers()[1], np.uint8)
            rows = raw[part.offset * width : (part.offset + len(part)) * width].reshape(-1, width)
            here = mask[seen : seen + len(part)]
            kept = int(here.sum())
            flat[start : start + kept] = rows if kept == len(part) else rows[here]
            start, seen = start + kept, seen + len(part)
    return start


def _shown(table: pa.Table, manifest: Manifest, view: View) -> NDArray[np.bool_]:
    """Which rows `view` shows."""
    manifest.classes_of(view.task)
    labels = table.column(label_column(view.task))
    shown = np.asarray(labels.is_valid().to_numpy(), np.bool_)
    if view.held_out:
        column = TEXTS[GROUPS[view.by]]
        groups = np.array(table.column(column).to_pylist(), dtype=np.str_)
        shown &= ~np.isin(groups, view.held_out)
    return shown


def _names(manifest: Manifest) -> list[str]:
    """The columns beside the pixels that the rows are made of."""
    return [*COLUMNS, *map(label_column, manifest.task_names)]


def _reject_count(rows: int, wanted: int, address: str) -> None:
    if rows != wanted:
        raise DataError(
            f"{address}: {rows} rows, {wanted} in its manifest; shard the images again with"
            " `raysearch shard`"
        )


def _columns(table: pa.Table, manifest: Manifest, view: View) -> dict[str, Any]:
    labels = table.column(label_column(view.task)).cast(pa.int64())
    texts = {name: table.column(column).to_pylist() for name, column in TEXTS.items()}
    numbers = {name: table.column(column).cast(pa.float64()) for name, column in NUMBERS.items()}
    return {
        "labels": np.array(labels.to_numpy()),  # one that torch may take as its own
        **{name: np.array(values, dtype=np.str_) for name, values in texts.items()},
        **{name: values.fill_null(np.nan).to_numpy() for name, values in numbers.items()},
        "shape": manifest.shape,
        "class_names": manifest.classes_of(view.task),
        "fingerprint": manifest.fingerprint,
        "warnings": manifest.warnings,
    }


@contextmanager
def shard_errors(folder: Folder, name: str) -> Iterator[None]:
    """Name the shard that is missing or damaged."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{folder.path(name)}: missing; copy the shards again, or shard the images again"
        ) from None
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(
            f"{folder.path(name)}: damaged ({reason}); copy the shards again, or shard the"
            " images again"
        ) from None
