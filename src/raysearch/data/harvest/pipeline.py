"""Runs a harvest: reads every embedded image of the papers and cuts purple images into tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from raysearch.data.files import Folder
from raysearch.data.harvest.contact_sheet import (
    PictureSection,
    make_thumbnail,
    write_contact_sheets,
)
from raysearch.data.harvest.harvest_output import (
    TILES,
    ImageRow,
    staged_results,
    write_record,
    write_tables,
)
from raysearch.data.harvest.harvest_settings import HarvestSettings
from raysearch.data.harvest.label_table import LabelRow, read_labels, write_label_table
from raysearch.data.harvest.papers import Paper, Papers
from raysearch.data.harvest.pdf_images import EmbeddedImage, RejectedPdfError, read_pdf_images
from raysearch.data.harvest.tissue_tiles import (
    purple_mask,
    purple_tile_corners,
    rejection_reason,
    write_tiles,
)
from raysearch.data.sources.listing import Rejected

DUPLICATE = "duplicate of "


@dataclass(frozen=True)
class ImageKey:
    """Identifies equal images; images of different shapes can have the same bytes."""

    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class HarvestSummary:
    """The counts and the output files of a harvest.

    Attributes:
        num_papers: Number of papers, with the rejected ones.
        num_rejected: Number of rejected papers.
        num_images: Number of images: selected, duplicate and excluded.
        num_selected: Number of images that were cut into tiles.
        num_duplicates: Number of images that equal an earlier one.
        num_tiles: Number of tiles.
        tiles_folder: Folder of the tiles.
        contact_sheets: Paths of the contact sheets.
    """

    num_papers: int
    num_rejected: int
    num_images: int
    num_selected: int
    num_duplicates: int
    num_tiles: int
    tiles_folder: str
    contact_sheets: tuple[str, ...]

    @property
    def num_excluded(self) -> int:
        """Number of images that are neither selected nor duplicates."""
        return self.num_images - self.num_selected - self.num_duplicates


def run_harvest(
    papers: Papers,
    out: Folder,
    settings: HarvestSettings,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> HarvestSummary:
    """Read all papers, and move tables, tiles and contact sheets to `out` at the end.

    Args:
        papers: The papers; those that are downloaded remain if the harvest fails.
        out: The output folder.
        settings: Selection criteria and limits.
        on_progress: Called with (number of papers read, number of papers).

    Raises:
        DataError: If the network is not available, or labels of an earlier harvest would be lost
            or would be of other tiles.
    """
    num_papers = len(papers.papers)
    read_labels(out.local)  # raises its errors before the papers are read
    with staged_results(out) as partial:
        collector = _ImageCollector(partial, settings)
        for num_done, paper in enumerate(papers.papers):
            on_progress(num_done, num_papers)
            collector.read_paper(paper, papers.fetch)
        rejected = sorted([*papers.rejected, *collector.rejected])
        write_tables(partial, collector.rows, rejected)
        sheets = write_contact_sheets(partial, collector.selected, collector.excluded)
        write_record(partial, out, settings)
        # Last, so that the labels that a person has saved meanwhile are kept.
        write_label_table(partial, out.local, collector.tiles)
    on_progress(num_papers, num_papers)
    return HarvestSummary(
        num_papers=num_papers + len(papers.rejected),
        num_rejected=len(rejected),
        num_images=len(collector.rows),
        num_selected=collector.selected.count,
        num_duplicates=collector.num_duplicates,
        num_tiles=len(collector.tiles),
        tiles_folder=str(out.local / TILES),
        contact_sheets=tuple(str(out.local / name) for name in sheets),
    )


@dataclass
class _PaperImages:
    """The images of one paper, before all of it has been read."""

    rows: list[ImageRow] = field(default_factory=list)
    thumbnails: list[Image.Image] = field(default_factory=list)
    tiles: list[LabelRow] = field(default_factory=list)
    locations: dict[ImageKey, str] = field(default_factory=dict)


class _ImageCollector:
    """Collects rows, tiles and thumbnails paper by paper; a rejected paper contributes nothing."""

    def __init__(self, folder: Path, settings: HarvestSettings) -> None:
        self.rows: list[ImageRow] = []
        self.rejected: list[Rejected] = []
        self.tiles: list[LabelRow] = []
        self.num_duplicates = 0
        self.selected, self.excluded = PictureSection("Selected"), PictureSection("Excluded")
        self._folder, self._settings = folder / TILES, settings
        self._folder.mkdir()
        self._locations: dict[ImageKey, str] = {}

    def read_paper(self, paper: Paper, fetch: Callable[[Paper], None]) -> None:
        """Add all images of a paper, or reject the paper."""
        images = _PaperImages()
        try:
            fetch(paper)
            for image in read_pdf_images(paper.path, self._settings.limits.reader_limits()):
                self._add_image(paper, image, images)
        except RejectedPdfError as error:
            for tile in images.tiles:
                (self._folder.parent / tile.path).unlink()
            name = paper.file if paper.path.exists() else paper.name
            self.rejected.append(Rejected(name, str(error)))
            return
        self.rows += images.rows
        self.tiles += images.tiles
        self._locations.update(images.locations)
        for row, thumbnail in zip(images.rows, images.thumbnails, strict=True):
            section = self.selected if row.selected else self.excluded
            fraction = "" if row.purple_fraction is None else f"{row.purple_fraction:.0%} purple"
            location = f"{row.pmid} p{row.page} i{row.index}"
            section.add(thumbnail, location, row.reason or fraction)
            self.num_duplicates += row.reason.startswith(DUPLICATE)

    def _add_image(self, paper: Paper, image: EmbeddedImage, images: _PaperImages) -> None:
        """Add the row and the thumbnail of an image, and its tiles if it is selected."""
        identity = (paper.name, paper.file, image.page, image.index, image.width, image.height)
        images.thumbnails.append(make_thumbnail(image.pixels))
        if image.pixels is None:
            images.rows.append(ImageRow(*identity, None, None, False, image.error))
            return
        size, purple = self._settings.size, self._settings.purple
        mask = purple_mask(image.pixels, purple)
        sha256 = hashlib.sha256(image.pixels.data).hexdigest()
        key = ImageKey(sha256, image.width, image.height)
        first_location = self._locations.get(key) or images.locations.get(key)
        if first_location:
            reason = f"{DUPLICATE}{first_location}"
        else:
            images.locations[key] = f"{paper.name} page {image.page} index {image.index}"
            reason = rejection_reason(mask.shape, int(np.count_nonzero(mask)), size, purple)
        fraction = round(float(mask.mean()), 4)
        images.rows.append(ImageRow(*identity, sha256, fraction, not reason, reason))
        if not reason:
            corners = list(purple_tile_corners(mask, size, purple.min_fraction))
            stem = f"p{image.page}_i{image.index}"
            folder = self._folder / paper.name
            paths = write_tiles(folder, stem, image.pixels, corners, size)
            images.tiles += [
                LabelRow(
                    path=path.relative_to(self._folder.parent).as_posix(),
                    label="",
                    patient=paper.name,
                    slide=f"{paper.name}/{stem}",
                    x=x + 1,
                    y=y + 1,
                    page=image.page,
                    figure=image.index,
                    size=size,
                    sha256=sha256,
                )
                for path, (x, y) in zip(paths, corners, strict=True)
            ]
