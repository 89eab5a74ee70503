"""Images decoded once, on all cores, into Parquet shards that are never half-written."""

from __future__ import annotations

import csv
import hashlib
import io
import multiprocessing
import os
import shutil
import signal
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.data.decode import RefusedImageError, Size, decode, image_size
from raysearch.data.files import Folder
from raysearch.data.manifest import NAME, VERSION, Manifest, Shard
from raysearch.data.sources import Item, Listing, Refused, list_source, most_frequent
from raysearch.data.synthetic import draw_patches
from raysearch.errors import DataError

CHUNK = 256
GROUP_BYTES = 64 * 2**20
GROUPS_A_SHARD = 4
REFUSED = "refused.csv"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """What a worker needs beside its items: where they are, and the size (width, height)."""

    form: str
    source: str
    folder: Folder | None
    size: Size


@dataclass
class Chunk:
    """Decoded items: the rows' pixels one after another, and what was refused."""

    items: list[Item] = field(default_factory=list)
    pixels: list[bytes] = field(default_factory=list)
    fitted: list[str] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def take(self, other: Chunk) -> None:
        """Add what `other` has."""
        for name in ("items", "pixels", "fitted", "hashes", "refused"):
            getattr(self, name).extend(getattr(other, name))


def parse_size(text: str) -> Size:
    """(width, height) of `N` or `WxH`; DataError where it is not that."""
    parts = text.lower().split("x")
    sides = [int(part) if part.isascii() and part.isdigit() else 0 for part in parts]
    if len(sides) not in (1, 2) or not all(1 <= side <= 4096 for side in sides):
        raise DataError(f"--size {text!r} is not a size; give N or WxH, 1 to 4096 a side")
    return sides[0], sides[-1]


def write_shards(
    source: str,
    out: Path,
    form: str,
    *,
    size: Size | None = None,
    patient: str | None = None,
    progress: Progress = lambda _done, _all: None,
    workers: int | None = None,
) -> Manifest:
    """Decode `source` by the format `form` into shards in the folder `out`.

    `progress` gets (files done, all files). DataError for a source that cannot be used, or an
    `out` that holds something or cannot be written; then, as after any interruption, nothing is
    left behind.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; remove it, or name another folder")
    listing = list_source(source, form, patient)
    items = sorted(listing.items, key=lambda item: (item.patient, item.file))
    workers = workers or os.cpu_count() or 1
    with _pool(workers) as pool, _beside(out) as partial:
        wanted = size or listing.size or _usual_size(pool, listing, items)
        job = Job(form, source, listing.folder, wanted)
        writer = _Writer(partial, listing, wanted, progress)
        for chunk in _in_order(pool, job, items, 4 * workers):
            writer.add(chunk)
        return writer.finish(form, source)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; only the parent is to answer it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` when the block ends well, and else is removed."""
    partial = out.resolve().with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True)
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as fault:
        raise DataError(
            f"{out}: cannot be written ({fault.strerror or fault}); make room, or name another"
            " folder"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _usual_size(pool: ProcessPoolExecutor, listing: Listing, items: list[Item]) -> Size:
    if listing.folder is None:
        raise DataError("this source has no images to measure; give --size")
    sizes: list[Size] = []
    for found in pool.map(_sizes, [listing.folder] * len(items), _chunks(items)):
        sizes += found
    if not sizes:
        first = listing.refused[0] if listing.refused else None
        reason = f" ({first.file}: {first.reason})" if first else ""
        raise DataError(
            f"{listing.folder.address}: no usable image in it{reason}; see that they open, and"
            " --patient"
        )
    return most_frequent(sizes)


def _chunks(items: list[Item]) -> Iterator[tuple[Item, ...]]:
    for start in range(0, len(items), CHUNK):
        yield tuple(items[start : start + CHUNK])


def _sizes(folder: Folder, items: Iterable[Item]) -> list[Size]:
    sizes = []
    for item in items:
        try:
            sizes.append(image_size(_content(folder, item.file), item.file))
        except (RefusedImageError, OSError):
            continue  # it is refused, by name, when it is decoded
    return sizes


def _in_order(pool: ProcessPoolExecutor, job: Job, items: list[Item], most: int) -> Iterator[Chunk]:
    """The decoded chunks in the order of `items`, with at most `most` under way."""
    chunks = iter(_chunks(items))
    waiting: deque[Future[Chunk]] = deque()
    while True:
        for chunk in islice(chunks, most - len(waiting)):
            waiting.append(pool.submit(decode_items, job, chunk))
        if not waiting:
            return
        yield waiting.popleft().result()


def decode_items(job: Job, items: tuple[Item, ...]) -> Chunk:
    """The pixels of `items`, in their order, and the refused ones with their reasons."""
    chunk = Chunk()
    if job.folder is None:
        numbers, labels, patients = (
            np.array([int(text) for text in column])
            for column in zip(
                *((one.file.split("/")[1], one.label, one.patient[1:]) for one in items),
                strict=True,
            )
        )
        for item, patch in zip(
            items, draw_patches(job.source, numbers, labels, patients), strict=True
        ):
            _keep(chunk, item, patch.tobytes(), "as is")
        return chunk
    for item in items:
        try:
            pixels, fitted = decode(_content(job.folder, item.file), item.file, job.size)
        except RefusedImageError as fault:
            chunk.refused.append(Refused(item.file, str(fault)))
        except OSError as fault:
            chunk.refused.append(Refused(item.file, f"cannot be read: {fault.strerror or fault}"))
        else:
            _keep(chunk, item, pixels.tobytes(), fitted)
    return chunk


def _content(folder: Folder, file: str) -> bytes:
    if not folder.is_local:
        return folder.read(file)
    with open(folder.path(file), "rb") as opened:  # noqa: PTH123 half the cost of fsspec's way
        return opened.read()


def _keep(chunk: Chunk, item: Item, pixels: bytes, fitted: str) -> None:
    chunk.items.append(item)
    chunk.pixels.append(pixels)
    chunk.fitted.append(fitted)
    chunk.hashes.append(hashlib.sha256(pixels).digest())


class _Writer:
    """Gathers chunks into row groups, and row groups into shards."""

    def __init__(self, folder: Path, listing: Listing, size: Size, progress: Progress) -> None:
        self._folder, self._listing, self._progress = folder, listing, progress
        self._shape = (size[1], size[0], 3)
        self._row_bytes = size[0] * size[1] * 3
        self._group_rows = max(1, GROUP_BYTES // self._row_bytes)
        self._pending = Chunk()
        self._refused = list(listing.refused)
        self._all = len(listing.items) + len(listing.refused)
        self._labels: Counter[int] = Counter()
        self._fitted: Counter[str] = Counter()
        self._patients: set[str] = set()
        self._shards: list[Shard] = []
        self._writer: pq.ParquetWriter | None = None
        self._groups = self._rows = 0

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk."""
        self._pending.take(chunk)
        self._refused += chunk.refused
        self._labels.update(item.label for item in chunk.items)
        self._fitted.update(chunk.fitted)
        self._patients.update(item.patient for item in chunk.items)
        while len(self._pending.items) >= self._group_rows:
            self._write_group()
        done = sum(self._labels.values()) + len(self._refused)
        self._progress(done, self._all)

    def finish(self, form: str, source: str) -> Manifest:
        """Write what is left, the refused files and the manifest."""
        if self._pending.items:
            self._write_group()
        self._close_shard()
        rows = sum(self._labels.values())
        if not rows:
            reason = (
                f" ({self._refused[0].file}: {self._refused[0].reason})" if self._refused else ""
            )
            raise DataError(
                f"{source}: none of its {self._all} files is a usable patch{reason}; see --format"
            )
        names = self._listing.class_names
        manifest = Manifest(
            version=VERSION,
            format=form,
            source=source,
            files=self._all,
            rows=rows,
            refused=len(self._refused),
            patients=len(self._patients),
            shape=self._shape,
            class_names=names,
            class_counts=tuple(self._labels[number] for number in range(len(names))),
            fitted=dict(self._fitted),
            warnings=self._listing.warnings,
            shards=tuple(self._shards),
        )
        here = Folder(self._folder)
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(("file", "reason"))
        table.writerows(sorted(self._refused))
        here.write(REFUSED, text.getvalue().encode("utf-8", "surrogateescape"))
        here.write(NAME, manifest.dump())
        return manifest

    def _write_group(self) -> None:
        count = self._group_rows
        group, rest = Chunk(), Chunk()
        for name in ("items", "pixels", "fitted", "hashes"):
            values = getattr(self._pending, name)
            setattr(group, name, values[:count])
            setattr(rest, name, values[count:])
        self._pending = rest
        table = _table(group, self._row_bytes)
        if self._writer is None:
            path = self._folder / f"part-{len(self._shards):05d}.parquet"
            self._writer = pq.ParquetWriter(
                path,
                table.schema,
                compression="none",
                use_dictionary=False,
                write_statistics=False,
                write_page_checksum=True,
            )
        self._writer.write_table(table, row_group_size=count)
        self._groups += 1
        self._rows += len(group.items)
        if self._groups == GROUPS_A_SHARD:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        path = self._folder / f"part-{len(self._shards):05d}.parquet"
        self._shards.append(Shard(path.name, self._rows, path.stat().st_size, file_hash(path)))
        self._writer, self._groups, self._rows = None, 0, 0


def _table(group: Chunk, row_bytes: int) -> pa.Table:
    pixels = pa.py_buffer(b"".join(group.pixels))
    hashes = pa.py_buffer(b"".join(group.hashes))
    count = len(group.items)
    columns = {
        "pixels": pa.FixedSizeBinaryArray.from_buffers(pa.binary(row_bytes), count, [None, pixels]),
        "label": pa.array([item.label for item in group.items], pa.int16()),
        "patient": pa.array([item.patient for item in group.items], pa.string()),
        "slide": pa.array([item.slide for item in group.items], pa.string()),
        "x": pa.array([item.x for item in group.items], pa.int32()),
        "y": pa.array([item.y for item in group.items], pa.int32()),
        "source": pa.array([item.file for item in group.items], pa.string()),
        "fitted": pa.array(group.fitted, pa.string()),
        "sha256": pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), count, [None, hashes]),
    }
    return pa.table(columns)


def file_hash(path: Path) -> str:
    """The SHA-256 of the file at `path`, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
