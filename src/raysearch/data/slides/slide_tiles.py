"""Finds the tiles of a slide: those with tissue, and the class of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.images.decoding import RejectedImageError
from raysearch.data.quantities import quantity
from raysearch.data.slides.annotation_matching import XML_SUFFIX, annotation_suffix
from raysearch.data.slides.annotations import SlideAnnotations, check_in_slide, read_annotations
from raysearch.data.slides.slide_formats import open_slide
from raysearch.data.slides.slide_options import SlideOptions
from raysearch.data.slides.tile_grid import TileGrid, tile_grid
from raysearch.data.slides.tile_labels import TOLERANCE, TileLabel, TileLabeler
from raysearch.data.slides.tile_overview import draw_contact_sheet
from raysearch.data.slides.tissue_mask import find_tissue


@dataclass(frozen=True)
class SlideRequest:
    """What is asked of a slide.

    Attributes:
        path: Its local file.
        options: How it is cut into tiles.
        annotations: The file with its annotations; None if it has none.
        label: The class of all of its tiles if it has no annotations; None if unknown.
        class_map: The new name of each class that is named differently.
        classes: The classes whose tiles are taken, by their new names; empty for all.
        sheet: Where its contact sheet is written; None for none.
    """

    path: str
    options: SlideOptions
    annotations: str | None = None
    label: str | None = None
    class_map: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    sheet: Path | None = None


@dataclass(frozen=True)
class SlideTiles:
    """The tiles of a slide, row by row.

    Attributes:
        grid: Their grid.
        left: The left side of each in pixels of level 0, shape (n,).
        top: The top side of each, shape (n,).
        tissue: The fraction of tissue of each, shape (n,).
        class_names: The class of each; None if it has none, which is only so without annotations.
        scanner: The scanner by the slide's metadata; empty if unknown.
        old_names: The classes of its annotations or of its table, before they are renamed.
        num_unlabeled: The number of tiles with tissue that are left out, since they have no class.
        num_conflicts: The number of tiles where the annotations contradict each other.
        warnings: Warnings about its annotations.
    """

    grid: TileGrid
    left: NDArray[np.int64]
    top: NDArray[np.int64]
    tissue: NDArray[np.float64]
    class_names: tuple[str | None, ...]
    scanner: str
    old_names: tuple[str, ...] = ()
    num_unlabeled: int = 0
    num_conflicts: int = 0
    warnings: tuple[str, ...] = ()


def find_tiles(request: SlideRequest) -> SlideTiles | str:
    """Find the tiles of a slide, and write its contact sheet.

    Returns:
        The tiles, or the reason why the slide cannot be used.

    Raises:
        DataError: If its annotations cannot be used, or its file cannot be read any more.
    """
    try:
        return _find_tiles(request)
    except RejectedImageError as error:
        return str(error)


def series_of(path: str) -> str:
    """Return the identifier of the DICOM series of a file; empty if it has none."""
    try:
        with open_slide(path) as slide:
            return slide.properties.series
    except RejectedImageError:
        return ""


def _find_tiles(request: SlideRequest) -> SlideTiles:
    options = request.options
    with open_slide(request.path) as slide:
        properties = slide.properties
        grid = tile_grid(slide, options)
        mask = find_tissue(slide, min(grid.side))
    left, top = grid.positions()
    tissue = mask.fractions(left, top, *grid.side)
    has_tissue = tissue >= options.min_tissue - TOLERANCE
    if not has_tissue.any():
        raise RejectedImageError(
            f"no tissue: its tiles have at most {tissue.max():.0%} of it, less than --min-tissue"
            f" {options.min_tissue:g}"
        )
    left, top, tissue = left[has_tissue], top[has_tissue], tissue[has_tissue]
    label = request.class_map.get(request.label or "", request.label)
    labels: Sequence[TileLabel] = [TileLabel(label, 0.0, False)] * len(left)
    annotations = SlideAnnotations(())
    if request.annotations is not None:
        annotations = check_in_slide(
            request.annotations,
            _moved(read_annotations(request.annotations), request.annotations, properties.bounds),
            properties.width,
            properties.height,
        )
        labels = _labels(request, annotations, grid, left, top)
    class_names = [
        label.class_name if not request.classes or label.class_name in request.classes else None
        for label in labels
    ]
    if request.sheet is not None:
        title = f"{quantity(len(left), 'tile')}, {mask.fraction:.0%} of the slide is tissue"
        content = draw_contact_sheet(title, mask, grid, left, top, class_names)
        request.sheet.write_bytes(content)
    is_used = np.array(
        [name is not None or request.annotations is None for name in class_names], bool
    )
    if not is_used.any():
        raise RejectedImageError(
            f"none of its {quantity(len(left), 'tile')} with tissue has a class by its annotations"
        )
    return SlideTiles(
        grid,
        left[is_used],
        top[is_used],
        tissue[is_used],
        tuple(name for name, used in zip(class_names, is_used.tolist(), strict=True) if used),
        properties.scanner,
        _old_names(request, annotations),
        int((~is_used).sum()),
        sum(label.is_conflict for label in labels),
        annotations.warnings,
    )


def _old_names(request: SlideRequest, annotations: SlideAnnotations) -> tuple[str, ...]:
    if request.annotations is None:
        return (request.label,) if request.label else ()
    background = request.options.background
    return (*annotations.class_names, *((background,) if background else ()))


def _moved(
    annotations: SlideAnnotations, path: str, bounds: tuple[int, int, int, int]
) -> SlideAnnotations:
    """Move annotations of QuPath, whose origin is that of the scanned area, to level 0."""
    left, top = bounds[:2]
    if not (left or top) or annotation_suffix(path) == XML_SUFFIX:
        return annotations
    import shapely

    offset = np.array((left, top))
    regions = tuple(
        replace(region, geometry=shapely.transform(region.geometry, lambda xy: xy + offset))
        for region in annotations.regions
    )
    return replace(annotations, regions=regions)


def _labels(
    request: SlideRequest,
    annotations: SlideAnnotations,
    grid: TileGrid,
    left: NDArray[np.int64],
    top: NDArray[np.int64],
) -> Sequence[TileLabel]:
    options, class_map = request.options, request.class_map
    background = options.background
    labeler = TileLabeler(
        [
            replace(region, class_name=class_map.get(region.class_name, region.class_name))
            for region in annotations.regions
        ],
        options.min_fraction,
        options.center,
        pixel_size=grid.pixel_size,
        background=class_map.get(background or "", background),
        source=str(request.annotations),
    )
    return labeler.label_tiles(left.astype(np.float64), top.astype(np.float64), *grid.side)
