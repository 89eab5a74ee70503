"""Writes slides as shards of bags: a row is a slide, with the features of its patches."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysearch.config.names import LABEL
from raysearch.data.atomic_directory import atomic_directory
from raysearch.data.csv_files import csv_content
from raysearch.data.files import Folder
from raysearch.data.shards.arrow_columns import row_table
from raysearch.data.shards.shard_file_writer import ShardFile
from raysearch.data.shards.shard_files import POSITIONS
from raysearch.data.shards.shard_manifest import (
    BAGS,
    MANIFEST_FILE,
    NUM_PATCHES,
    VERSION,
    Manifest,
    Shard,
    TaskCounts,
)
from raysearch.data.shards.shard_writer import REJECTED_FILE
from raysearch.data.shards.source_names import SourceNames
from raysearch.data.shards.unfinished_shards import UnfinishedShards, has_finished_shards
from raysearch.data.sources.listing import Item, Rejected, Task
from raysearch.data.step_progress import StepCallback, StepProgress, ignore_progress
from raysearch.errors import DataError
from raysearch.metrics.row_units import SLIDES
from raysearch.models.bags.slide_feature_files import SlideFeatures

# A row group has so many bytes of features, or one slide; a shard has several of them.
ROW_GROUP_BYTES, SHARD_BYTES = 64 * 2**20, 256 * 2**20
WRITING, CHECKING = "Writing features", "Checking the finished shards"
RESIZE_MODE = "features"


@dataclass(frozen=True)
class BagSource:
    """Where slides come from.

    Attributes:
        format: The name of its format.
        address: Its path or address.
        class_names: The classes of the default task.
        tasks: The additional tasks.
        warnings: Warnings for the manifest.
        pseudonyms: The identifier of the key of the pseudonyms that it has instead of names.
        are_files: Whether each slide is a file, of which two must not be the same.
    """

    format: str
    address: str
    class_names: tuple[str, ...]
    tasks: tuple[Task, ...]
    warnings: tuple[str, ...]
    pseudonyms: str = ""
    are_files: bool = True


@dataclass(frozen=True)
class BagWriterState:
    """What a writer of bags has counted when it has closed a shard.

    Attributes:
        rows: The number of slides in the shards.
        shards: The shards.
        counts: The number of patches of each slide.
        width: The number of features of a patch.
        hashes: The SHA-256 of the features of each slide.
    """

    rows: int
    shards: tuple[Shard, ...]
    counts: tuple[int, ...]
    width: int
    hashes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Reject a damaged state."""
        if (
            not len(self.counts)
            == len(self.hashes)
            == self.rows
            == sum(shard.rows for shard in self.shards)
        ):
            raise ValueError("the state of unfinished shards contradicts itself")


def write_bags(
    source: BagSource,
    items: Sequence[Item],
    features_from: Callable[[int], Iterable[SlideFeatures]],
    out: Path,
    names: SourceNames,
    on_progress: StepCallback = ignore_progress,
    request: str = "",
) -> Manifest:
    """Write slides into the new folder `out`.

    After an error or an interruption, the finished shards remain for the next call with the same
    `request`. If no shard is finished, nothing remains.

    Args:
        source: Where the slides come from.
        items: What the source says about each slide.
        features_from: Yields the features of the slides from the one with this number on.
        out: The folder for the shards; it must not exist, or be empty.
        names: The names that are written: those of the source, or pseudonyms.
        on_progress: Called with the number of slides so far.
        request: The hash of what is written; empty to begin with the first slide in any case.

    Raises:
        DataError: If two slides have different numbers of features, or the same features, or `out`
            cannot be written.
    """

    def report(step: str, num_done: int) -> None:
        on_progress(StepProgress(step, num_done, len(items), SLIDES))

    with atomic_directory(out, has_finished_shards if request else None) as folder:
        unfinished = UnfinishedShards(folder, request, BagWriterState)
        writer = _BagWriter(folder, source, names, unfinished if request else None)
        state = unfinished.restore(lambda num_done, _num_rows: report(CHECKING, num_done))
        num_done = 0 if state is None else state.rows
        if state is not None:
            writer.restore(state, items)
        try:
            for number, features in enumerate(features_from(num_done), num_done):
                report(WRITING, number)
                writer.add(items[number], features)
            manifest = writer.finish()
        finally:
            writer.close()
        unfinished.remove()
    report(WRITING, len(items))
    return manifest


class _BagWriter:
    def __init__(
        self,
        folder: Path,
        source: BagSource,
        names: SourceNames,
        unfinished: UnfinishedShards[BagWriterState] | None,
    ) -> None:
        self._folder, self._source, self._names = folder, source, names
        self._unfinished = unfinished
        self._items: list[Item] = []
        self._group: list[tuple[Item, SlideFeatures]] = []
        self._group_bytes = self._file_bytes = 0
        self._file: ShardFile | None = None
        self._shards: list[Shard] = []
        self._counts: list[int] = []
        self._width = 0
        # The file of each slide, by the hash of its features.
        self._files: dict[str, str] = {}
        self._hashes: list[str] = []

    def restore(self, state: BagWriterState, items: Sequence[Item]) -> None:
        """Continue after the shards of `state`, which have the first of `items`."""
        self._items = list(items[: state.rows])
        self._shards, self._counts = list(state.shards), list(state.counts)
        self._width, self._hashes = state.width, list(state.hashes)
        files = [item.file for item in self._items]
        self._files = dict(zip(state.hashes, files, strict=True))

    def add(self, item: Item, features: SlideFeatures) -> None:
        """Add a slide."""
        num_patches, width = features.values.shape
        self._width = self._width or width
        if width != self._width:
            raise DataError(
                f"{item.file}: {width:,} features, and {self._width:,} in {self._items[0].file};"
                " give slides of one encoder"
            )
        digest = feature_hash(features.values).hex()
        if digest in self._files and self._source.are_files:
            raise DataError(
                f"{item.file}: the same features as {self._files[digest]}; remove one of them"
            )
        self._files[digest] = item.file
        self._hashes.append(digest)
        self._items.append(item)
        self._counts.append(num_patches)
        self._group.append((item, features))
        self._group_bytes += features.values.nbytes
        if self._group_bytes >= ROW_GROUP_BYTES:
            self._write_group()

    def finish(self) -> Manifest:
        """Write what is left, and the manifest."""
        if not self._items:
            raise DataError(f"{self._source.address}: no slides in it; give one row for each slide")
        self._write_group()
        self._close_shard()
        manifest = self._manifest()
        folder = Folder(self._folder)
        folder.write(REJECTED_FILE, csv_content(Rejected._fields, []))
        folder.write(MANIFEST_FILE, manifest.dump())
        return manifest

    def close(self) -> None:
        """Close a file that is not finished."""
        if self._file is not None:
            self._file.close()

    def _write_group(self) -> None:
        if not self._group:
            return
        group, self._group = self._group, []
        values = [features.values for _item, features in group]
        hashes = b"".join(feature_hash(each) for each in values)
        positions = [
            b"" if features.positions is None else features.positions.tobytes()
            for _item, features in group
        ]
        items = [self._names.item(item) for item, _features in group]
        table = row_table(
            items,
            _large_binary([each.tobytes() for each in values]),
            hashes,
            [RESIZE_MODE] * len(items),
            [task.name for task in self._source.tasks],
        )
        table = table.append_column(POSITIONS, _large_binary(positions))
        if self._file is None:
            path = self._folder / f"part-{len(self._shards):05d}.parquet"
            self._file = ShardFile(path, table.schema)
        self._file.write(table)
        self._file_bytes += self._group_bytes
        self._group_bytes = 0
        if self._file_bytes >= SHARD_BYTES:
            self._close_shard()
            if self._unfinished is not None:
                self._unfinished.write(self._state())

    def _close_shard(self) -> None:
        if self._file is not None:
            self._shards.append(self._file.close())
            self._file, self._file_bytes = None, 0

    def _state(self) -> BagWriterState:
        return BagWriterState(
            rows=len(self._items),
            shards=tuple(self._shards),
            counts=tuple(self._counts),
            width=self._width,
            hashes=tuple(self._hashes),
        )

    def _manifest(self) -> Manifest:
        source, items = self._source, self._items
        tasks = [
            _task_counts(task.name, task.class_names, [item.task_labels[number] for item in items])
            for number, task in enumerate(source.tasks)
        ]
        default = _task_counts(LABEL, source.class_names, [item.label for item in items])
        return Manifest(
            version=VERSION,
            format=source.format,
            source=self._names.source(source.address),
            files=len(items),
            rows=len(items),
            rejected=0,
            patients=len({item.patient for item in items}),
            shape=(median_low(self._counts), self._width, 1),
            class_names=source.class_names,
            class_counts=default.class_counts,
            tasks=tuple(tasks),
            resize_modes={RESIZE_MODE: len(items)},
            warnings=tuple(map(self._names.warning, source.warnings)),
            shards=tuple(self._shards),
            pseudonyms=self._names.key_id or source.pseudonyms,
            requires=(BAGS,),
            extensions={NUM_PATCHES: sum(self._counts)},
        )


def _task_counts(name: str, class_names: tuple[str, ...], labels: list[int | None]) -> TaskCounts:
    counts = Counter(labels)
    return TaskCounts(
        name, class_names, tuple(counts[number] for number in range(len(class_names)))
    )


def feature_hash(values: NDArray[np.float16]) -> bytes:
    """Return the SHA-256 of the features of a slide."""
    return hashlib.sha256(values.view(np.uint8).data).digest()


def _large_binary(values: list[bytes]) -> pa.Array:
    ends = np.cumsum([0, *map(len, values)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(b"".join(values))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(values), buffers)
