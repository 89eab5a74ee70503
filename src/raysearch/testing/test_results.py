"""The results of a champion on the test sets, as the study's folder stores them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.config.json_values import dump_checked, parse_checked, parse_json
from raysearch.data.files import Folder
from raysearch.data.parquet_files import read_parquet
from raysearch.data.shards.patches import Patches
from raysearch.errors import StudyError, shortened
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.interval import Interval
from raysearch.metrics.row_units import PATCHES
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.study_folder import StudyFolder

RECORD = "evaluation.json"
# The name of the predictions contains the first digits of their SHA-256.
SCORES_NAME = re.compile(r"scores-[0-9a-f]{8}\.parquet")
# The version of the layout of `RECORD`; it increases with every change of the fields.
FORMAT = 3
SCORES_HASH = "scores_sha256"
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
    """Write the predictions, then the record, into the study's folder.

    Until the record is written, the one before and its predictions are read.
    """
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
    pq.write_table(pa.table(columns), sink)
    scores = bytes(sink.getvalue())
    scores_hash = hashlib.sha256(scores).hexdigest()
    _remove_unused_scores(folder, record.name)
    folder.write(scores_file(folder, record.name, scores_hash), scores)
    content = {"format": FORMAT, SCORES_HASH: scores_hash} | record_to_json(record)
    folder.write(f"{folder.evaluation(record.name)}/{RECORD}", dump_checked(content))


def scores_file(folder: StudyFolder, name: str, sha256: str) -> str:
    """Return the file of the predictions of the test set `name` with the hash `sha256`.

    Raises:
        ValueError: If `sha256` is not one.
    """
    file = f"scores-{sha256[:8]}.parquet"
    if not SCORES_NAME.fullmatch(file):
        raise ValueError("no SHA-256")
    return f"{folder.evaluation(name)}/{file}"


def _remove_unused_scores(folder: StudyFolder, name: str) -> None:
    """Remove the predictions of the test set `name` that its record does not name."""
    try:
        used = scores_file(folder, name, _read_record(folder, name)[1])
    except (OSError, ValueError, StudyError):
        used = ""
    directory = folder.evaluation(name)
    for file in folder.names(directory):
        path = f"{directory}/{file}"
        if SCORES_NAME.fullmatch(file) and path != used:
            folder.remove(path)


def read_evaluations(folder: StudyFolder) -> list[EvaluationRecord]:
    """Read the records of all evaluated test sets of a study, its own test set first.

    Raises:
        StudyError: If a record is damaged or has another format.
    """
    records = [
        _read_record(folder, name)[0]
        for name in folder.names(folder.EVALUATIONS)
        if folder.exists(f"{folder.evaluation(name)}/{RECORD}")
    ]
    return sorted(records, key=lambda record: (record.name != HELD_OUT, record.time))


def read_evaluation(folder: StudyFolder, name: str) -> EvaluationRecord | None:
    """Read the record of the evaluated test set `name`; None if it was not evaluated.

    Raises:
        StudyError: If the record is damaged or has another format.
    """
    if not folder.exists(f"{folder.evaluation(name)}/{RECORD}"):
        return None
    return _read_record(folder, name)[0]


def _repeat_advice(name: str) -> str:
    """Return how to evaluate the test set `name` again."""
    option = " with `raysearch test --again`" if name == HELD_OUT else ""
    return f"evaluate that test set again{option}"


def _read_record(folder: StudyFolder, name: str) -> tuple[EvaluationRecord, str]:
    """Read the record of an evaluation, and the SHA-256 of its predictions."""
    path = f"{folder.evaluation(name)}/{RECORD}"
    try:
        content = folder.read(path)
        _reject_other_format(content)
        fields = parse_checked(content)
        if not isinstance(fields, dict):
            raise StudyError("no mapping")
        scores_hash = str(fields.pop(SCORES_HASH, ""))
        del fields["format"]
        return record_from_json(EvaluationRecord, fields), scores_hash
    except (ValueError, StudyError) as error:
        raise StudyError(
            f"{folder.path(path)}: cannot be read ({error}); {_repeat_advice(name)}"
        ) from None


def _reject_other_format(content: bytes) -> None:
    fields = parse_json(content)
    file_format = fields.get("format") if isinstance(fields, dict) else None
    if file_format != FORMAT:
        raise StudyError(f"format {shortened(file_format)} instead of {FORMAT}")


def read_evaluation_scores(
    folder: StudyFolder, record: EvaluationRecord, unit: str = PATCHES
) -> ScoredRows:
    """Read the labels and predictions of an evaluated test set.

    Args:
        folder: The study's folder.
        record: The record of the test set.
        unit: What a row of the study is: `PATCHES` or `SLIDES`.

    Raises:
        StudyError: If the file is missing or damaged.
    """
    try:
        _record, sha256 = _read_record(folder, record.name)
        content = folder.read_verified(scores_file(folder, record.name, sha256), sha256)
        table = read_parquet(content)
        scores = [table[f"score_{name}"].to_numpy() for name in record.class_names]
        return ScoredRows(
            table["label"].to_numpy().astype(np.int64, casting="safe"),
            np.column_stack(scores).astype(np.float64, casting="same_kind"),
            np.array(table["patient"].to_pylist(), np.str_),
            record.class_names,
            record.threshold,
            unit,
        )
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
        raise StudyError(
            f"{folder.path(folder.evaluation(record.name))}: its scores are missing or damaged;"
            f" {_repeat_advice(record.name)}"
        ) from None


def default_set_name(data: str) -> str:
    """Return the default name of an external test set: the last part of its address."""
    return Folder(data).address.rsplit("/", 1)[-1]
