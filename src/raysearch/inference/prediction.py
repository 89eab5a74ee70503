"""A source scored batch by batch into a folder, which a run that was stopped goes on with."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from raysearch.champion.model_artifact import pack_artifact
from raysearch.data.files import Folder
from raysearch.errors import DataError
from raysearch.inference.model_loading import Model, Progress, score, unpacked
from raysearch.inference.score_sources import Batch, Source

SCORES, TABLE, REJECTED = "scores.parquet", "scores.csv", "rejected.csv"
PARTS, REQUEST = ".partial", "request.json"
MARK = b"raysearch.request"


@dataclass(frozen=True)
class Predicted:
    """What a folder of scores holds; `new` rows were scored by this very run."""

    rows: int
    rejected: int
    new: int


def predict(
    model: Model,
    source: Source,
    out: Folder,
    progress: Progress,
    run: Callable[[Callable[[], Callable[[int], None]], list[int]], Iterable[int]] | None = None,
) -> Predicted:
    """Score all of `source` by `model` into the folder `out`.

    Batches that an earlier run of the same request left there are not scored again. `run` does the
    batches elsewhere, and gives back the numbers of those that are done; by default here, one after
    another. DataError where `out` holds another request's scores, or anything else.
    """
    request = hashlib.sha256(f"{model.identity} {source.fingerprint}".encode()).hexdigest()
    if _finished(out, request):
        table = pq.read_metadata(io.BytesIO(out.read(SCORES)))
        return Predicted(table.num_rows, _lines(out.read(REJECTED)), 0)
    _begin(out, request)
    left = [one for one in range(source.batches) if not out.exists(_part(one))]
    make = partial(_scorer, pack_artifact(model.recipe, model.net), source, out.address)
    done = source.batches - len(left)
    for _number in (run or _here)(make, left):
        done += 1
        progress(done, source.batches)
    return _finish(out, request, source, {_part(one) for one in left})


def _here(make: Callable[[], Callable[[int], None]], numbers: list[int]) -> Iterator[int]:
    work = make()
    for number in numbers:
        work(number)
        yield number


def _scorer(recipe: bytes, source: Source, out: str) -> Callable[[int], None]:
    """What scores a batch by its number, wherever it runs."""
    model, folder = unpacked(recipe, "the model"), Folder(out)

    def work(number: int) -> None:
        batch = source.read(number)
        folder.write(_part(number), _packed(_table(model, batch), batch))

    return work


def _part(number: int) -> str:
    return f"{PARTS}/{number:06d}.arrow"


def _table(model: Model, batch: Batch) -> pa.Table:
    scores = score(model, batch.pixels)
    columns: dict[str, Any] = {
        "path": pa.array([one.file for one in batch.items], pa.string()),
        "patient": pa.array([one.patient for one in batch.items], pa.string()),
        "x": pa.array([one.x for one in batch.items], pa.int64()),
        "y": pa.array([one.y for one in batch.items], pa.int64()),
        "label": pa.array(batch.labels, pa.string()),
    }
    for number, name in enumerate(model.recipe.class_names):
        columns[f"score_{name}"] = pa.array(scores[:, number])
    return pa.table(columns)


def _packed(table: pa.Table, batch: Batch) -> bytes:
    rejected = json.dumps([list(one) for one in batch.rejected])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema.with_metadata({"rejected": rejected})) as file:
        file.write_table(table)
    return bytes(sink.getvalue())


def _finished(out: Folder, request: str) -> bool:
    """Whether `out` holds all of `request`; DataError where it holds another one's scores."""
    if not out.exists(SCORES):
        return False
    try:
        known = pq.read_schema(io.BytesIO(out.read(SCORES))).metadata or {}
    except pa.ArrowException:
        known = {}
    if known.get(MARK) != request.encode():
        raise DataError(
            f"{out.path(SCORES)}: of another model or source; remove it, or name another folder"
        )
    return True


def _begin(out: Folder, request: str) -> None:
    place = f"{PARTS}/{REQUEST}"
    if out.exists(place):
        if out.read(place) != request.encode():
            raise DataError(
                f"{out.path(PARTS)}: begun for another model or source; remove it, or name another"
                " folder"
            )
        return
    if out.names():
        raise DataError(f"{out.address}: holds something else; name a new folder")
    out.write(place, request.encode())


def _finish(out: Folder, request: str, source: Source, new: set[str]) -> Predicted:
    tables, rejected, fresh = [], [list(one) for one in source.rejected], 0
    for number in range(source.batches):
        with pa.ipc.open_file(pa.BufferReader(out.read(_part(number)))) as file:
            table = file.read_all()
        rejected += json.loads((table.schema.metadata or {}).get(b"rejected", b"[]"))
        fresh += table.num_rows if _part(number) in new else 0
        tables.append(table.replace_schema_metadata(None))
    whole = pa.concat_tables(tables).replace_schema_metadata({MARK: request.encode()})
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(("file", "reason"))
    lines.writerows(sorted(rejected))
    out.write(REJECTED, text.getvalue().encode("utf-8", "surrogateescape"))
    rows = pa.BufferOutputStream()
    pyarrow.csv.write_csv(whole, rows)
    out.write(TABLE, bytes(rows.getvalue()))
    sink = pa.BufferOutputStream()
    pq.write_table(whole, sink, write_page_checksum=True)
    out.write(SCORES, bytes(sink.getvalue()))  # the last one: where it is, all is there
    out.remove(PARTS)
    return Predicted(whole.num_rows, len(rejected), fresh)


def _lines(content: bytes) -> int:
    """How many files a table of rejected ones names."""
    return sum(1 for _ in csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape")))) - 1
