"""Writes the maps of all slides whose patches `raysearch predict` has scored."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.data.csv_files import csv_content
from raysearch.data.files import Folder
from raysearch.data.shards.bags import Bags
from raysearch.data.sources.listing import Item
from raysearch.errors import DataError
from raysearch.inference.grad_cam_overlays import file_stem
from raysearch.inference.image_rendering import Image, encode_png
from raysearch.inference.model_loading import ProgressCallback, no_progress
from raysearch.inference.prediction import SCORES
from raysearch.inference.score_batches import Source
from raysearch.reports.slide_map import (
    SCALED,
    draw_frames,
    draw_heatmap,
    stitch_slide,
    tiles_geojson,
)
from raysearch.search.tracking.served_model import DECISION, SCORE_PREFIX

MAPS, MAP_TABLE = "maps", "maps.csv"
MAP_COLUMNS = ("slide", "patient", "patches", "framed", "file")


@dataclass
class _SlidePatches:
    """The patches of a slide so far: their items, their pixels, and their rows of the scores."""

    items: list[Item] = field(default_factory=list)
    pixels: list[Image] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


def write_slide_maps(
    source: Source,
    out: Folder,
    shape: tuple[int, int, int],
    class_names: Sequence[str],
    on_progress: ProgressCallback = no_progress,
) -> int:
    """Write three files for each slide with positions, and a table of them, to `out`/maps.

    `NAME-probability.png` is the slide in the colors of the probability that a patch is not of the
    first class. `NAME-frames.png` has a frame around each patch that is decided to be of another
    class than the first. `NAME.geojson` has the patches as tiles for QuPath. Patches without a
    position are left out. After an error, there is no folder of maps.

    Args:
        source: The patches.
        out: The folder with their scores.
        shape: (H, W, 3) of a patch.
        class_names: The classes of the model.
        on_progress: Called with the number of patches so far, and of all patches.

    Returns:
        The number of slides.

    Raises:
        DataError: If no patch has a position, a patch was scaled, or the scores are of other
            patches.
    """
    if out.is_local and Path(out.path(MAPS)).is_symlink():
        raise DataError(f"{out.path(MAPS)}: a link; remove it, or name another folder")
    try:
        return _write_all_maps(source, out, shape, class_names, on_progress)
    except BaseException:  # also an interrupt
        out.remove(MAPS)
        raise


def _write_all_maps(
    source: Source,
    out: Folder,
    shape: tuple[int, int, int],
    class_names: Sequence[str],
    on_progress: ProgressCallback,
) -> int:
    table = pq.read_table(io.BytesIO(out.read(SCORES)))
    records: list[tuple[str, str, int, int, str]] = []
    for slide, patches in _slides(source, table, shape, on_progress):
        stem = f"{len(records) + 1:04d}-{file_stem(slide)}"
        num_framed = _write_maps(out, stem, patches, table, class_names)
        patient = patches.items[0].patient
        records.append((slide, patient, len(patches.rows), num_framed, stem))
    if not records:
        raise DataError(
            "--maps: no patch has a position, so no slide can be stitched; name the files as in"
            " SLIDE_x51_y101.png, or give a CSV file with the columns x and y"
        )
    out.write(f"{MAPS}/{MAP_TABLE}", csv_content(MAP_COLUMNS, records))
    return len(records)


def _slides(
    source: Source, table: pa.Table, shape: tuple[int, int, int], on_progress: ProgressCallback
) -> Iterator[tuple[str, _SlidePatches]]:
    """Read the source again; yield the slides of a patient when all its patches are read.

    The rows of the scores are in the order of the source, without the rejected files.
    """
    remaining = Counter(table["patient"].to_pylist())
    paths = table["path"].to_pylist()
    slides: dict[str, dict[str, _SlidePatches]] = defaultdict(lambda: defaultdict(_SlidePatches))
    num_read = 0
    for number in range(source.num_batches):
        on_progress(num_read, table.num_rows)
        batch = source.read(number)
        if isinstance(batch.inputs, Bags):
            raise TypeError("slides have features in place of patches")
        rows = zip(batch.items, batch.inputs, batch.resize_modes, strict=True)
        for item, pixels, resize_mode in rows:
            if num_read >= len(paths) or paths[num_read] != item.file:
                raise _other_patches(item.file)
            if item.x is not None and item.y is not None:
                _reject_scaled(item.file, resize_mode, shape)
                patches = slides[item.patient][item.slide or item.patient]
                patches.items.append(item)
                patches.pixels.append(np.asarray(pixels, np.uint8).reshape(shape))
                patches.rows.append(num_read)
            num_read += 1
            remaining[item.patient] -= 1
            if not remaining[item.patient]:
                yield from slides.pop(item.patient, {}).items()
    on_progress(num_read, table.num_rows)
    if num_read != len(paths):
        raise _other_patches(paths[num_read])


def _other_patches(path: str) -> DataError:
    return DataError(
        f"--maps: the scores are of other patches than the source has now, such as {path}; name a"
        " new folder for the scores"
    )


def _reject_scaled(path: str, resize_mode: str, shape: tuple[int, int, int]) -> None:
    """Raise DataError for a patch of another scale than its position, which is of the slide."""
    if SCALED in resize_mode:
        raise DataError(
            f"--maps: {path} was scaled to {shape[1]}x{shape[0]} pixels, and its position is in"
            f" pixels of the slide; cut the slide into tiles of {shape[1]}x{shape[0]} pixels"
        )


def _write_maps(
    out: Folder, stem: str, patches: _SlidePatches, table: pa.Table, class_names: Sequence[str]
) -> int:
    """Write the files of a slide; return the number of framed patches."""
    rows = table.take(patches.rows)
    xs, ys = (
        np.array([getattr(item, axis) for item in patches.items], np.float64) for axis in ("x", "y")
    )
    pixels = np.stack(patches.pixels)
    probabilities = np.column_stack([rows[f"{SCORE_PREFIX}{name}"] for name in class_names])
    decided = np.array([class_names.index(name) for name in rows[DECISION].to_pylist()], np.int64)
    is_framed = decided > 0
    downsample = patches.items[0].downsample
    slide_map = stitch_slide(pixels, xs / downsample, ys / downsample)
    heatmap = draw_heatmap(slide_map, (1 - probabilities[:, 0]).astype(np.float32))
    out.write(f"{MAPS}/{stem}-probability.png", encode_png(heatmap))
    out.write(f"{MAPS}/{stem}-frames.png", encode_png(draw_frames(slide_map, is_framed)))
    side = (pixels.shape[1] * downsample, pixels.shape[2] * downsample)
    tiles = tiles_geojson(
        xs, ys, side, probabilities, decided, rows["label"].to_pylist(), class_names
    )
    out.write(f"{MAPS}/{stem}.geojson", tiles)
    return int(is_framed.sum())
