"""Scores a source batch by batch into a folder; an interrupted run resumes after its last batch."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.config.custom_code import UserCode
from raysearch.data.csv_files import csv_content, neutralize_columns, parse_csv
from raysearch.data.file_access import create_folder
from raysearch.data.files import Folder
from raysearch.data.sources.listing import Rejected
from raysearch.data.step_progress import StepCallback, StepProgress
from raysearch.errors import DataError
from raysearch.inference.model_loading import (
    Model,
    ProgressCallback,
    model_from_artifact,
    no_progress,
    predict_proba,
)
from raysearch.inference.score_batches import Batch, Source
from raysearch.search.tracking.served_model import CLASS, DECISION, PROBABILITY, SCORE_PREFIX

SCORES, TABLE, REJECTED = "scores.parquet", "scores.csv", "rejected.csv"
PARTIAL_SCORES, REQUEST = ".partial", "request.json"
SCORING, WRITING = "Scoring", "Writing the scores"
# Changes with the columns of the scores: batches of two versions of them cannot be merged.
COLUMNS = 2
# The keys of the metadata of the written tables.
REQUEST_KEY, REJECTED_KEY = b"raysearch.request", b"rejected"


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


@dataclass(frozen=True)
class BatchScorer:
    """Scores batches in one process.

    Attributes:
        model: The model.
        source: The patches.
        out: The folder of the scores.
        on_rows: Called with the number of scored patches, and of all patches of the batch.
    """

    model: Model
    source: Source
    out: Folder
    on_rows: ProgressCallback

    def __call__(self, number: int) -> None:
        """Read and score the batch with that number."""
        self.score(number, self.source.read(number))

    def score(self, number: int, batch: Batch) -> None:
        """Score the batch with that number, and write its scores."""
        table = _score_table(self.model, batch, self.on_rows)
        self.out.write(_part(number), _arrow_file(table, batch.rejected))


# Scores batches by their numbers, each by a scorer that the worker makes first; yields the numbers
# of the finished batches.
BatchExecutor = Callable[[Callable[[], BatchScorer], list[int]], Iterable[int]]


def run_in_this_process(
    make_scorer: Callable[[], BatchScorer], numbers: list[int]
) -> Iterator[int]:
    """Score batches one after another in this process; a thread reads the next one meanwhile."""
    if not numbers:
        return
    scorer = make_scorer()
    with ThreadPoolExecutor(1, "read-batches") as reader:
        next_batch = reader.submit(scorer.source.read, numbers[0])
        for index, number in enumerate(numbers, start=1):
            batch = next_batch.result()
            if index < len(numbers):
                next_batch = reader.submit(scorer.source.read, numbers[index])
            scorer.score(number, batch)
            yield number


def predict(
    model: Model,
    source: Source,
    out: Folder,
    on_progress: StepCallback,
    execute: BatchExecutor = run_in_this_process,
) -> PredictionSummary:
    """Score all patches of a source into a folder.

    Batches that an earlier run of the same model and source scored are not scored again, unless
    their files are damaged.

    Args:
        model: The model.
        source: The patches.
        out: A new folder, or the folder of an earlier run.
        on_progress: Called with the number of scored patches, then with that of written ones.
        execute: Scores the batches, for example on the workers of a cluster.

    Raises:
        DataError: If `out` contains the scores of another model or source, or other files.
    """
    # A registered version's tag may set another threshold than the hashed content has.
    content = f"{COLUMNS} {model.content_hash} {model.artifact.threshold} {source.fingerprint}"
    request = hashlib.sha256(content.encode()).hexdigest()
    if _is_complete(out, request):
        metadata = pq.read_metadata(io.BytesIO(out.read(SCORES)))
        return PredictionSummary(metadata.num_rows, _num_rejected(out.read(REJECTED)), 0)
    _claim_folder(out, request)
    out.remove_partial_files()
    pending = _remove_unfinished_parts(out, model, source)
    # The copy for the workers, which need not have the encoder, has all weights.
    artifact = replace(model.artifact, encoder_file=None)
    packed_model = pack_model_artifact(artifact, model.classifier)
    num_rows = sum(map(source.num_rows, range(source.num_batches)))
    num_done = num_rows - sum(map(source.num_rows, pending))

    def on_rows(num_in_batch: int, _num_rows: int = 0) -> None:
        on_progress(StepProgress(SCORING, num_done + num_in_batch, num_rows, model.artifact.unit))

    on_rows(0)
    is_here = execute is run_in_this_process
    scorer = partial(
        _make_scorer,
        packed_model,
        model.artifact.code,
        source,
        out.address,
        on_rows if is_here else no_progress,
    )
    for number in execute(scorer, pending):
        num_done += source.num_rows(number)
        on_rows(0)
    return _merge_batches(out, request, source, set(pending), on_progress, model.artifact.unit)


def _make_scorer(
    packed_model: bytes, code: UserCode, source: Source, out: str, on_rows: ProgressCallback
) -> BatchScorer:
    """Load the model, in the process that scores, and return the function that scores a batch."""
    code.allow()  # the process that starts this one may run it
    return BatchScorer(model_from_artifact(packed_model, "the model"), source, Folder(out), on_rows)


def _part(number: int) -> str:
    return f"{PARTIAL_SCORES}/{number:06d}.arrow"


def _remove_unfinished_parts(out: Folder, model: Model, source: Source) -> list[int]:
    """Remove the damaged files of scored batches; return the batches that are not scored."""
    schema, pending = _schema(model), []
    names = set(out.names(PARTIAL_SCORES))
    for number in range(source.num_batches):
        if _part(number).rpartition("/")[2] not in names:
            pending.append(number)
        elif not _is_finished(out, number, schema, source.num_rows(number)):
            out.remove(_part(number))
            pending.append(number)
    return pending


def _is_finished(out: Folder, number: int, schema: pa.Schema, num_rows: int) -> bool:
    """Whether the file of a batch can be read, and has all of its patches."""
    try:
        table, rejected = _read_part(out, number)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, TypeError, DataError):
        return False
    return bool(table.schema.equals(schema)) and table.num_rows + len(rejected) == num_rows


def _schema(model: Model) -> pa.Schema:
    """The columns of the scores; a batch without a patch that can be decoded has them, too."""
    fields = [("path", pa.string()), ("patient", pa.string()), ("x", pa.int64()), ("y", pa.int64())]
    fields += [("label", pa.string()), (CLASS, pa.string()), (PROBABILITY, pa.float64())]
    fields.append((DECISION, pa.string()))
    fields += [(f"{SCORE_PREFIX}{name}", pa.float64()) for name in model.artifact.class_names]
    return pa.schema(fields)


def _score_table(model: Model, batch: Batch, on_rows: ProgressCallback) -> pa.Table:
    probabilities = predict_proba(model, batch.inputs, on_rows)
    items = batch.items
    columns = {
        "path": [item.file for item in items],
        "patient": [item.patient for item in items],
        "x": [item.x for item in items],
        "y": [item.y for item in items],
        "label": batch.labels,
    }
    columns |= {
        name: values.tolist()
        for name, values in model.artifact.served_rule.columns(probabilities).items()
    }
    for index, class_name in enumerate(model.artifact.class_names):
        columns[f"{SCORE_PREFIX}{class_name}"] = probabilities[:, index]
    return pa.table(columns, _schema(model))


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
            f"{out.path(SCORES)}: contains scores of another model, source or version of raysearch;"
            " remove it, or name another folder"
        )
    return True


def _claim_folder(out: Folder, request: str) -> None:
    """Write the request into a new folder; DataError if the folder has another purpose."""
    path = f"{PARTIAL_SCORES}/{REQUEST}"
    if out.exists(path):
        if out.read(path) != request.encode():
            raise DataError(
                f"{out.path(PARTIAL_SCORES)}: contains partial scores of another model, source or"
                " version of raysearch; remove it, or name another folder"
            )
        return
    if out.names():
        raise DataError(f"{out.address}: contains other files; name a new folder")
    if out.is_local:
        create_folder(out.local)
    out.write(path, request.encode())


def _merge_batches(
    out: Folder,
    request: str,
    source: Source,
    new: set[int],
    on_progress: StepCallback,
    unit: str,
) -> PredictionSummary:
    """Write the final tables from all scored batches, and remove the batches."""
    tables, rejected, num_new, num_read = [], list(source.rejected), 0, 0
    num_rows = sum(map(source.num_rows, range(source.num_batches)))
    for number in range(source.num_batches):
        on_progress(StepProgress(WRITING, num_read, num_rows, unit))
        num_read += source.num_rows(number)
        table, rejected_in_batch = _read_part(out, number)
        tables.append(table)
        rejected += rejected_in_batch
        num_new += table.num_rows if number in new else 0
    on_progress(StepProgress(WRITING, 0, 0, unit))  # its end is not known
    scores = pa.concat_tables(tables).replace_schema_metadata({REQUEST_KEY: request.encode()})
    out.write(REJECTED, csv_content(Rejected._fields, sorted(rejected)))
    out.write(TABLE, _csv_table(scores))
    parquet_sink = pa.BufferOutputStream()
    pq.write_table(scores, parquet_sink, write_page_checksum=True)
    # This file is the last one: if it exists, the folder is complete.
    out.write(SCORES, bytes(parquet_sink.getvalue()))
    out.remove(PARTIAL_SCORES)
    return PredictionSummary(scores.num_rows, len(rejected), num_new)


def _csv_table(scores: pa.Table) -> bytes:
    """Return the scores as CSV; no text in it is a formula or has a control character."""
    columns = [
        pa.array(neutralize_columns(column.to_pylist()), pa.string())
        if pa.types.is_string(column.type)
        else column
        for column in scores.columns
    ]
    sink = pa.BufferOutputStream()
    table = pa.table(columns, names=neutralize_columns(scores.column_names))
    pyarrow.csv.write_csv(table, sink)
    return bytes(sink.getvalue())


def _num_rejected(content: bytes) -> int:
    """Count the files that a table of rejected files names."""
    return len(parse_csv(content).rows)
