"""Decodes a source on all cores into a folder of Parquet shards."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby, islice, repeat
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from raysearch.data.atomic_directory import atomic_directory
from raysearch.data.disk_errors import FULL
from raysearch.data.images.chunk_decoding import (
    Chunk,
    decode_files,
    image_sizes,
    synthesize_files,
)
from raysearch.data.images.decoding import Size
from raysearch.data.images.hdf5 import read_rows
from raysearch.data.images.shared_memory import Slot, Slots
from raysearch.data.shards.label_center import label_center, reject_resized
from raysearch.data.shards.shard_manifest import MAX_SIDE, Manifest
from raysearch.data.shards.shard_writer import ROW_GROUPS_PER_SHARD, ShardWriter
from raysearch.data.shards.source_names import SourceNames
from raysearch.data.shards.unfinished_shards import (
    UnfinishedShards,
    WriterState,
    has_finished_shards,
    sharding_request,
)
from raysearch.data.shards.worker_processes import worker_pool
from raysearch.data.slides.tile_chunks import read_tiles
from raysearch.data.sources import list_source, modal_size
from raysearch.data.sources.listing import Item, Listing, SourceOptions, check_depth
from raysearch.data.sources.slide_files import CONTACT_SHEETS
from raysearch.data.step_progress import StepCallback, StepProgress, ignore_progress
from raysearch.errors import DataError
from raysearch.metrics.row_units import PATCHES

# A chunk is the work of one call of a worker: small enough that all chunks in work fit in memory.
MAX_CHUNK_ROWS, CHUNK_BYTES = 256, 4 * 2**20
ROW_GROUP_BYTES = 64 * 2**20
# Chunks in work: so many for each worker, and more for the time that writing a row group takes.
CHUNKS_PER_WORKER, ADDITIONAL_CHUNKS = 4, 32
SCRATCH = ".unpacked"
LISTING, MEASURING = "Listing the source", "Measuring the images"
CHECKING = "Checking the finished shards"
DEFAULT_OPTIONS = SourceOptions()
OWN_NAMES = SourceNames()


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
    names: SourceNames = OWN_NAMES,
    progress: StepCallback = ignore_progress,
    workers: int | None = None,
) -> Manifest:
    """Decode `source` into shards in the new folder `out`.

    Args:
        source: A file, folder, archive or synthetic source.
        out: The folder for the shards; it must not exist, or be empty.
        source_format: The name of the source's format; None to detect it.
        size: (width, height) of the patches; None for the source's own, or the most frequent.
        options: How to read the source.
        names: The names that are written: those of the source, or pseudonyms.
        progress: Is called with the number of files that are measured, then sharded.
        workers: Number of decoding processes; None for the number of cores.

    Raises:
        DataError: If the source cannot be used, or `out` cannot be written.

    After an error or an interruption, the finished shards remain, in `unfinished_path(out)`, for
    the next call with the same arguments and an unchanged source. After the error of a full disk,
    and if no shard is finished, nothing remains.
    """
    workers = workers or os.cpu_count() or 1
    with (
        ExitStack() as stack,
        atomic_directory(out, has_finished_shards) as folder,
        _scratch(folder) as scratch,
        worker_pool(workers) as pool,
    ):
        progress(StepProgress(LISTING, 0, 0, PATCHES))
        slide_options = replace(options.slides, size=size) if size else options.slides
        options = replace(
            options, scratch=scratch, slides=slide_options, executor=pool, progress=progress
        )
        # The workers start meanwhile.
        source_format, listing = list_source(source, source_format, options)
        check_depth(options.depth, listing, source_format)
        is_tiled = listing.slides is not None
        items = sorted(listing.items, key=names.tile_order if is_tiled else names.order)
        patch_size = (
            size or listing.size or _modal_size(pool, listing, items, options.depth, progress)
        )
        # The labels of tiles of slides are computed for their center.
        named_center = None if is_tiled else options.center
        center = listing.center if is_tiled else label_center(listing, named_center, patch_size)
        listing = replace(listing, center=center)
        row_bytes = patch_size[0] * patch_size[1] * 3
        chunk_rows = max(1, min(MAX_CHUNK_ROWS, CHUNK_BYTES // row_bytes))
        chunks_per_group = max(1, ROW_GROUP_BYTES // (chunk_rows * row_bytes))
        max_in_work = CHUNKS_PER_WORKER * workers + ADDITIONAL_CHUNKS
        # The stack closes the shared memory after the workers have ended: they open it by the
        # number of its file descriptor, which is free after closing.
        slots = stack.enter_context(Slots(chunks_per_group + max_in_work, chunk_rows * row_bytes))
        submit = partial(_submit, pool, source, listing, patch_size, options.depth)
        settings = [source_format, options.depth, names.key_id, chunk_rows, chunks_per_group]
        settings += [ROW_GROUPS_PER_SHARD, center]
        settings += [] if listing.slides is None else [repr(listing.slides.options)]
        request = sharding_request(source, listing, patch_size, settings, scratch)
        unfinished = UnfinishedShards(folder, request, WriterState)
        writer = ShardWriter(
            folder, listing, patch_size, slots, chunks_per_group, progress, names, unfinished
        )
        state = unfinished.restore(partial(_report, progress, CHECKING))
        if state is not None:
            writer.restore(state)
            items = items[state.num_items :]
        chunks = iter(_divide(items, chunk_rows, by_slide=is_tiled))
        in_work: deque[_ChunkInWork] = deque()
        while True:
            for chunk_items in islice(chunks, max_in_work - len(in_work)):
                slot = slots.take()
                future = submit(chunk_items, slot)
                in_work.append(_ChunkInWork(chunk_items, slot, future))
            if not in_work:
                manifest = writer.finish(source_format, source)
                _move_contact_sheets(listing, names, folder)
                unfinished.remove()
                return manifest
            first = in_work.popleft()
            chunk = _result(source, first)
            decoded = [first.items[index] for index in chunk.decoded]
            reject_resized(named_center, decoded, chunk.resize_modes, patch_size)
            writer.add(first.items, first.slot, chunk)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Create the folder of the unpacked files, and remove it at the end of the block.

    The unpacked files have the names of the source, also if the shards have pseudonyms. If the disk
    is full, they are removed with `folder`, whose size is in the message.
    """
    scratch, is_full = folder / SCRATCH, False
    shutil.rmtree(scratch, ignore_errors=True)  # of a killed process
    scratch.mkdir()
    try:
        yield scratch
    except OSError as error:
        is_full = error.errno in FULL
        raise
    finally:
        if not is_full:
            shutil.rmtree(scratch, ignore_errors=True)


def _report(progress: StepCallback, step: str, num_done: int, num_rows: int) -> None:
    progress(StepProgress(step, num_done, num_rows, PATCHES))


def _submit(
    pool: ProcessPoolExecutor,
    source: str,
    listing: Listing,
    size: Size,
    depth: int | None,
    items: list[Item],
    slot: Slot,
) -> Future[Chunk]:
    if listing.folder is not None and listing.slides is not None:
        slide = items[0].file.rpartition("#")[0]
        positions = [(item.x or 0, item.y or 0) for item in items]
        grid = listing.slides.grids[items[0].slide]
        return pool.submit(read_tiles, listing.folder.path(slide), grid, positions, slot)
    if listing.folder is not None:
        files = [item.file for item in items]
        if listing.is_hdf5:
            return pool.submit(read_rows, listing.folder, files, size, slot)
        return pool.submit(decode_files, listing.folder, files, size, slot, depth)
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


def _modal_size(
    pool: ProcessPoolExecutor,
    listing: Listing,
    items: list[Item],
    depth: int | None,
    progress: StepCallback,
) -> Size:
    if listing.folder is None:
        raise DataError("this source has no images to measure; give --size")
    sizes: list[Size] = []
    num_measured = 0
    files = [[item.file for item in chunk] for chunk in _divide(items, MAX_CHUNK_ROWS)]
    measured = pool.map(image_sizes, repeat(listing.folder), files, repeat(depth))
    for chunk_files, chunk_sizes in zip(files, measured, strict=True):
        sizes += chunk_sizes
        num_measured += len(chunk_files)
        progress(StepProgress(MEASURING, num_measured, len(items), PATCHES))
    if not sizes:
        first = listing.rejected[0] if listing.rejected else None
        reason = f" ({first.file}: {first.reason})" if first else ""
        raise DataError(
            f"{listing.folder.address}: no usable image in it{reason}; check that the images open,"
            " and --patient"
        )
    return modal_size(sizes)


def _divide(items: list[Item], chunk_rows: int, *, by_slide: bool = False) -> Iterator[list[Item]]:
    """Divide items into chunks; with `by_slide`, a chunk has items of one slide only."""
    groups = groupby(items, attrgetter("slide")) if by_slide else [("", iter(items))]
    for _slide, group in groups:
        while chunk := list(islice(group, chunk_rows)):
            yield chunk


def _move_contact_sheets(listing: Listing, names: SourceNames, folder: Path) -> None:
    """Move the contact sheets of the slides to the folder of the shards."""
    sheets = {} if listing.slides is None else listing.slides.sheets
    for slide, path in sheets.items():
        target = folder / CONTACT_SHEETS / f"{names.slide(slide)}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
