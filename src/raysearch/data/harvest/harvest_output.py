"""Writes the output folder of a harvest: the table of images, rejected files and tiles."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from raysearch.data.atomic_directory import exclusive_lock
from raysearch.data.csv_files import csv_content
from raysearch.data.disk_errors import disk_errors
from raysearch.data.file_access import create_folder, restrict, restrict_tree, write_file
from raysearch.data.files import Folder
from raysearch.data.harvest.harvest_settings import HarvestSettings
from raysearch.data.sources.listing import Rejected
from raysearch.errors import DataError

RECORD, TABLE, CSV_TABLE = "harvest.json", "images.parquet", "images.csv"
TILES, REJECTED = "tiles", "rejected.csv"
SCHEMA = pa.schema(
    [
        ("pmid", pa.string()),
        ("file", pa.string()),
        ("page", pa.int32()),
        ("index", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("purple_fraction", pa.float64()),
        ("selected", pa.bool_()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class ImageRow:
    """One row of the table of images.

    Attributes:
        pmid: Name of the paper.
        file: PDF of the paper.
        page: Page number from 1.
        index: Number of the image on its page, from 1.
        width: Width in pixels.
        height: Height in pixels.
        sha256: Hash of the RGB pixels in hex; None if the image could not be decoded.
        purple_fraction: Fraction of purple pixels; None if the image could not be decoded.
        selected: Whether the image was cut into tiles.
        reason: Reason why the image was not selected; empty if it was.
    """

    pmid: str
    file: str
    page: int
    index: int
    width: int
    height: int
    sha256: str | None
    purple_fraction: float | None
    selected: bool
    reason: str


class _HarvestRecord(HarvestSettings):
    """The content of `harvest.json`: the settings and the source of the harvest."""

    source: str


class _StoredSource(BaseModel):
    """The part of `harvest.json` that a resumed harvest compares."""

    source: str


@contextmanager
def output_folder(out: Path, source: str, settings: HarvestSettings) -> Iterator[Folder]:
    """Create or reopen the output folder of a harvest, and lock it.

    A folder that is empty at the end is removed. The record of an earlier harvest is replaced with
    its results.

    Args:
        out: The folder.
        source: Description of the papers; a harvest of another source is rejected.
        settings: Settings to record.

    Raises:
        DataError: If the folder has other content, or another process uses it.
    """
    is_new = not out.exists()
    is_empty = is_new or (out.is_dir() and not any(out.iterdir()))
    if not is_empty:
        _check_source(out, source)
    folder = Folder(out)
    create_folder(out)
    restrict(out)
    try:
        with _locked(out):
            folder.remove_partial_files()
            if is_empty:
                folder.write(RECORD, _record(source, settings))
            yield folder
    finally:
        if is_empty and {path.name for path in out.iterdir()} <= {RECORD}:
            (out / RECORD).unlink(missing_ok=True)
            if is_new:
                out.rmdir()


def _record(source: str, settings: HarvestSettings) -> bytes:
    record = _HarvestRecord(
        source=source, size=settings.size, purple=settings.purple, limits=settings.limits
    )
    return record.model_dump_json(indent=1).encode()


def write_record(folder: Path, out: Folder, settings: HarvestSettings) -> None:
    """Write the record of a harvest into `out`, with its settings, to the new folder `folder`."""
    stored = _StoredSource.model_validate_json(out.read(RECORD))
    write_file(folder / RECORD, _record(stored.source, settings))


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(out))
        except BlockingIOError:
            raise DataError(
                f"{out}: another process writes to this folder; wait for it, or choose another"
                " folder"
            ) from None
        yield


def _check_source(out: Path, source: str) -> None:
    if not (out / RECORD).is_file():
        raise DataError(f"{out}: already exists; remove it, or choose another folder")
    try:
        stored = _StoredSource.model_validate_json((out / RECORD).read_bytes())
    except ValidationError:
        raise DataError(f"{out / RECORD}: damaged; remove the folder, or choose another") from None
    if stored.source != source:
        raise DataError(f"{out}: contains the harvest of {stored.source}; choose another folder")


@contextmanager
def staged_results(folder: Folder) -> Iterator[Path]:
    """Yield a temporary folder whose content replaces earlier results if the block succeeds.

    The table is removed first and moved last: if it exists, everything else belongs to it.
    """
    out = folder.local
    # The name marks a partial file, so that the next run removes it if this process is killed.
    partial = out / f".results.{uuid.uuid4().hex[:8]}"
    try:
        create_folder(partial)
        with disk_errors(out):
            yield partial
        restrict_tree(partial)
        folder.remove(TABLE)
        folder.remove(TILES)
        for sheet in out.glob("contact*.png"):
            sheet.unlink()
        names = sorted(path.name for path in partial.iterdir())
        for name in [name for name in names if name != TABLE] + [TABLE]:
            (partial / name).replace(out / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_tables(folder: Path, rows: Sequence[ImageRow], rejected: Sequence[Rejected]) -> None:
    """Write images.parquet, the same rows as images.csv, and rejected.csv."""
    values = [astuple(row) for row in rows]
    columns = list(zip(*values, strict=True)) if values else [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for field, column in zip(SCHEMA, columns, strict=True)]
    content = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), content)
    write_file(folder / TABLE, bytes(content.getvalue()))
    write_file(folder / CSV_TABLE, csv_content(SCHEMA.names, values))
    write_file(folder / REJECTED, csv_content(Rejected._fields, rejected))
