"""Writes decoded patches as Parquet shards, with their manifest and the list of rejected files."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.config.names import LABEL
from raysearch.data.files import Folder
from raysearch.data.images.decoding import Chunk, Size
from raysearch.data.images.shared_memory import Slot, Slots
from raysearch.data.shards.shard_manifest import (
    MANIFEST_FILE,
    VERSION,
    Manifest,
    Shard,
    TaskCounts,
    label_column,
)
from raysearch.data.sources.listing import Item, Listing, Rejected
from raysearch.errors import DataError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ROW_GROUPS_PER_SHARD = 4
REJECTED_FILE = "rejected.csv"
Progress = Callable[[int, int], None]


@dataclass
class _RowGroup:
    """Decoded rows that are not written yet.

    `slots` are the slots with the pixels, and the number of rows in each.
    """

    items: list[Item] = field(default_factory=list)
    resize_modes: list[str] = field(default_factory=list)
    hashes: bytearray = field(default_factory=bytearray)
    slots: list[tuple[Slot, int]] = field(default_factory=list)


class _Counts:
    """Counts of the rows that were added, for the manifest."""

    def __init__(self, num_tasks: int) -> None:
        self.rows = 0
        self.labels: list[Counter[int | None]] = [Counter() for _ in range(num_tasks)]
        self.resize_modes: Counter[str] = Counter()
        self.patients: set[str] = set()

    def add(self, items: Sequence[Item], resize_modes: Sequence[str]) -> None:
        """Count `items`; the first counter of `labels` is that of the default task."""
        self.rows += len(items)
        self.labels[0].update(item.label for item in items)
        for number, counter in enumerate(self.labels[1:]):
            counter.update(item.task_labels[number] for item in items)
        self.resize_modes.update(resize_modes)
        self.patients.update(item.patient for item in items)


class ShardWriter:
    """Collects chunks into row groups, and writes several row groups to each shard.

    Args:
        folder: The folder of the shards.
        listing: The source.
        size: (width, height) of a patch.
        slots: The slots with the chunks' pixels; each is given back when its rows are written.
        chunks_per_group: Number of chunks in a row group.
        progress: Is called with (files done, all files).
    """

    def __init__(
        self,
        folder: Path,
        listing: Listing,
        size: Size,
        slots: Slots,
        chunks_per_group: int,
        progress: Progress,
    ) -> None:
        self._folder, self._listing, self._progress = folder, listing, progress
        self._slots, self._chunks_per_group = slots, chunks_per_group
        self._shape = (size[1], size[0], 3)
        self._row_bytes = size[0] * size[1] * 3
        self._group = _RowGroup()
        self._counts = _Counts(1 + len(listing.tasks))
        self._rejected = list(listing.rejected)
        self._num_files = len(listing.items) + len(listing.rejected)
        self._shards: list[Shard] = []
        self._file: _ShardFile | None = None

    def add(self, items: list[Item], slot: Slot, chunk: Chunk) -> None:
        """Add a decoded chunk.

        Args:
            items: The items that were to be decoded.
            slot: The slot with the pixels of the decoded items.
            chunk: Which items were decoded, and which were rejected.
        """
        decoded = [items[position] for position in chunk.decoded]
        self._group.items += decoded
        self._group.resize_modes += chunk.resize_modes
        self._group.hashes += chunk.hashes
        self._group.slots.append((slot, len(decoded)))
        self._rejected += (
            Rejected(items[position].file, reason) for position, reason in chunk.rejected
        )
        self._counts.add(decoded, chunk.resize_modes)
        if len(self._group.slots) == self._chunks_per_group:
            self._write_group()
        self._progress(self._counts.rows + len(self._rejected), self._num_files)

    def finish(self, source_format: str, source: str) -> Manifest:
        """Write the remaining rows, the list of the rejected files and the manifest.

        Args:
            source_format: The name of the source's format.
            source: The source.

        Raises:
            DataError: If no file could be decoded.
        """
        self._write_group()
        self._close_shard()
        if not self._counts.rows:
            first = next(iter(self._rejected), None)
            reason = f" ({first.file}: {first.reason})" if first else ""
            raise DataError(
                f"{source}: none of its {self._num_files} files is a usable patch{reason}; see"
                " --format"
            )
        manifest = self._manifest(source_format, source)
        folder = Folder(self._folder)
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(Rejected._fields)
        table.writerows(sorted(self._rejected))
        folder.write(REJECTED_FILE, text.getvalue().encode("utf-8", "surrogateescape"))
        folder.write(MANIFEST_FILE, manifest.dump())
        return manifest

    def _manifest(self, source_format: str, source: str) -> Manifest:
        default_task, *tasks = (
            TaskCounts(name, names, tuple(counts[number] for number in range(len(names))))
            for (name, names), counts in zip(
                [(LABEL, self._listing.class_names), *self._listing.tasks],
                self._counts.labels,
                strict=True,
            )
        )
        return Manifest(
            version=VERSION,
            format=source_format,
            source=source,
            files=self._num_files,
            rows=self._counts.rows,
            rejected=len(self._rejected),
            patients=len(self._counts.patients),
            shape=self._shape,
            class_names=default_task.class_names,
            class_counts=default_task.class_counts,
            tasks=tuple(tasks),
            resize_modes=dict(self._counts.resize_modes),
            warnings=self._listing.warnings,
            shards=tuple(self._shards),
        )

    def _write_group(self) -> None:
        group, self._group = self._group, _RowGroup()
        if group.items:
            tasks = [task.name for task in self._listing.tasks]
            self._write_table(_to_table(group, self._pixels(group), tasks))
        for slot, _num_rows in group.slots:
            self._slots.give_back(slot)

    def _pixels(self, group: _RowGroup) -> pa.ChunkedArray:
        """The pixels of the row group as Arrow, without copying them."""
        views = [
            (self._slots.view(slot, num_rows * self._row_bytes), num_rows)
            for slot, num_rows in group.slots
        ]
        return pa.chunked_array(
            [_to_binary(view, num_rows) for view, num_rows in views if num_rows]
        )

    def _write_table(self, table: pa.Table) -> None:
        if self._file is None:
            path = self._folder / f"part-{len(self._shards):05d}.parquet"
            self._file = _ShardFile(path, table.schema)
        self._file.write(table)
        if self._file.num_groups == ROW_GROUPS_PER_SHARD:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._file is not None:
            self._shards.append(self._file.close())
            self._file = None


class _ShardFile:
    """A Parquet file that is being written."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = _HashedFile(path)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._file, "w"),
            schema,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
        self.num_groups = self._num_rows = 0

    def write(self, table: pa.Table) -> None:
        """Write `table` as one row group."""
        self._writer.write_table(table, row_group_size=table.num_rows)
        self.num_groups += 1
        self._num_rows += table.num_rows

    def close(self) -> Shard:
        """Close the file and return its entry of the manifest."""
        self._writer.close()
        self._file.close()
        path = self._file.path
        return Shard(path.name, self._num_rows, path.stat().st_size, self._file.hash)


class _HashedFile(io.BufferedWriter):
    """A new file that computes its SHA-256 while it is written from start to end."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "x"))
        self.path = path
        self._sha256 = hashlib.sha256()

    @property
    def hash(self) -> str:
        """The SHA-256, in hex, of what was written."""
        return self._sha256.hexdigest()

    def write(self, content: ReadableBuffer, /) -> int:
        self._sha256.update(content)
        return super().write(content)


def _to_table(group: _RowGroup, pixels: pa.ChunkedArray, tasks: Sequence[str]) -> pa.Table:
    """Convert rows to Arrow from buffers: `pa.array` of a list imports pandas, which takes 1 s."""
    items = group.items
    columns = {
        "pixels": pixels,
        LABEL: _to_integers([item.label for item in items], np.int16),
        "patient": _to_strings([item.patient for item in items]),
        "slide": _to_strings([item.slide for item in items]),
        "x": _to_integers([item.x for item in items], np.int32),
        "y": _to_integers([item.y for item in items], np.int32),
        "site": _to_strings([item.site for item in items]),
        "magnification": _to_integers([item.magnification for item in items], np.int32),
        "split": _to_strings([item.split for item in items]),
        "source": _to_strings([item.file for item in items]),
        "fitted": _to_strings(group.resize_modes),
        "sha256": _to_binary(memoryview(group.hashes), len(items)),
    }
    for number, task in enumerate(tasks):
        labels = [item.task_labels[number] for item in items]
        columns[label_column(task)] = _to_integers(labels, np.int16)
    return pa.Table.from_arrays(list(columns.values()), list(columns))


def _to_binary(content: memoryview, count: int) -> pa.Array:
    kind = pa.binary(len(content) // count)
    return pa.FixedSizeBinaryArray.from_buffers(kind, count, [None, pa.py_buffer(content)])


def _to_integers(values: Sequence[int | None], kind: type[np.int16] | type[np.int32]) -> pa.Array:
    is_valid = np.array([value is not None for value in values])
    numbers = np.array([value or 0 for value in values], kind)
    validity_bits = (
        None if is_valid.all() else pa.py_buffer(np.packbits(is_valid, bitorder="little").tobytes())
    )
    arrow_kind = pa.int16() if kind is np.int16 else pa.int32()
    buffers = [validity_bits, pa.py_buffer(numbers.tobytes())]
    return pa.Array.from_buffers(arrow_kind, len(values), buffers)


def _to_strings(values: Sequence[str]) -> pa.Array:
    first, count = values[0], len(values)
    if values.count(first) == count:  # such as the site: equal in all rows of most sources
        encoded_first = first.encode()
        content = encoded_first * count
        ends = np.arange(count + 1, dtype=np.int32) * len(encoded_first)
    else:
        encoded = [value.encode() for value in values]
        content, ends = b"".join(encoded), np.cumsum([0, *map(len, encoded)])
    offsets = pa.py_buffer(ends.astype(np.int32).tobytes())
    return pa.StringArray.from_buffers(count, offsets, pa.py_buffer(content))
