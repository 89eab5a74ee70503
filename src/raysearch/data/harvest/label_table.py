"""The table in which a person labels the tiles of a harvest: a CSV source of `raysearch shard`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from raysearch.data.csv_files import csv_content, read_csv
from raysearch.data.file_access import write_file
from raysearch.errors import DataError

LABEL_TABLE = "labels.csv"
PATH, LABEL, SIZE, SHA256 = "path", "label", "size", "sha256"


class LabelRow(NamedTuple):
    """A tile, and the label that a person gives it.

    Attributes:
        path: The file, relative to the folder of the table.
        label: The class; empty until somebody has labeled the tile.
        patient: The paper: tiles of one paper stay together.
        slide: The image in the paper.
        x: Left side of the tile in the image, in pixels, from 1.
        y: Top side of the tile in the image, in pixels, from 1.
        page: Page number from 1.
        figure: Number of the image on its page, from 1.
        size: Side of the tile in pixels.
        sha256: Hash of the RGB pixels of the image in hex, as in the table of images.
    """

    path: str
    label: str
    patient: str
    slide: str
    x: int
    y: int
    page: int
    figure: int
    size: int
    sha256: str


class Labels(NamedTuple):
    """What a person has written into the table of an earlier harvest.

    Attributes:
        columns: The columns that the person has added.
        tiles: The cells of each tile with a label or another cell of the person, by its path.
    """

    columns: tuple[str, ...]
    tiles: Mapping[str, Mapping[str, str]]


def read_labels(folder: Path) -> Labels:
    """Return what a person has written into the table of an earlier harvest in `folder`.

    Raises:
        DataError: If the table is damaged, or has no column of the path, the label, or the tile.
    """
    path = folder / LABEL_TABLE
    if not path.exists():
        return Labels((), {})
    table = read_csv(path, "a table of labels")
    missing = [name for name in (PATH, LABEL, SIZE, SHA256) if name not in table.columns]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; restore it, or move the file away")
    columns = tuple(name for name in table.columns if name not in LabelRow._fields)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    labeled = [row for row in rows if any(row[name].strip() for name in (LABEL, *columns))]
    return Labels(columns, {row[PATH]: row for row in labeled})


def write_label_table(folder: Path, out: Path, rows: Sequence[LabelRow]) -> None:
    """Write the table with the labels, and the added columns, of an earlier harvest.

    Args:
        folder: The folder to write it to.
        out: The folder of the harvest, with the earlier table.
        rows: The tiles.

    Raises:
        DataError: If the earlier table is damaged, or has a label of a tile that is none of `rows`,
            or has another size, or is of another image: the label would be lost or wrong.
    """
    labels = read_labels(out)
    written = {row.path: row for row in rows}
    _reject(out, sorted(set(labels.tiles) - set(written)), "that this harvest does not write")
    changed = [
        path
        for path, cells in sorted(labels.tiles.items())
        if (cells[SIZE].strip(), cells[SHA256].strip())
        != (str(written[path].size), written[path].sha256)
    ]
    _reject(out, changed, "of another size or of another image")
    cells_of_rows = [labels.tiles.get(row.path, {}) for row in rows]
    content = [
        (*row._replace(label=cells.get(LABEL, "")), *(cells.get(name) for name in labels.columns))
        for row, cells in zip(rows, cells_of_rows, strict=True)
    ]
    write_file(folder / LABEL_TABLE, csv_content((*LabelRow._fields, *labels.columns), content))


def _reject(out: Path, paths: Sequence[str], reason: str) -> None:
    """Raise DataError if there are labeled tiles that the new table cannot have."""
    if paths:
        raise DataError(
            f"{out / LABEL_TABLE}: {len(paths):,} of its labels are of tiles {reason}, such as"
            f" {paths[0]}; repeat the earlier harvest, or move the file away"
        )
