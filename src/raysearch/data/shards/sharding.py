"""Images decoded once, on all cores, into Parquet shards that are never half-written."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

from raysearch.data.atomic_directory import atomic_directory
from raysearch.data.shards.decoding import Chunk, Size, decode_files, draw_files, sizes_of
from raysearch.data.shards.hdf5 import read_rows
from raysearch.data.shards.shard_manifest import Manifest
from raysearch.data.shards.shard_writer import Progress, ShardWriter
from raysearch.data.shards.shared_memory import Slot, Slots
from raysearch.data.shards.worker_processes import working
from raysearch.data.sources import list_source, most_frequent
from raysearch.data.sources.archive import NO_ROOM
from raysearch.data.sources.listing import Ask, Item, Listing
from raysearch.errors import DataError

# A worker's piece of work: few enough bytes that what is under way fits in memory.
CHUNK, CHUNK_BYTES = 256, 4 * 2**20
GROUP_BYTES = 64 * 2**20
# Chunks under way beyond four a worker: what the workers do while a group is being written.
AHEAD = 32
SCRATCH = ".unpacked"
NOTHING_ASKED = Ask()


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
    with ExitStack() as last, atomic_directory(out) as partial, working(workers) as pool:
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
        writer = ShardWriter(partial, listing, wanted, slots, group, progress)
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
    except OSError as error:
        if error.errno in NO_ROOM:  # where it was unpacked to
            raise
        reason = error.strerror or error
        raise DataError(
            f"{source}: cannot be read ({error.filename or source}: {reason}); see what is there"
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


def _usual_size(pool: ProcessPoolExecutor, listing: Listing, items: list[Item]) -> Size:
    if listing.folder is None:
        raise DataError("this source has no images to measure; give --size")
    sizes: list[Size] = []
    files = [[item.file for item in some] for some in _cut(items, CHUNK)]
    for found in pool.map(sizes_of, [listing.folder] * len(files), files):
        sizes += found
    if not sizes:
        first = listing.rejected[0] if listing.rejected else None
        reason = f" ({first.file}: {first.reason})" if first else ""
        raise DataError(
            f"{listing.folder.address}: no usable image in it{reason}; see that they open, and"
            " --patient"
        )
    return most_frequent(sizes)


def _cut(items: list[Item], rows: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), rows):
        yield items[start : start + rows]
