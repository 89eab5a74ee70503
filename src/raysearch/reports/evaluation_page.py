"""The page of a model's evaluation on test sets, and the reader of score tables for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from raysearch.errors import DataError, first_line
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.plausibility import PlausibilityNote
from raysearch.reports.evaluation_charts import evaluation_charts
from raysearch.reports.evaluation_tables import (
    detail_tables,
    fold_table,
    metrics_table,
    patient_table,
)
from raysearch.reports.html_page import Chart, Table, render_page
from raysearch.reports.study_report import EvaluatedSet

MAX_PATIENTS = 40
SCORE_PREFIX = "score_"
# Rounded probabilities sum to 1 within this tolerance.
SUM_TOLERANCE = 0.01


@dataclass(frozen=True)
class EvaluationSection:
    """A section of a page on one evaluated set; `evaluation_section.html` renders it.

    Attributes:
        name: The name of the set, with a capital.
        support: Its numbers of patches and patients.
        text: What was evaluated, and how.
        notes: What limits the validity of the result.
        charts: The charts.
        tables: The tables.
    """

    name: str
    support: str
    text: str
    notes: tuple[PlausibilityNote, ...]
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]


def evaluation_page(title: str, sets: Sequence[EvaluatedSet]) -> str:
    """Render the page of evaluated sets without a study."""
    sections = [evaluation_section(evaluated) for evaluated in sets]
    return render_page("evaluation_page.html", title=title, sections=sections)


def evaluation_section(evaluated: EvaluatedSet) -> EvaluationSection:
    """Return the content of the section on an evaluated set."""
    charts = evaluation_charts(evaluated.scored, evaluated.evaluation, evaluated.uncalibrated)
    return EvaluationSection(
        name=evaluated.name[:1].upper() + evaluated.name[1:],
        support=evaluated.support,
        text=evaluated.text,
        notes=evaluated.notes,
        charts=tuple(charts),
        tables=tuple(_tables(evaluated)),
    )


def _tables(evaluated: EvaluatedSet) -> Iterator[Table]:
    evaluation = evaluated.evaluation
    yield metrics_table(
        "Metrics",
        evaluation,
        uncalibrated=evaluated.uncalibrated,
        smoothed_auroc=evaluated.smoothed_auroc,
    )
    yield from detail_tables(evaluation)
    if evaluation.patient_level is not None:
        yield patient_table(evaluation, evaluation.patient_level, MAX_PATIENTS)
    if evaluation.folds:
        yield fold_table(evaluation)


def read_score_table(path: Path) -> ScoredRows:
    """Read a CSV file with labels and predictions, as `raysearch predict` writes it.

    Raises:
        DataError: If a column is missing, a score is not a number, the scores of a row do not sum
            to 1, or a label or a patient is missing.
    """
    try:
        table = pyarrow.csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a score table ({first_line(error)})") from None
    names = [
        name.removeprefix(SCORE_PREFIX)
        for name in table.column_names
        if name.startswith(SCORE_PREFIX)
    ]
    missing = {"patient", "label"} - set(table.column_names)
    if len(names) < 2 or missing:
        columns = ", ".join(sorted(missing)) or f"{SCORE_PREFIX}CLASS for at least two classes"
        raise DataError(
            f"{path}: missing columns: {columns}; required are patient, label and"
            f" {SCORE_PREFIX}CLASS for each class"
        )
    try:
        columns_of_scores = [
            table[f"{SCORE_PREFIX}{name}"].cast(pa.float64()).to_numpy() for name in names
        ]
    except pa.ArrowException:
        raise DataError(f"{path}: a score is not a number; give probabilities") from None
    scores = np.column_stack(columns_of_scores)
    is_finite = np.isfinite(scores).all(axis=1)
    _reject_rows(path, ~is_finite, "a score is not a finite number; remove the row")
    is_normalized = np.abs(scores.sum(axis=1) - 1) <= SUM_TOLERANCE
    _reject_rows(path, ~is_normalized, "the scores do not sum to 1")
    labels = [None if label is None else str(label) for label in table["label"].to_pylist()]
    is_labelled = np.array([label in names for label in labels])
    _reject_rows(path, ~is_labelled, f"the label is not one of {', '.join(names)}")
    patients = np.array([str(patient or "") for patient in table["patient"].to_pylist()])
    no_patient = "the patient is missing, which confidence intervals require"
    _reject_rows(path, patients == "", no_patient)
    numbers = np.array([names.index(str(label)) for label in labels], np.int64)
    return ScoredRows(numbers, scores, patients, tuple(names))


def _reject_rows(path: Path, is_rejected: NDArray[np.bool_], reason: str) -> None:
    """Raise a DataError with the line of the first rejected row, if there is one."""
    if is_rejected.any():
        line = int(np.flatnonzero(is_rejected)[0]) + 2
        more = int(is_rejected.sum()) - 1
        raise DataError(f"{path}: line {line}: {reason} ({more:,} more such rows)")
