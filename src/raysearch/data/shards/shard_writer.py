"""Writes decoded patches as Parquet shards, with their manifest and the list of rejected files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
from pydantic import JsonValue

from raysearch.config.names import LABEL
from raysearch.data.csv_files import csv_content
from raysearch.data.files import Folder
from raysearch.data.images.chunk_decoding import Chunk
from raysearch.data.images.decoding import Size
from raysearch.data.images.shared_memory import Slot, Slots
from raysearch.data.shards.arrow_columns import row_table, to_binary
from raysearch.data.shards.shard_file_writer import ShardFile
from raysearch.data.shards.shard_manifest import (
    CENTER,
    EXCLUDED,
    MANIFEST_FILE,
    TILE_SETTINGS,
    TILES,
    VERSION,
    Manifest,
    Shard,
    TaskCounts,
    TileSettings,
)
from raysearch.data.shards.source_names import SourceNames
from raysearch.data.shards.unfinished_shards import UnfinishedShards, WriterState, as_rejected
from raysearch.data.sources.listing import Item, Listing, Rejected
from raysearch.data.step_progress import StepCallback, StepProgress
from raysearch.errors import DataError
from raysearch.metrics.row_units import PATCHES

ROW_GROUPS_PER_SHARD = 4
REJECTED_FILE = "rejected.csv"
SHARDING, FINISHING = "Sharding", "Writing the manifest"


@dataclass
class _RowGroup:
    """Decoded rows that are not written yet.

    `slots` are the slots with the pixels, and the number of rows in each.
    """

    items: list[Item] = field(default_factory=list)
    resize_modes: list[str] = field(default_factory=list)
    hashes: bytearray = field(default_factory=bytearray)
    slots: list[tuple[Slot, int]] = field(default_factory=list)


@dataclass
class _SlideInWork:
    """A slide whose tiles are being added.

    `start` is the state before its first tile, `items` are its tiles so far, and `broken` is why it
    cannot be used, if it cannot.
    """

    name: str
    start: WriterState
    items: list[Item] = field(default_factory=list)
    broken: str = ""


class _Counts:
    """Counts of the rows that were added, for the manifest."""

    def __init__(self, num_tasks: int) -> None:
        self.rows = 0
        self.labels: list[Counter[int | None]] = [Counter() for _ in range(num_tasks)]
        self.resize_modes: Counter[str] = Counter()
        self.image_changes: Counter[str] = Counter()
        self.rejections: Counter[str] = Counter()
        self.patients: set[str] = set()

    def add(self, items: Sequence[Item], chunk: Chunk) -> None:
        """Count the decoded `items`; the first counter of `labels` is that of the default task."""
        self.rows += len(items)
        self.labels[0].update(item.label for item in items)
        for number, counter in enumerate(self.labels[1:]):
            counter.update(item.task_labels[number] for item in items)
        self.resize_modes.update(chunk.resize_modes)
        self.image_changes.update(chunk.image_changes)
        self.rejections.update(reason for _position, reason in chunk.rejected)
        self.patients.update(item.patient for item in items)

    def restore(self, state: WriterState) -> None:
        """Continue with the counts of a state."""
        self.rows = state.rows
        self.labels = [Counter(dict(labels)) for labels in state.labels]
        self.resize_modes = Counter(state.resize_modes)
        self.image_changes = Counter(state.image_changes)
        self.rejections = Counter(state.rejections)
        self.patients = set(state.patients)


class ShardWriter:
    """Collects chunks into row groups, and writes several row groups to each shard.

    The tiles of a slide begin a new shard: if the slide turns out to be damaged, its shards are
    removed, and all of its tiles are rejected. The state is then kept after each slide.

    Args:
        folder: The folder of the shards.
        listing: The source.
        size: (width, height) of a patch.
        slots: The slots with the chunks' pixels; each is given back when its rows are written.
        chunks_per_group: Number of chunks in a row group.
        progress: Is called with the number of files that are done.
        names: The names that are written.
        unfinished: Keeps the state whenever a shard is closed; its shards are continued.
    """

    def __init__(
        self,
        folder: Path,
        listing: Listing,
        size: Size,
        slots: Slots,
        chunks_per_group: int,
        progress: StepCallback,
        names: SourceNames,
        unfinished: UnfinishedShards[WriterState],
    ) -> None:
        self._folder, self._listing, self._progress = folder, listing, progress
        self._names, self._unfinished = names, unfinished
        self._slots, self._chunks_per_group = slots, chunks_per_group
        self._shape = (size[1], size[0], 3)
        self._row_bytes = size[0] * size[1] * 3
        self._group = _RowGroup()
        self._counts = _Counts(1 + len(listing.tasks))
        # Those of the listing, as they are in the source.
        self._unread = [*listing.rejected, *listing.excluded]
        # Those that decoding rejects, as they are written; and the first, as it is in the source.
        self._rejected: list[Rejected] = []
        self._first_rejected = next(iter(self._unread), None)
        self._num_items = 0
        self._num_files = len(listing.items) + len(self._unread)
        self._shards: list[Shard] = []
        self._file: ShardFile | None = None
        self._slide: _SlideInWork | None = None

    def restore(self, state: WriterState) -> None:
        """Continue after the shards of `state`."""
        self._num_items, self._shards = state.num_items, list(state.shards)
        self._rejected = as_rejected(state.rejected)
        self._counts.restore(state)
        self._show_progress()

    def add(self, items: list[Item], slot: Slot, chunk: Chunk) -> None:
        """Add a decoded chunk.

        Args:
            items: The items that were to be decoded.
            slot: The slot with the pixels of the decoded items.
            chunk: Which items were decoded, and which were rejected. Of a slide, the items are
                tiles of this slide only, and those of a slide follow each other.
        """
        if self._listing.slides is not None and not self._add_to_slide(items, slot, chunk):
            return
        decoded = [self._names.item(items[position]) for position in chunk.decoded]
        self._group.items += decoded
        self._group.resize_modes += chunk.resize_modes
        self._group.hashes += chunk.hashes
        self._group.slots.append((slot, len(decoded)))
        rejected = [Rejected(items[position].file, reason) for position, reason in chunk.rejected]
        self._first_rejected = self._first_rejected or next(iter(rejected), None)
        self._rejected += map(self._names.rejected, rejected)
        self._num_items += len(items)
        self._counts.add(decoded, chunk)
        if len(self._group.slots) == self._chunks_per_group:
            self._write_group()
        self._show_progress()

    def _add_to_slide(self, items: list[Item], slot: Slot, chunk: Chunk) -> bool:
        """Begin a slide or continue it; return whether the chunk is to be added."""
        if self._slide is None or self._slide.name != items[0].slide:
            self._end_slide()
            self._slide = _SlideInWork(items[0].slide, self._state())
        slide = self._slide
        slide.items += items
        if not chunk.broken and not slide.broken:
            return True
        self._slots.give_back(slot)
        self._num_items += len(items)
        if slide.broken:
            self._reject(items, slide.broken)
        else:
            slide.broken = chunk.broken
            self._discard(slide)
        self._show_progress()
        return False

    def _discard(self, slide: _SlideInWork) -> None:
        """Remove what is written of a slide, and reject its tiles."""
        group, self._group = self._group, _RowGroup()
        for slot, _num_rows in group.slots:
            self._slots.give_back(slot)
        self._close_shard()
        for shard in self._shards[len(slide.start.shards) :]:
            (self._folder / shard.name).unlink()
        self._shards = list(slide.start.shards)
        self._counts.restore(slide.start)
        self._reject(slide.items, slide.broken)

    def _reject(self, items: Sequence[Item], reason: str) -> None:
        rejected = [Rejected(item.file, reason) for item in items]
        self._first_rejected = self._first_rejected or rejected[0]
        self._rejected += map(self._names.rejected, rejected)
        self._counts.rejections[reason] += len(items)

    def _end_slide(self) -> None:
        """Close the shard of a slide, and keep the state: the next call continues after it."""
        if self._slide is not None:
            self._write_group()
            self._close_shard()
            if self._shards:
                self._unfinished.write(self._state())

    def _show_progress(self) -> None:
        num_done = self._num_items + len(self._unread)
        self._progress(StepProgress(SHARDING, num_done, self._num_files, PATCHES))

    def finish(self, source_format: str, source: str) -> Manifest:
        """Write the remaining rows, the list of the rejected files and the manifest.

        Args:
            source_format: The name of the source's format.
            source: The source.

        Raises:
            DataError: If no file could be decoded.
        """
        self._progress(StepProgress(FINISHING, 0, 0, PATCHES))
        self._write_group()
        self._close_shard()
        if not self._counts.rows:
            first = self._first_rejected
            reason = f" ({first.file}: {first.reason})" if first else ""
            raise DataError(
                f"{source}: none of its {self._num_files} files is a usable patch{reason}; see"
                " --format"
            )
        manifest = self._manifest(source_format, source)
        folder = Folder(self._folder)
        rejected = sorted([*map(self._names.rejected, self._unread), *self._rejected])
        folder.write(REJECTED_FILE, csv_content(Rejected._fields, rejected))
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
            source=self._names.source(source),
            files=self._num_files,
            rows=self._counts.rows,
            rejected=len(self._unread) + len(self._rejected),
            patients=len(self._counts.patients),
            shape=self._shape,
            class_names=default_task.class_names,
            class_counts=default_task.class_counts,
            tasks=tuple(tasks),
            resize_modes=dict(self._counts.resize_modes),
            warnings=tuple(map(self._names.warning, self._listing.warnings)),
            shards=tuple(self._shards),
            image_changes=dict(self._counts.image_changes),
            rejections=dict(self._counts.rejections),
            pseudonyms=self._names.key_id,
            requires=() if self._listing.slides is None else (TILES,),
            extensions=self._extensions(),
        )

    def _extensions(self) -> dict[str, JsonValue]:
        """The patches that the user leaves out with their reasons, and the center of the labels."""
        extensions: dict[str, JsonValue] = {}
        excluded = sorted(map(self._names.rejected, self._listing.excluded))
        if excluded:
            extensions[EXCLUDED] = {entry.file: entry.reason for entry in excluded}
        if self._listing.center is not None:
            extensions[CENTER] = self._listing.center
        if self._listing.slides is not None:
            options = self._listing.slides.options
            settings = TileSettings(options.mpp, options.overlap, options.min_tissue)
            extensions[TILE_SETTINGS] = asdict(settings)
        return extensions

    def _write_group(self) -> None:
        group, self._group = self._group, _RowGroup()
        if group.items:
            tasks = [task.name for task in self._listing.tasks]
            self._write_table(
                row_table(
                    group.items,
                    self._pixels(group),
                    group.hashes,
                    group.resize_modes,
                    tasks,
                    has_tiles=self._listing.slides is not None,
                )
            )
        for slot, _num_rows in group.slots:
            self._slots.give_back(slot)

    def _pixels(self, group: _RowGroup) -> pa.ChunkedArray:
        """The pixels of the row group as Arrow, without copying them."""
        views = [
            (self._slots.view(slot, num_rows * self._row_bytes), num_rows)
            for slot, num_rows in group.slots
        ]
        return pa.chunked_array([to_binary(view, num_rows) for view, num_rows in views if num_rows])

    def _write_table(self, table: pa.Table) -> None:
        if self._file is None:
            path = self._folder / f"part-{len(self._shards):05d}.parquet"
            self._file = ShardFile(path, table.schema)
        self._file.write(table)
        if self._file.num_groups == ROW_GROUPS_PER_SHARD:
            self._close_shard()
            if self._slide is None:
                self._unfinished.write(self._state())

    def _close_shard(self) -> None:
        if self._file is not None:
            self._shards.append(self._file.close())
            self._file = None

    def _state(self) -> WriterState:
        counts = self._counts
        return WriterState(
            num_items=self._num_items,
            rows=counts.rows,
            labels=tuple(tuple(counter.items()) for counter in counts.labels),
            resize_modes=dict(counts.resize_modes),
            image_changes=dict(counts.image_changes),
            rejections=dict(counts.rejections),
            patients=tuple(sorted(counts.patients)),
            rejected=tuple(self._rejected),
            shards=tuple(self._shards),
        )
