"""From papers to tiles: every embedded image is looked at, and the purple ones are cut up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raysearch.data.files import Folder
from raysearch.data.harvest.contact_sheet import Pile, small_picture, write_sheets
from raysearch.data.harvest.output import TILES, Row, staged, write_tables
from raysearch.data.harvest.papers import Paper, Papers
from raysearch.data.harvest.pdf import Raster, RejectedPdfError, rasters
from raysearch.data.harvest.purple import purple_mask, shortcoming
from raysearch.data.harvest.settings import Settings
from raysearch.data.harvest.tiling import purple_tiles, write_tiles
from raysearch.data.sources.listing import Rejected

# Of two images with the same bytes, one may be wide and the other tall.
Print = tuple[str, int, int]
DUPLICATE = "duplicate of "


@dataclass(frozen=True)
class Harvest:
    """The counts: papers = read + rejected papers, images = kept + duplicates + dropped."""

    papers: int
    rejected: int
    images: int
    kept: int
    duplicates: int
    tiles: int
    folder: str
    sheets: tuple[str, ...]

    def dump(self) -> dict[str, Any]:
        """The counts as JSON takes them."""
        return asdict(self)


def harvest(
    papers: Papers,
    out: Folder,
    settings: Settings,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Harvest:
    """Read all `papers`, and put tables, tiles and contact sheets into `out` at the end.

    `progress` gets (papers done, all papers). DataError where the network is gone; papers that were
    fetched stay for the next time.
    """
    with staged(out) as partial:
        gatherer = _Gatherer(partial, settings)
        for done, paper in enumerate(papers.papers):
            progress(done, len(papers.papers))
            gatherer.read(paper, papers.fetch)
        rejected = sorted([*papers.rejected, *gatherer.rejected])
        write_tables(partial, gatherer.rows, rejected)
        sheets = write_sheets(partial, gatherer.kept, gatherer.dropped)
    progress(len(papers.papers), len(papers.papers))
    return Harvest(
        papers=len(papers.papers) + len(papers.rejected),
        rejected=len(rejected),
        images=len(gatherer.rows),
        kept=gatherer.kept.count,
        duplicates=gatherer.duplicates,
        tiles=gatherer.tiles,
        folder=str(out.local / TILES),
        sheets=tuple(str(out.local / name) for name in sheets),
    )


@dataclass
class _Catch:
    """What one paper gave, until it is known that all of it can be read."""

    rows: list[Row] = field(default_factory=list)
    pictures: list[Image.Image] = field(default_factory=list)
    tiles: list[Path] = field(default_factory=list)
    seen: dict[Print, str] = field(default_factory=dict)


class _Gatherer:
    """Gathers rows, tiles and small pictures, paper by paper; a rejected paper leaves none."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.rows: list[Row] = []
        self.rejected: list[Rejected] = []
        self.tiles = self.duplicates = 0
        self.kept, self.dropped = Pile("SelectiveAccuracy"), Pile("Dropped")
        self._folder, self._settings = folder / TILES, settings
        self._folder.mkdir()
        self._seen: dict[Print, str] = {}

    def read(self, paper: Paper, fetch: Callable[[Paper], None]) -> None:
        """Take all of `paper`, or refuse it."""
        catch = _Catch()
        try:
            fetch(paper)
            for raster in rasters(paper.path, self._settings.limits):
                self._look(paper, raster, catch)
        except RejectedPdfError as error:
            for tile in catch.tiles:
                tile.unlink()
            named = paper.file if paper.path.exists() else paper.name
            self.rejected.append(Rejected(named, str(error)))
            return
        self.rows += catch.rows
        self.tiles += len(catch.tiles)
        self._seen.update(catch.seen)
        for row, picture in zip(catch.rows, catch.pictures, strict=True):
            pile = self.kept if row.kept else self.dropped
            fraction = "" if row.purple_fraction is None else f"{row.purple_fraction:.0%} purple"
            pile.add(picture, f"{row.pmid} p{row.page} i{row.index}", row.reason or fraction)
            self.duplicates += row.reason.startswith(DUPLICATE)

    def _look(self, paper: Paper, raster: Raster, catch: _Catch) -> None:
        """Judge one image, and cut it up where it is kept."""
        place = (paper.name, paper.file, raster.page, raster.index, raster.width, raster.height)
        catch.pictures.append(small_picture(raster.pixels))
        if raster.pixels is None:
            catch.rows.append(Row(*place, None, None, False, raster.error))
            return
        mask = purple_mask(raster.pixels, self._settings.purple)
        hashed = hashlib.sha256(raster.pixels.data).hexdigest()
        size, purple = self._settings.size, self._settings.purple
        key = (hashed, raster.width, raster.height)
        first = self._seen.get(key) or catch.seen.get(key)
        if first:
            reason = f"{DUPLICATE}{first}"
        else:
            catch.seen[key] = f"{paper.name} page {raster.page} index {raster.index}"
            reason = shortcoming(mask.shape, int(np.count_nonzero(mask)), size, purple)
        fraction = round(float(mask.mean()), 4)
        catch.rows.append(Row(*place, hashed, fraction, not reason, reason))
        if not reason:
            stem = f"p{raster.page}_i{raster.index}"
            corners = purple_tiles(mask, size, purple.min_fraction)
            folder = self._folder / paper.name
            catch.tiles += write_tiles(folder, stem, raster.pixels, corners, size)
