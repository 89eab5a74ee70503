"""Scores a source batch by batch into a folder; an interrupted run resumes after its last batch."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.data.files import Folder
from raysearch.data.sources.listing import Rejected
from raysearch.errors import DataError
from raysearch.inference.model_loading import (
    Model,
    ProgressCallback,
    model_from_artifact,
    predict_proba,
)
from raysearch.inference.score_sources import Batch, Source

SCORES, TABLE, REJECTED = "scores.parquet", "scores.csv", "rejected.csv"
PARTIAL_SCORES, REQUEST = ".partial", "request.json"
# The keys of the metadata of the written tables.
REQUEST_KEY, REJECTED_KEY = b"raysearch.request", b"rejected"

BatchScorer = Callable[[int], None]
# Scores batches by their numbers, each by a scorer that the worker makes first; yields the numbers
# of the finished batches.
BatchExecutor = Callable[[Callable[[], BatchScorer], list[int]], Iterable[int]]


@dataclass(frozen=True)
class PredictionSummary:
    """The content of a folder with scores.

    Attributes:
        num_rows: Number of scored patches.
        num_rejected: Number of rejected files.
        num_new: Number of patches that this run scored.
    """

    num_rows: int
    num_rejected: int
    num_new: int


def run_in_this_process(
    make_scorer: Callable[[], BatchScorer], numbers: list[int]
) -> Iterator[int]:
    """Score batches one after another in this process."""
    score_batch = make_scorer()
    for number in numbers:
        score_batch(number)
        yield number


def predict(
    model: Model,
    source: Source,
    out: Folder,
    on_progress: ProgressCallback,
    execute: BatchExecutor = run_in_this_process,
) -> PredictionSummary:
    """Score all patches of a source into a folder.

    Batches that an earlier run of the same model and source scored are not scored again.

    Args:
        model: The model.
        source: The patches.
        out: A new folder, or the folder of an earlier run.
        on_progress: Called with the number of finished batches, and of all batches.
        execute: Scores the batches, for example on the workers of a cluster.

    Raises:
        DataError: If `out` contains the scores of another model or source, or other files.
    """
    request = hashlib.sha256(f"{model.content_hash} {source.fingerprint}".encode()).hexdigest()
    if _is_complete(out, request):
        metadata = pq.read_metadata(io.BytesIO(out.read(SCORES)))
        return PredictionSummary(metadata.num_rows, _num_rejected(out.read(REJECTED)), 0)
    _claim_folder(out, request)
    pending = [number for number in range(source.num_batches) if not out.exists(_part(number))]
    packed_model = pack_model_artifact(model.artifact, model.classifier)
    num_done = source.num_batches - len(pending)
    for _number in execute(partial(_make_scorer, packed_model, source, out.address), pending):
        num_done += 1
        on_progress(num_done, source.num_batches)
    return _merge_batches(out, request, source, set(pending))


def _make_scorer(packed_model: bytes, source: Source, out: str) -> BatchScorer:
    """Load the model, in the process that scores, and return the function that scores a batch."""
    model, folder = model_from_artifact(packed_model, "the model"), Folder(out)

    def score_batch(number: int) -> None:
        batch = source.read(number)
        folder.write(_part(number), _arrow_file(_score_table(model, batch), batch.rejected))

    return score_batch


def _part(number: int) -> str:
    return f"{PARTIAL_SCORES}/{number:06d}.arrow"


def _score_table(model: Model, batch: Batch) -> pa.Table:
    probabilities = predict_proba(model, batch.pixels)
    items = batch.items
    columns = {
        "path": pa.array([item.file for item in items], pa.string()),
        "patient": pa.array([item.patient for item in items], pa.string()),
        "x": pa.array([item.x for item in items], pa.int64()),
        "y": pa.array([item.y for item in items], pa.int64()),
        "label": pa.array(batch.labels, pa.string()),
    }
    for index, class_name in enumerate(model.artifact.class_names):
        columns[f"score_{class_name}"] = pa.array(probabilities[:, index])
    return pa.table(columns)


def _arrow_file(table: pa.Table, rejected: Sequence[Rejected]) -> bytes:
    schema = table.schema.with_metadata({REJECTED_KEY: json.dumps(rejected)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as file:
        file.write_table(table)
    return bytes(sink.getvalue())


def _read_part(out: Folder, number: int) -> tuple[pa.Table, list[Rejected]]:
    with pa.ipc.open_file(pa.BufferReader(out.read(_part(number)))) as file:
        table = file.read_all()
    rejected = json.loads((table.schema.metadata or {}).get(REJECTED_KEY, b"[]"))
    return table.replace_schema_metadata(None), [Rejected(*row) for row in rejected]


def _is_complete(out: Folder, request: str) -> bool:
    """Return whether `out` contains all scores; DataError for those of another request."""
    if not out.exists(SCORES):
        return False
    try:
        metadata = pq.read_schema(io.BytesIO(out.read(SCORES))).metadata or {}
    except pa.ArrowException:
        metadata = {}
    if metadata.get(REQUEST_KEY) != request.encode():
        raise DataError(
            f"{out.path(SCORES)}: contains scores of another model or source; remove it, or name"
            " another folder"
        )
    return True


def _claim_folder(out: Folder, request: str) -> None:
    """Write the request into a new folder; DataError if the folder has another purpose."""
    path = f"{PARTIAL_SCORES}/{REQUEST}"
    if out.exists(path):
        if out.read(path) != request.encode():
            raise DataError(
                f"{out.path(PARTIAL_SCORES)}: contains partial scores of another model or source;"
                " remove it, or name another folder"
            )
        return
    if out.names():
        raise DataError(f"{out.address}: contains other files; name a new folder")
    out.write(path, request.encode())


def _merge_batches(out: Folder, request: str, source: Source, new: set[int]) -> PredictionSummary:
    """Write the final tables from all scored batches, and remove the batches."""
    tables, rejected, num_new = [], list(source.rejected), 0
    for number in range(source.num_batches):
        table, rejected_in_batch = _read_part(out, number)
        tables.append(table)
        rejected += rejected_in_batch
        num_new += table.num_rows if number in new else 0
    scores = pa.concat_tables(tables).replace_schema_metadata({REQUEST_KEY: request.encode()})
    out.write(REJECTED, _rejected_csv(rejected))
    csv_sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(scores, csv_sink)
    out.write(TABLE, bytes(csv_sink.getvalue()))
    parquet_sink = pa.BufferOutputStream()
    pq.write_table(scores, parquet_sink, write_page_checksum=True)
    # This file is the last one: if it exists, the folder is complete.
    out.write(SCORES, bytes(parquet_sink.getvalue()))
    out.remove(PARTIAL_SCORES)
    return PredictionSummary(scores.num_rows, len(rejected), num_new)


def _rejected_csv(rejected: Sequence[Rejected]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(Rejected._fields)
    writer.writerows(sorted(rejected))
    return text.getvalue().encode("utf-8", "surrogateescape")


def _num_rejected(content: bytes) -> int:
    """Count the files that a table of rejected files names."""
    rows = csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape")))
    return sum(1 for _ in rows) - 1
