"""The results of a champion on the test sets, as the study's folder stores them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.data.files import Folder
from raysearch.data.shards.patches import Patches
from raysearch.errors import StudyError
from raysearch.metrics.bootstrap import Interval
from raysearch.metrics.evaluation import ScoredRows
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.study_folder import StudyFolder

SCORES, RECORD = "scores.parquet", "evaluation.json"
# The version of the layout of `RECORD`; it increases with every change of the fields.
FORMAT = 2
# The name of the study's own test set; no external test set may have it.
HELD_OUT = "held_out"


@dataclass(frozen=True)
class AccessCounts:
    """How often a held-out test set was evaluated, this time included.

    Attributes:
        by_study: By this study.
        total: By all studies.
    """

    by_study: int
    total: int


@dataclass(frozen=True)
class EvaluationRecord:
    """What was evaluated on which test set, and when.

    Attributes:
        name: The name of the test set; `held_out` for the study's own.
        data: Path or address of its shards.
        fingerprint: The hash over its shards.
        model: The model in words.
        trial: The model's trial.
        time: Time of the evaluation, ISO 8601 in UTC.
        class_names: The classes in the order of the probabilities.
        threshold: Smallest probability of the second class that counts as positive; None for more
            than two classes.
        accesses: How often the held-out test set was evaluated; None for an external test set.
        notes: What limits the validity of the result.
        repeat_seed: The repeat seed of an ensemble's networks; None for a refit.
        smoothed_auroc: The AUROC after smoothing over neighboring patches, as fitted on the study's
            folds; None if the positions of the patches are unknown.
    """

    name: str
    data: str
    fingerprint: str
    model: str
    trial: str
    time: str
    class_names: tuple[str, ...]
    threshold: float | None
    accesses: AccessCounts | None = None
    notes: tuple[str, ...] = ()
    repeat_seed: int | None = None
    smoothed_auroc: Interval | None = None


@dataclass(frozen=True)
class ScoredTestSet:
    """A test set with the predictions of a model, and the record of the evaluation."""

    patches: Patches
    scored: ScoredRows
    record: EvaluationRecord


def write_evaluation(folder: StudyFolder, test_set: ScoredTestSet) -> None:
    """Write the predictions, then the record, into the study's folder."""
    record, patches = test_set.record, test_set.patches
    columns = {
        "patient": pa.array(patches.patients.tolist(), pa.string()),
        "slide": pa.array(patches.slides.tolist(), pa.string()),
        "x": pa.array(patches.xs),
        "y": pa.array(patches.ys),
        "label": pa.array(patches.labels),
    }
    for index, class_name in enumerate(record.class_names):
        columns[f"score_{class_name}"] = pa.array(test_set.scored.probabilities[:, index])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, write_page_checksum=True)
    directory = folder.evaluation(record.name)
    folder.write(f"{directory}/{SCORES}", bytes(sink.getvalue()))
    content = {"format": FORMAT} | record_to_json(record)
    folder.write(f"{directory}/{RECORD}", json.dumps(content, indent=1).encode())


def read_evaluations(folder: StudyFolder) -> list[EvaluationRecord]:
    """Read the records of all evaluated test sets of a study, its own test set first.

    Raises:
        StudyError: If a record is damaged or has another format.
    """
    records = [
        _read_record(folder, name)
        for name in folder.names(folder.EVALUATIONS)
        if folder.exists(f"{folder.evaluation(name)}/{RECORD}")
    ]
    return sorted(records, key=lambda record: (record.name != HELD_OUT, record.time))


def _read_record(folder: StudyFolder, name: str) -> EvaluationRecord:
    path = f"{folder.evaluation(name)}/{RECORD}"
    try:
        content = json.loads(folder.read(path))
        file_format = content.pop("format", None)
        if file_format != FORMAT:
            raise StudyError(f"format {file_format} instead of {FORMAT}")
        return record_from_json(EvaluationRecord, content)
    except (ValueError, TypeError, AttributeError, StudyError) as error:
        raise StudyError(
            f"{folder.path(path)}: cannot be read ({error}); evaluate that test set again"
        ) from None


def read_evaluation_scores(folder: StudyFolder, record: EvaluationRecord) -> ScoredRows:
    """Read the labels and predictions of an evaluated test set.

    Raises:
        StudyError: If the file is missing or damaged.
    """
    path = f"{folder.evaluation(record.name)}/{SCORES}"
    try:
        content = io.BytesIO(folder.read(path))
        table = pq.read_table(content, page_checksum_verification=True)
        scores = [table[f"score_{name}"].to_numpy() for name in record.class_names]
    except (FileNotFoundError, KeyError, pa.ArrowException):
        raise StudyError(
            f"{folder.path(path)}: missing or damaged; evaluate that test set again"
        ) from None
    return ScoredRows(
        table["label"].to_numpy(),
        np.column_stack(scores),
        np.array(table["patient"].to_pylist(), np.str_),
        record.class_names,
        record.threshold,
    )


def default_set_name(data: str) -> str:
    """Return the default name of an external test set: the last part of its address."""
    return Folder(data).address.rsplit("/", 1)[-1]
