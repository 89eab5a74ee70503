"""Decodes a source on all cores into a folder of Parquet shards."""

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
from typing import NamedTuple

from raysearch.data.atomic_directory import atomic_directory
from raysearch.data.images.decoding import (
    Chunk,
    Size,
    decode_files,
    image_sizes,
    synthesize_files,
)
from raysearch.data.images.hdf5 import read_rows
from raysearch.data.images.shared_memory import Slot, Slots
from raysearch.data.shards.shard_manifest import Manifest
from raysearch.data.shards.shard_writer import Progress, ShardWriter
from raysearch.data.shards.worker_processes import worker_pool
from raysearch.data.sources import list_source, modal_size
from raysearch.data.sources.archive import NO_SPACE
from raysearch.data.sources.listing import Item, Listing, SourceOptions
from raysearch.errors import DataError

# A chunk is the work of one call of a worker: small enough that all chunks in work fit in memory.
MAX_CHUNK_ROWS, CHUNK_BYTES = 256, 4 * 2**20
ROW_GROUP_BYTES = 64 * 2**20
# Chunks in work: so many for each worker, and more for the time that writing a row group takes.
CHUNKS_PER_WORKER, ADDITIONAL_CHUNKS = 4, 32
MAX_SIDE = 4096
SCRATCH = ".unpacked"
DEFAULT_OPTIONS = SourceOptions()


def parse_size(text: str) -> Size:
    """Parse `N` or `WxH` into (width, height); DataError for another form."""
    parts = text.lower().split("x")
    sides = [int(part) if part.isascii() and part.isdigit() else 0 for part in parts]
    if len(sides) not in (1, 2) or not all(1 <= side <= MAX_SIDE for side in sides):
        raise DataError(f"--size {text!r} is not a size; give N or WxH, 1 to {MAX_SIDE} a side")
    return sides[0], sides[-1]


class _ChunkInWork(NamedTuple):
    items: list[Item]
    slot: Slot
    future: Future[Chunk]


def write_shards(
    source: str,
    out: Path,
    source_format: str | None,
    *,
    size: Size | None = None,
    options: SourceOptions = DEFAULT_OPTIONS,
    progress: Progress = lambda _done, _total: None,
    workers: int | None = None,
) -> Manifest:
    """Decode `source` into shards in the new folder `out`.

    Args:
        source: A file, folder, archive or synthetic source.
        out: The folder for the shards; it must not exist, or be empty.
        source_format: The name of the source's format; None to detect it.
        size: (width, height) of the patches; None for the source's own, or the most frequent.
        options: How to read the source.
        progress: Is called with (files done, all files).
        workers: Number of decoding processes; None for the number of cores.

    Raises:
        DataError: If the source cannot be used, or `out` cannot be written; then, as after an
            interruption, nothing remains on the disk.
    """
    workers = workers or os.cpu_count() or 1
    with ExitStack() as stack, atomic_directory(out) as partial, worker_pool(workers) as pool:
        scratch = partial / SCRATCH
        scratch.mkdir()
        options = replace(options, scratch=scratch)
        source_format, listing = _list(source, source_format, options)  # while the workers start
        items = sorted(listing.items, key=lambda item: (item.patient, item.file))
        patch_size = size or listing.size or _modal_size(pool, listing, items)
        row_bytes = patch_size[0] * patch_size[1] * 3
        chunk_rows = max(1, min(MAX_CHUNK_ROWS, CHUNK_BYTES // row_bytes))
        chunks_per_group = max(1, ROW_GROUP_BYTES // (chunk_rows * row_bytes))
        max_in_work = CHUNKS_PER_WORKER * workers + ADDITIONAL_CHUNKS
        # The stack closes the shared memory after the workers have ended: they open it by the
        # number of its file descriptor, which is free after closing.
        slots = stack.enter_context(Slots(chunks_per_group + max_in_work, chunk_rows * row_bytes))
        chunks = iter(_divide(items, chunk_rows))
        in_work: deque[_ChunkInWork] = deque()
        writer = ShardWriter(partial, listing, patch_size, slots, chunks_per_group, progress)
        while True:
            for chunk_items in islice(chunks, max_in_work - len(in_work)):
                slot = slots.take()
                future = _submit(pool, source, listing, chunk_items, patch_size, slot)
                in_work.append(_ChunkInWork(chunk_items, slot, future))
            if not in_work:
                shutil.rmtree(scratch)
                return writer.finish(source_format, source)
            first = in_work.popleft()
            writer.add(first.items, first.slot, _result(source, first))


def _list(source: str, source_format: str | None, options: SourceOptions) -> tuple[str, Listing]:
    try:
        return list_source(source, source_format, options)
    except OSError as error:
        if error.errno in NO_SPACE:  # on the disk of the unpacked files
            raise
        reason = error.strerror or error
        raise DataError(
            f"{source}: cannot be read ({error.filename or source}: {reason}); check the file"
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
        read = read_rows if listing.is_hdf5 else decode_files
        return pool.submit(read, listing.folder, [item.file for item in items], size, slot)
    patches = [
        (int(item.file.split("/")[1]), int(item.label or 0), int(item.patient[1:]))
        for item in items
    ]
    return pool.submit(synthesize_files, source, patches, size, slot)


def _result(source: str, chunk: _ChunkInWork) -> Chunk:
    try:
        return chunk.future.result()
    except BrokenExecutor:
        raise DataError(
            f"{source}: the process that read the files from {chunk.items[0].file} to"
            f" {chunk.items[-1].file} crashed; remove the damaged file, or free memory"
        ) from None


def _modal_size(pool: ProcessPoolExecutor, listing: Listing, items: list[Item]) -> Size:
    if listing.folder is None:
        raise DataError("this source has no images to measure; give --size")
    sizes: list[Size] = []
    files = [[item.file for item in chunk] for chunk in _divide(items, MAX_CHUNK_ROWS)]
    for chunk_sizes in pool.map(image_sizes, [listing.folder] * len(files), files):
        sizes += chunk_sizes
    if not sizes:
        first = listing.rejected[0] if listing.rejected else None
        reason = f" ({first.file}: {first.reason})" if first else ""
        raise DataError(
            f"{listing.folder.address}: no usable image in it{reason}; check that the images open,"
            " and --patient"
        )
    return modal_size(sizes)


def _divide(items: list[Item], chunk_rows: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), chunk_rows):
        yield items[start : start + chunk_rows]
