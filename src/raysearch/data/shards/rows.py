"""Reads the rows of shards without their pixels, restricted to what a study may see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raysearch.config.names import LABEL
from raysearch.data.files import Folder
from raysearch.data.parquet_files import filter_rows, numeric_array, valid_rows
from raysearch.data.shards.shard_files import (
    DOWNSAMPLE,
    SCANNER,
    check_rows,
    check_totals,
    open_shard,
)
from raysearch.data.shards.shard_manifest import (
    Manifest,
    TileSettings,
    label_column,
    read_manifest,
)
from raysearch.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

# A column that can define the groups of a split, and the field of `Rows` with its values.
GROUP_COLUMNS: Mapping[str, str] = {
    "patient": "patients",
    "slide": "slides",
    "site": "sites",
    "split": "official_splits",
    SCANNER: "scanners",
}
# The columns that only shards of tiles of slides have.
OPTIONAL_COLUMNS = frozenset((SCANNER, DOWNSAMPLE))
COLUMNS = (*GROUP_COLUMNS, "x", "y", "magnification", DOWNSAMPLE)


@dataclass(frozen=True)
class View:
    """What a study sees of a set of shards.

    All code that plans, trains, validates or selects reads shards through a view. The rows that a
    view leaves out are not in the file that the workers memory-map, so they cannot be read.

    Attributes:
        task: Only rows with a label in this task are visible.
        by: The column of the groups.
        held_out: The groups that are not visible.
    """

    task: str = LABEL
    by: str = "patient"
    held_out: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A short hash that differs from that of every other view of the same shards."""
        text = json.dumps([self.task, self.by, sorted(self.held_out)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def mask(self, table: pa.Table, manifest: Manifest) -> NDArray[np.bool_]:
        """Which rows of `table` are visible, shape (rows,)."""
        import numpy as np

        manifest.classes_of(self.task)
        labels = table.column(label_column(self.task))
        visible = valid_rows(labels)
        if self.held_out:
            groups = _texts(table, self.by)
            visible &= ~np.isin(groups, self.held_out)
        return visible


ALL = View()


@dataclass(frozen=True)
class Rows:
    """The rows of a set of shards without their pixels, in the order of the shards.

    Attributes:
        labels: Class numbers, int64, shape (N,).
        patients: Patient names, shape (N,).
        slides: Slide names, shape (N,); empty if unknown, as the other texts are.
        sites: Names of the sites of origin, shape (N,).
        official_splits: train, valid or test in the official split, shape (N,).
        magnifications: Magnifications, shape (N,); NaN if unknown, as the other numbers are.
        xs: Horizontal positions on the slide, in pixels, shape (N,).
        ys: Vertical positions on the slide, in pixels, shape (N,).
        shape: (height, width, channels) of a patch.
        class_names: Name of each class.
        fingerprint: Hash of the shards.
        warnings: The warnings of the shard manifest.
        center: The side of the square in the center of a patch on which its label depends, in
            pixels; None for the whole patch.
        downsamples: The side of a pixel of each patch in the pixels of its position, shape (N,):
            1, but for tiles of slides, whose positions are in pixels of level 0.
        scanners: Names of the scanners, shape (N,); empty if unknown.
        tile_settings: How slides were cut into the patches; None if the patches are no tiles.
    """

    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    slides: NDArray[np.str_]
    sites: NDArray[np.str_]
    official_splits: NDArray[np.str_]
    magnifications: NDArray[np.float64]
    xs: NDArray[np.float64]
    ys: NDArray[np.float64]
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    fingerprint: str
    warnings: tuple[str, ...]
    center: int | None
    downsamples: NDArray[np.float64]
    scanners: NDArray[np.str_]
    tile_settings: TileSettings | None

    @classmethod
    def from_table(cls, table: pa.Table, manifest: Manifest, task: str) -> Rows:
        """Convert `table`, with the columns `row_columns`, to rows with the labels of `task`."""
        import numpy as np
        import pyarrow as pa

        labels = table.column(label_column(task)).cast(pa.int64())
        return cls(
            labels=np.array(numeric_array(labels)),  # a copy: torch needs a writable array
            patients=_texts(table, "patient"),
            slides=_texts(table, "slide"),
            sites=_texts(table, "site"),
            official_splits=_texts(table, "split"),
            magnifications=_numbers(table, "magnification"),
            xs=_numbers(table, "x"),
            ys=_numbers(table, "y"),
            shape=manifest.shape,
            class_names=manifest.classes_of(task),
            fingerprint=manifest.fingerprint,
            warnings=manifest.warnings,
            center=manifest.center,
            downsamples=_downsamples(table),
            scanners=_texts(table, SCANNER),
            tile_settings=manifest.tile_settings,
        )

    def groups(self, by: str) -> NDArray[np.str_]:
        """The group of each row, shape (N,).

        Args:
            by: The column of the groups.

        Raises:
            DataError: If there is no such column, or a row has no value in it.
        """
        if by not in GROUP_COLUMNS:
            raise DataError(f"--by {by!r}: no such column; one of {', '.join(GROUP_COLUMNS)}")
        groups = self.column(by)
        num_empty = int((groups == "").sum())
        if num_empty:
            raise DataError(
                f"--by {by}: {num_empty:,} of {len(groups):,} rows have none; choose another column"
            )
        return groups

    def column(self, by: str) -> NDArray[np.str_]:
        """The values of one of the `GROUP_COLUMNS`, shape (N,), which may be empty."""
        values: NDArray[np.str_] = getattr(self, GROUP_COLUMNS[by])
        return values


def _texts(table: pa.Table, column: str) -> NDArray[np.str_]:
    import numpy as np

    if column in OPTIONAL_COLUMNS and column not in table.column_names:
        return np.full(table.num_rows, "")
    return np.array(table.column(column).to_pylist(), dtype=np.str_)


def _downsamples(table: pa.Table) -> NDArray[np.float64]:
    import numpy as np

    if DOWNSAMPLE not in table.column_names:
        return np.ones(table.num_rows)
    return _numbers(table, DOWNSAMPLE)


def _numbers(table: pa.Table, column: str) -> NDArray[np.float64]:
    """The values of `column`, NaN for null; nothing here imports pandas."""
    import numpy as np

    return np.array(table.column(column).to_pylist(), dtype=np.float64)


def row_columns(manifest: Manifest) -> list[str]:
    """The columns of a shard from which `Rows` are made."""
    columns = [name for name in COLUMNS if manifest.has_tiles or name not in OPTIONAL_COLUMNS]
    return [*columns, *map(label_column, manifest.task_names)]


def load_rows(address: str, view: View = ALL) -> Rows:
    """Read the rows of the shards at `address` that `view` shows.

    Raises:
        DataError: If the shards are missing or damaged, or have no labels in the view's task.
    """
    import pyarrow as pa

    folder = Folder(address)
    manifest = read_manifest(folder)
    tables = []
    for shard in manifest.shards:
        with open_shard(folder, shard, manifest) as file:
            tables.append(file.read(columns=row_columns(manifest)))
            check_rows(tables[-1], folder, shard, manifest)
    table = pa.concat_tables(tables)
    check_totals(table, folder, manifest)
    visible = filter_rows(table, view.mask(table, manifest))
    if not visible.num_rows:
        raise DataError(f"{address}: no row has a label in task {view.task!r}; name another task")
    return Rows.from_table(visible, manifest, view.task)
