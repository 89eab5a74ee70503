"""What a harvest writes: a table of images, rejected files, tiles and contact sheets."""

from __future__ import annotations

import csv
import io
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.data.atomic_directory import owned
from raysearch.data.files import Folder
from raysearch.data.harvest.settings import Settings
from raysearch.data.sources.listing import Rejected
from raysearch.errors import DataError

NAME, TABLE, TILES, REJECTED = "harvest.json", "images.parquet", "tiles", "rejected.csv"
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
        ("kept", pa.bool_()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class Row:
    """One embedded image, as the table has it.

    `page` and `index` on it count from 1; `sha256` is of its RGB pixels, in hex; it and
    `purple_fraction` are None where the image could not be decoded. `reason` is empty where `kept`.
    """

    pmid: str
    file: str
    page: int
    index: int
    width: int
    height: int
    sha256: str | None
    purple_fraction: float | None
    kept: bool
    reason: str


@contextmanager
def claimed(out: Path, source: str, settings: Settings) -> Iterator[Folder]:
    """The folder `out` for the harvest of `source`, made or taken up again.

    It is removed where nothing came of it. DataError where it holds something else, or the harvest
    of another source.
    """
    made, empty = not out.exists(), not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not empty:
        _check_source(out, source)
    folder = Folder(out)
    record = {"source": source, **asdict(settings)}
    out.mkdir(parents=True, exist_ok=True)
    try:
        with _alone(out):
            folder.sweep()
            folder.write(NAME, json.dumps(record, indent=1).encode())
            yield folder
    finally:
        if empty and {path.name for path in out.iterdir()} <= {NAME}:
            (out / NAME).unlink(missing_ok=True)
            if made:
                out.rmdir()


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(owned(out))
        except BlockingIOError:
            raise DataError(
                f"{out}: another process harvests there; wait for it, or name another folder"
            ) from None
        yield


def _check_source(out: Path, source: str) -> None:
    if not (out / NAME).is_file():
        raise DataError(f"{out}: is there already; remove it, or name another folder")
    try:
        earlier = json.loads((out / NAME).read_bytes())["source"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{out / NAME}: damaged; remove the folder, or name another") from None
    if earlier != source:
        raise DataError(f"{out}: holds the harvest of {earlier}; name another folder")


@contextmanager
def staged(folder: Folder) -> Iterator[Path]:
    """A folder in `folder` whose content takes the place of earlier results when all went well.

    The table goes first and comes last: where it is, everything else belongs to it.
    """
    here = folder.local
    partial = here / f".results.{uuid.uuid4().hex[:8]}"  # swept, should this process be killed
    try:
        partial.mkdir()
        yield partial
        folder.remove(TABLE)
        folder.remove(TILES)
        for old in here.glob("contact*.png"):
            old.unlink()
        new = sorted(path.name for path in partial.iterdir())
        for name in [name for name in new if name != TABLE] + [TABLE]:
            (partial / name).replace(here / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_tables(folder: Path, rows: Sequence[Row], rejected: Sequence[Rejected]) -> None:
    """Write images.parquet, the same as images.csv, and rejected.csv."""
    listed = [astuple(row) for row in rows]
    columns = list(zip(*listed, strict=True)) if listed else [()] * len(SCHEMA)
    arrays = [pa.array(column, one.type) for one, column in zip(SCHEMA, columns, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), folder / TABLE)
    (folder / "images.csv").write_bytes(_csv(SCHEMA.names, listed))
    (folder / REJECTED).write_bytes(_csv(Rejected._fields, rejected))


def _csv(header: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(header)
    table.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")
