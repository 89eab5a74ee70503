"""Decoded patches as Parquet: row groups, shards of some of these, and the manifest over all."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.data.files import Folder
from raysearch.data.shards.decoding import Chunk, Size
from raysearch.data.shards.shard_manifest import LABEL, NAME, VERSION, Manifest, Shard, Task
from raysearch.data.shards.shared_memory import Slot, Slots
from raysearch.data.sources.listing import Item, Listing, Rejected
from raysearch.errors import DataError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

GROUPS_A_SHARD = 4
REJECTED = "rejected.csv"
Progress = Callable[[int, int], None]


class ShardWriter:
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
        self._rejected = list(listing.rejected)
        self._all = len(listing.items) + len(listing.rejected)
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
        self._rejected += (Rejected(items[place].file, reason) for place, reason in chunk.rejected)
        self._kept += len(kept)
        self._labels[0].update(item.label for item in kept)
        for number, counter in enumerate(self._labels[1:]):
            counter.update(item.others[number] for item in kept)
        self._fitted.update(chunk.fitted)
        self._patients.update(item.patient for item in kept)
        if len(self._filled) == self._group:
            self._write_group()
        done = self._kept + len(self._rejected)
        self._progress(done, self._all)

    def finish(self, form: str, source: str) -> Manifest:
        """Write what is left, the rejected files and the manifest."""
        self._write_group()
        self._close_shard()
        rows = self._kept
        if not rows:
            reason = (
                f" ({self._rejected[0].file}: {self._rejected[0].reason})" if self._rejected else ""
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
            rejected=len(self._rejected),
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
        table.writerows(sorted(self._rejected))
        here.write(REJECTED, text.getvalue().encode("utf-8", "surrogateescape"))
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
