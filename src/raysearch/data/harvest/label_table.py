"""The table in which a person labels the tiles of a harvest: a CSV source of `raysearch shard`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from raysearch.data.csv_files import csv_content, read_csv
from raysearch.data.file_access import write_file
from raysearch.errors import DataError

LABEL_TABLE = "labels.csv"
PATH, LABEL = "path", "label"


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
    """

    path: str
    label: str
    patient: str
    slide: str
    x: int
    y: int
    page: int
    figure: int


def read_labels(folder: Path) -> Mapping[str, str]:
    """Return the labels in the table of an earlier harvest in `folder`, by the path of the tile.

    Raises:
        DataError: If the table is damaged, or has no column `path` or `label`.
    """
    path = folder / LABEL_TABLE
    if not path.exists():
        return {}
    table = read_csv(path, "a table of labels")
    missing = [name for name in (PATH, LABEL) if name not in table.columns]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; restore it, or move the file away")
    labels = zip(table.column(PATH), table.column(LABEL), strict=True)
    return {tile: label for tile, label in labels if label.strip()}


def write_label_table(
    folder: Path, out: Path, rows: Sequence[LabelRow], labels: Mapping[str, str]
) -> None:
    """Write the table with the labels of an earlier harvest.

    Args:
        folder: The folder to write it to.
        out: The folder of the harvest, for error messages.
        rows: The tiles.
        labels: The label of each tile that has one, by its path.

    Raises:
        DataError: If a labeled tile is none of `rows`: its label would be lost.
    """
    lost = sorted(set(labels) - {row.path for row in rows})
    if lost:
        raise DataError(
            f"{out / LABEL_TABLE}: {len(lost):,} of its labels are of tiles that this harvest does"
            f" not write, such as {lost[0]}; repeat the earlier options, or move the file away"
        )
    labeled = [row._replace(label=labels.get(row.path, "")) for row in rows]
    write_file(folder / LABEL_TABLE, csv_content(LabelRow._fields, labeled))
