"""Writes what a model says about each slide: tables, maps, and regions for a viewer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.champion.model_artifact import ModelArtifact
from raysearch.data.csv_files import csv_content
from raysearch.data.files import Folder
from raysearch.data.images.decoding import RejectedImageError
from raysearch.data.parquet_files import read_parquet
from raysearch.data.sources.listing import Item
from raysearch.errors import DataError
from raysearch.inference.geojson_regions import OutputRegion, write_geojson
from raysearch.inference.grad_cam_overlays import file_stem
from raysearch.inference.image_rendering import class_color, encode_png
from raysearch.inference.model_loading import ProgressCallback, no_progress
from raysearch.inference.prediction import SCORES
from raysearch.inference.probability_maps import draw_overlay, probability_tiff
from raysearch.inference.tile_geojson import tile_geojson
from raysearch.inference.tile_scores import TileRegion, TileScores, merge_tiles
from raysearch.inference.tile_source import TileSource, slide_file
from raysearch.search.tracking.served_model import DECISION, SCORE_PREFIX

SLIDES, SLIDE_TABLE, REGION_TABLE = "slides", "slides.csv", "regions.csv"
# The regions of each class in the table, those with the highest mean probability first.
MAX_REGIONS = 5
# Digits of a probability, of a fraction and of an area in the tables.
DECIMALS = 6
REGION_COLUMNS = (
    *("slide", "patient", "class", "rank", "tiles", "area_mm2", "mean_score", "max_score"),
    *("x", "y", "width", "height"),
)


@dataclass(frozen=True)
class SlideResultSummary:
    """What was written about slides.

    Attributes:
        num_slides: The number of slides.
        incomplete: The files of the slides that have no result, since a tile cannot be read.
    """

    num_slides: int
    incomplete: tuple[str, ...]


def write_slide_results(
    artifact: ModelArtifact,
    source: TileSource,
    out: Folder,
    *,
    with_tiles: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> SlideResultSummary:
    """Write the tables of the slides and of their regions, and the files of each slide.

    `slides.csv` has a row for each slide, and `regions.csv` the regions of each class with the
    highest mean probability. `slides/NAME-probability.tif` has the probabilities of the tiles,
    `slides/NAME-overlay.png` the slide in the colors of the probability that a tile is not of the
    first class, and `slides/NAME.geojson` the regions, which QuPath imports. After an error, there
    is no folder `slides`.

    Args:
        artifact: The description of the model.
        source: The tiles.
        out: The folder with their scores.
        with_tiles: Whether `slides/NAME-tiles.geojson` has the tiles, too.
        on_progress: Called with the number of slides so far, and of all slides.

    Raises:
        DataError: If the scores are of other tiles, or a slide cannot be read any more.
    """
    if out.is_local and Path(out.path(SLIDES)).is_symlink():
        raise DataError(f"{out.path(SLIDES)}: a link; remove it, or name another folder")
    try:
        return _write(artifact, source, out, with_tiles, on_progress)
    except BaseException:  # also an interrupt
        out.remove(SLIDES)
        raise


def _write(
    artifact: ModelArtifact,
    source: TileSource,
    out: Folder,
    with_tiles: bool,
    on_progress: ProgressCallback,
) -> SlideResultSummary:
    class_names = artifact.class_names
    slide_rows: list[list[str | int | float]] = []
    region_rows: list[list[str | int | float]] = []
    incomplete: list[str] = []
    num_slides = sum(1 for _items in source.slides())
    for number, (items, table) in enumerate(_scores_of_slides(source, out, class_names)):
        on_progress(number, num_slides)
        if table is None:
            incomplete.append(slide_file(items[0].file))
            continue
        grid = source.grids[items[0].slide]
        left, top = (
            np.array([getattr(item, axis) for item in items], np.int64) for axis in ("x", "y")
        )
        scores = TileScores.of(grid, left, top, table.probabilities, table.decided)
        stem = f"{SLIDES}/{len(slide_rows) + 1:04d}-{file_stem(slide_file(items[0].file))}"
        try:
            overlay = draw_overlay(source.path_of(items[0]), scores)
        except RejectedImageError:
            incomplete.append(slide_file(items[0].file))
            continue
        regions = list(merge_tiles(scores))
        out.write(f"{stem}-overlay.png", encode_png(overlay))
        out.write(f"{stem}-probability.tif", probability_tiff(scores, class_names))
        write_geojson(
            out, f"{stem}.geojson", [_output_region(region, class_names) for region in regions]
        )
        if with_tiles:
            content = tile_geojson(
                left.astype(np.float64),
                top.astype(np.float64),
                (grid.side[1], grid.side[0]),
                table.probabilities,
                table.decided,
                [None] * len(items),
                class_names,
            )
            out.write(f"{stem}-tiles.geojson", content)
        slide_rows.append(_slide_row(items[0], scores, class_names, stem))
        region_rows += _region_rows(items[0], regions, class_names)
    out.write(REGION_TABLE, csv_content(REGION_COLUMNS, region_rows))
    out.write(SLIDE_TABLE, csv_content(_slide_columns(class_names), slide_rows))
    on_progress(num_slides, num_slides)
    return SlideResultSummary(len(slide_rows), tuple(incomplete))


@dataclass(frozen=True)
class _Scores:
    """The scores of N tiles: probabilities, shape (N, C), and decided classes, shape (N,)."""

    probabilities: NDArray[np.float64]
    decided: NDArray[np.int64]


def _scores_of_slides(
    source: TileSource, out: Folder, class_names: tuple[str, ...]
) -> Iterator[tuple[list[Item], _Scores | None]]:
    """Yield the tiles of each slide and their scores; None if a tile has none.

    The rows of the scores are in the order of the source, without the rejected tiles.
    """
    columns = [f"{SCORE_PREFIX}{name}" for name in class_names]
    table = read_parquet(out.read(SCORES)).select(["path", DECISION, *columns])
    paths = table["path"].to_pylist()
    probabilities = np.column_stack([table[column].to_numpy() for column in columns])
    numbers = {name: number for number, name in enumerate(class_names)}
    decided = np.array([numbers[name] for name in table[DECISION].to_pylist()], np.int64)
    start = 0
    for items in source.slides():
        stop = start
        for item in items:
            if stop < len(paths) and paths[stop] == item.file:
                stop += 1
        is_complete = stop - start == len(items)
        yield (
            items,
            _Scores(probabilities[start:stop], decided[start:stop]) if is_complete else None,
        )
        start = stop
    if start != len(paths):
        raise DataError(
            f"{out.path(SCORES)}: scores of other tiles than the slides have now, such as"
            f" {paths[start]}; name a new folder for the scores"
        )


def _slide_columns(class_names: Sequence[str]) -> list[str]:
    columns = ["slide", "patient", "class", "tiles", "area_mm2"]
    for prefix in ("fraction", "mean_score", "max_score"):
        columns += [f"{prefix}_{name}" for name in class_names]
    return [*columns, "files"]


def _slide_row(
    item: Item, scores: TileScores, class_names: Sequence[str], stem: str
) -> list[str | int | float]:
    """Return the row of a slide; its class is the one of most of its tiles."""
    counts = [int((scores.decided == number).sum()) for number in range(len(class_names))]
    probabilities = scores.probabilities[:, scores.is_tile].astype(np.float64)
    row: list[str | int | float] = [
        item.slide,
        item.patient,
        class_names[int(np.argmax(counts))],
        scores.num_tiles,
        round(scores.num_tiles * scores.cell_area, DECIMALS),
    ]
    fractions = [count / scores.num_tiles for count in counts]
    for values in (fractions, probabilities.mean(1).tolist(), probabilities.max(1).tolist()):
        row += [round(value, DECIMALS) for value in values]
    return [*row, stem]


def _region_rows(
    item: Item, regions: Sequence[TileRegion], class_names: Sequence[str]
) -> Iterator[list[str | int | float]]:
    """Yield the rows of the regions of each class with the highest mean probability."""
    for class_number, name in enumerate(class_names):
        of_class = [region for region in regions if region.class_number == class_number]
        of_class.sort(key=lambda region: (-region.mean_probability, -region.num_tiles))
        for rank, region in enumerate(of_class[:MAX_REGIONS], start=1):
            left, top, right, bottom = region.geometry.bounds
            yield [
                *(item.slide, item.patient, name, rank, region.num_tiles),
                round(region.area, DECIMALS),
                round(region.mean_probability, DECIMALS),
                round(region.max_probability, DECIMALS),
                *(round(value, 1) for value in (left, top, right - left, bottom - top)),
            ]


def _output_region(region: TileRegion, class_names: Sequence[str]) -> OutputRegion:
    means = zip(class_names, region.mean_probabilities.tolist(), strict=True)
    measurements = {f"mean {SCORE_PREFIX}{name}": round(value, DECIMALS) for name, value in means}
    measurements |= {
        "max score": round(region.max_probability, DECIMALS),
        "tiles": region.num_tiles,
        "area mm2": round(region.area, DECIMALS),
    }
    name = class_names[region.class_number]
    return OutputRegion(name, region.geometry, class_color(region.class_number), measurements)
