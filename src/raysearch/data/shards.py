"""Images decoded once, on all cores, into Parquet shards that are never half-written."""

from __future__ import annotations

import csv
import hashlib
import io
import multiprocessing
import os
import shutil
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.data.decode import Chunk, Size, decode_files, draw_files, sizes_of
from raysearch.data.files import Folder
from raysearch.data.hdf5 import read_rows
from raysearch.data.manifest import LABEL, NAME, VERSION, Manifest, Shard, Task
from raysearch.data.slots import Slot, Slots
from raysearch.data.sources import list_source, most_frequent
from raysearch.data.sources.archive import NO_ROOM
from raysearch.data.sources.listing import Ask, Item, Listing, Refused
from raysearch.data.whole import written_whole
from raysearch.errors import DataError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# A worker's piece of work: few enough bytes that what is under way fits in memory.
CHUNK, CHUNK_BYTES = 256, 4 * 2**20
GROUP_BYTES = 64 * 2**20
GROUPS_A_SHARD = 4
# Chunks under way beyond four a worker: what the workers do while a group is being written.
AHEAD = 32
REFUSED = "refused.csv"
SCRATCH = ".unpacked"
NOTHING_ASKED = Ask()
Progress = Callable[[int, int], None]


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
    form: str | None,
    *,
    size: Size | None = None,
    ask: Ask = NOTHING_ASKED,
    progress: Progress = lambda _done, _all: None,
    workers: int | None = None,
) -> Manifest:
    """Decode `source` into shards in the folder `out`, by the format `form`, or the one it shows.

    `progress` gets (files done, all files). DataError for a source that cannot be used, or an
    `out` that holds something or cannot be written; then, as after any interruption, nothing is
    left behind.
    """
    workers = workers or os.cpu_count() or 1
    with ExitStack() as last, written_whole(out) as partial, _pool(workers) as pool:
        scratch = partial / SCRATCH
        scratch.mkdir()
        ask = replace(ask, scratch=scratch)
        form, listing = _listed(source, form, ask)  # while the workers start
        items = sorted(listing.items, key=lambda item: (item.patient, item.file))
        wanted = size or listing.size or _usual_size(pool, listing, items)
        rows = max(1, min(CHUNK, CHUNK_BYTES // (wanted[0] * wanted[1] * 3)))
        slot_bytes = rows * wanted[0] * wanted[1] * 3
        group, under_way = max(1, GROUP_BYTES // slot_bytes), 4 * workers + AHEAD
        # Closed after the workers have ended: they open it by a number that is free then.
        slots = last.enter_context(Slots(group + under_way, slot_bytes))
        chunks = iter(_cut(items, rows))
        waiting: deque[tuple[list[Item], Slot, Future[Chunk]]] = deque()
        writer = _Writer(partial, listing, wanted, slots, group, progress)
        while True:
            for some in islice(chunks, under_way - len(waiting)):
                slot = slots.take()
                future = _submit(pool, source, listing, some, wanted, slot)
                waiting.append((some, slot, future))
            if not waiting:
                shutil.rmtree(scratch)
                return writer.finish(form, source)
            some, slot, future = waiting.popleft()
            writer.add(some, slot, _result(source, some, future))


def _listed(source: str, form: str | None, ask: Ask) -> tuple[str, Listing]:
    try:
        return list_source(source, form, ask)
    except OSError as fault:
        if fault.errno in NO_ROOM:  # where it was unpacked to
            raise
        reason = fault.strerror or fault
        raise DataError(
            f"{source}: cannot be read ({fault.filename or source}: {reason}); see what is there"
        ) from None


def _submit(
    pool: ProcessPoolExecutor,
    source: str,
    listing: Listing,
    items: list[Item],
    size: Size,
    slot: Slot,
) -> Future[Chunk]:
    if listing.folder is not None:
        read = read_rows if listing.rows else decode_files
        return pool.submit(read, listing.folder, [item.file for item in items], size, slot)
    drawn = [
        (int(item.file.split("/")[1]), int(item.label or 0), int(item.patient[1:]))
        for item in items
    ]
    return pool.submit(draw_files, source, drawn, size, slot)


def _result(source: str, some: list[Item], future: Future[Chunk]) -> Chunk:
    try:
        return future.result()
    except BrokenExecutor:
        raise DataError(
            f"{source}: the process that read {some[0].file} and those after it, to"
            f" {some[-1].file}, crashed; take out what is damaged there, or free memory"
        ) from None


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    # Ctrl-C reaches every process of the terminal, and only this one is to answer it: the workers
    # are born with it blocked. The tracker unblocks it when it starts, so it goes first.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _later_interrupt():
            for _ in range(workers):  # each starts a worker, as none is ready yet
                pool.submit(int)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield pool
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _later_interrupt() -> Iterator[None]:
    """Answer Ctrl-C after the block: a worker that has got half of its orders prints a traceback.

    A mask is not enough, since the signal then goes to another thread of the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        signal.raise_signal(signal.SIGINT)


def _usual_size(pool: ProcessPoolExecutor, listing: Listing, items: list[Item]) -> Size:
    if listing.folder is None:
        raise DataError("this source has no images to measure; give --size")
    sizes: list[Size] = []
    files = [[item.file for item in some] for some in _cut(items, CHUNK)]
    for found in pool.map(sizes_of, [listing.folder] * len(files), files):
        sizes += found
    if not sizes:
        first = listing.refused[0] if listing.refused else None
        reason = f" ({first.file}: {first.reason})" if first else ""
        raise DataError(
            f"{listing.folder.address}: no usable image in it{reason}; see that they open, and"
            " --patient"
        )
    return most_frequent(sizes)


def _cut(items: list[Item], rows: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), rows):
        yield items[start : start + rows]


class _Writer:
    """Gathers chunks into row groups of `group` chunks, and row groups into shards."""

    def __init__(
        self,
        folder: Path,
        listing: Listing,
        size: Size,
        slots: Slots,
        group: int,
        progress: Progress,
    ) -> None:
        self._folder, self._listing, self._progress = folder, listing, progress
        self._slots, self._group = slots, group
        self._shape = (size[1], size[0], 3)
        self._row_bytes = size[0] * size[1] * 3
        self._items: list[Item] = []  # these four: decoded rows that are not written yet
        self._row_fits: list[str] = []
        self._hashes = bytearray()
        self._filled: list[tuple[Slot, int]] = []  # and how many rows are in it
        self._refused = list(listing.refused)
        self._all = len(listing.items) + len(listing.refused)
        self._labels: list[Counter[int | None]] = [Counter() for _ in range(1 + len(listing.tasks))]
        self._kept = 0
        self._fitted: Counter[str] = Counter()
        self._patients: set[str] = set()
        self._shards: list[Shard] = []
        self._writer: pq.ParquetWriter | None = None
        self._file: _HashedFile | None = None
        self._groups = self._rows = 0

    def add(self, items: list[Item], slot: Slot, chunk: Chunk) -> None:
        """Take what became of `items`, whose pixels are in `slot`."""
        kept = [items[place] for place in chunk.kept]
        self._items += kept
        self._row_fits += chunk.fitted
        self._hashes += chunk.hashes
        self._filled.append((slot, len(kept)))
        self._refused += (Refused(items[place].file, reason) for place, reason in chunk.refused)
        self._kept += len(kept)
        self._labels[0].update(item.label for item in kept)
        for number, counter in enumerate(self._labels[1:]):
            counter.update(item.others[number] for item in kept)
        self._fitted.update(chunk.fitted)
        self._patients.update(item.patient for item in kept)
        if len(self._filled) == self._group:
            self._write_group()
        done = self._kept + len(self._refused)
        self._progress(done, self._all)

    def finish(self, form: str, source: str) -> Manifest:
        """Write what is left, the refused files and the manifest."""
        self._write_group()
        self._close_shard()
        rows = self._kept
        if not rows:
            reason = (
                f" ({self._refused[0].file}: {self._refused[0].reason})" if self._refused else ""
            )
            raise DataError(
                f"{source}: none of its {self._all} files is a usable patch{reason}; see --format"
            )
        first, *further = (
            Task(name, names, tuple(counts[number] for number in range(len(names))))
            for (name, names), counts in zip(_tasks(self._listing), self._labels, strict=True)
        )
        manifest = Manifest(
            version=VERSION,
            format=form,
            source=source,
            files=self._all,
            rows=rows,
            refused=len(self._refused),
            patients=len(self._patients),
            shape=self._shape,
            class_names=first.class_names,
            class_counts=first.class_counts,
            tasks=tuple(further),
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
        if self._items:
            rows = _Decoded(self._items, self._row_fits, self._pixels(), self._hashes)
            self._write_table(_table(rows, [task.name for task in self._listing.tasks]))
        for slot, _rows in self._filled:
            self._slots.give_back(slot)
        self._items, self._row_fits, self._hashes, self._filled = [], [], bytearray(), []

    def _pixels(self) -> pa.ChunkedArray:
        """The pixels where they are."""
        views = [
            (self._slots.view(slot, rows * self._row_bytes), rows) for slot, rows in self._filled
        ]
        return pa.chunked_array([_binary(view, rows) for view, rows in views if rows])

    def _write_table(self, table: pa.Table) -> None:
        if self._writer is None:
            self._file = _HashedFile(self._folder / f"part-{len(self._shards):05d}.parquet")
            self._writer = pq.ParquetWriter(
                pa.PythonFile(self._file, "w"),
                table.schema,
                compression="none",
                use_dictionary=False,
                write_statistics=False,
                write_page_checksum=True,
            )
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._groups += 1
        self._rows += table.num_rows
        if self._groups == GROUPS_A_SHARD:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._writer is None or self._file is None:
            return
        self._writer.close()
        self._file.close()
        path = self._file.path
        self._shards.append(Shard(path.name, self._rows, path.stat().st_size, self._file.hash))
        self._writer, self._file, self._groups, self._rows = None, None, 0, 0


class _HashedFile(io.BufferedWriter):
    """A new file that knows its SHA-256 while it is written from its start to its end."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "x"))
        self.path = path
        self._sum = hashlib.sha256()

    @property
    def hash(self) -> str:
        """The SHA-256 of what was written, in hex."""
        return self._sum.hexdigest()

    def write(self, content: ReadableBuffer, /) -> int:
        self._sum.update(content)
        return super().write(content)


def _tasks(listing: Listing) -> list[tuple[str, tuple[str, ...]]]:
    """Every task of the listing with its classes, the one of `class_names` first."""
    further = [(task.name, task.class_names) for task in listing.tasks]
    return [(LABEL, listing.class_names), *further]


@dataclass(frozen=True)
class _Decoded:
    """Rows that are decoded and not written yet."""

    items: list[Item]
    fitted: list[str]
    pixels: pa.ChunkedArray
    hashes: bytearray


def _table(rows: _Decoded, tasks: Sequence[str]) -> pa.Table:
    """The rows as Arrow, all from buffers: `pa.array` of a list imports pandas, for a second."""
    items = rows.items
    columns = {
        "pixels": rows.pixels,
        "label": _integers([item.label for item in items], np.int16),
        "patient": _texts([item.patient for item in items]),
        "slide": _texts([item.slide for item in items]),
        "x": _integers([item.x for item in items], np.int32),
        "y": _integers([item.y for item in items], np.int32),
        "site": _texts([item.site for item in items]),
        "magnification": _integers([item.magnification for item in items], np.int32),
        "split": _texts([item.split for item in items]),
        "source": _texts([item.file for item in items]),
        "fitted": _texts(rows.fitted),
        "sha256": _binary(memoryview(rows.hashes), len(items)),
    }
    for number, name in enumerate(tasks):
        labels = [item.others[number] for item in items]
        columns[f"{LABEL}_{name}"] = _integers(labels, np.int16)
    return pa.Table.from_arrays(list(columns.values()), list(columns))


def _binary(content: memoryview, count: int) -> pa.Array:
    kind = pa.binary(len(content) // count)
    return pa.FixedSizeBinaryArray.from_buffers(kind, count, [None, pa.py_buffer(content)])


def _integers(values: Sequence[int | None], kind: type[np.int16] | type[np.int32]) -> pa.Array:
    known = np.array([value is not None for value in values])
    numbers = np.array([value or 0 for value in values], kind)
    bits = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little").tobytes())
    arrow = pa.int16() if kind is np.int16 else pa.int32()
    return pa.Array.from_buffers(arrow, len(values), [bits, pa.py_buffer(numbers.tobytes())])


def _texts(values: Sequence[str]) -> pa.Array:
    first, count = values[0], len(values)
    if values.count(first) == count:  # a site, a part, how it fits: the same for most sets
        one = first.encode()
        content, ends = one * count, np.arange(count + 1, dtype=np.int32) * len(one)
    else:
        encoded = [value.encode() for value in values]
        content, ends = b"".join(encoded), np.cumsum([0, *map(len, encoded)])
    offsets = pa.py_buffer(ends.astype(np.int32).tobytes())
    return pa.StringArray.from_buffers(count, offsets, pa.py_buffer(content))
