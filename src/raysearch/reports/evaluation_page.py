"""The page of a model's evaluation on test sets, and the reader of score tables for it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.csv_files import TextTable, read_csv
from raysearch.data.pseudonyms import DisplayedNames
from raysearch.errors import DataError
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.plausibility import PlausibilityNote
from raysearch.metrics.row_units import singular
from raysearch.reports.chart_canvas import Chart
from raysearch.reports.evaluation_charts import evaluation_charts
from raysearch.reports.evaluation_tables import (
    detail_tables,
    fold_table,
    key_tables,
    metrics_table,
    patient_table,
)
from raysearch.reports.headline import result_text
from raysearch.reports.html_page import Table, render_page
from raysearch.reports.study_report import EvaluatedSet

MAX_PATIENTS = 40
SCORE_PREFIX = "score_"
# Rounded probabilities sum to 1 within this tolerance.
SUM_TOLERANCE = 0.01
# What programs write if a value is missing.
MISSING_WORDS = frozenset(("nan", "none", "null", "na", "n/a", "<na>", "nat"))


@dataclass(frozen=True)
class EvaluationSection:
    """A section of a page on one evaluated set; `evaluation_section.html` renders it.

    Attributes:
        name: The name of the set, with a capital.
        support: Its numbers of rows and patients.
        lead: The result in one or two sentences.
        text: What was evaluated, and how.
        notes: What limits the validity of the result.
        charts: The charts.
        key_tables: The tables by class and of patients that are detected.
        tables: The other tables.
        folded_tables: Those with a row for each patient.
        unit: What a row of the set is: `PATCHES` or `SLIDES`.
    """

    name: str
    support: str
    lead: str
    text: str
    notes: tuple[PlausibilityNote, ...]
    charts: tuple[Chart, ...]
    key_tables: tuple[Table, ...]
    tables: tuple[Table, ...]
    folded_tables: tuple[Table, ...]
    unit: str

    @property
    def unit_singular(self) -> str:
        """What a row of the set is, in the singular."""
        return singular(self.unit)


def evaluation_page(title: str, sets: Sequence[EvaluatedSet], names: DisplayedNames) -> str:
    """Render the page of evaluated sets without a study."""
    sections = [evaluation_section(evaluated, names) for evaluated in sets]
    return render_page("evaluation_page.html", title=title, sections=sections)


def evaluation_section(evaluated: EvaluatedSet, names: DisplayedNames) -> EvaluationSection:
    """Return the content of the section on an evaluated set, with the displayed `names`."""
    evaluation = evaluated.evaluation
    charts = evaluation_charts(
        evaluated.scored,
        evaluation,
        evaluated.uncalibrated,
        evaluated.name,
        is_calibrated=evaluated.is_calibrated,
    )
    patients = evaluation.patient_level
    return EvaluationSection(
        name=evaluated.name[:1].upper() + evaluated.name[1:],
        support=evaluated.support,
        lead=result_text(evaluated),
        text=evaluated.text,
        notes=tuple(replace(note, text=names.message(note.text)) for note in evaluated.notes),
        charts=tuple(charts),
        key_tables=tuple(key_tables(evaluation)),
        tables=tuple(_tables(evaluated)),
        folded_tables=()
        if patients is None
        else (patient_table(evaluation, patients, MAX_PATIENTS, names),),
        unit=evaluation.unit,
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
    if evaluation.folds:
        yield fold_table(evaluation)


def read_score_table(path: Path) -> ScoredRows:
    """Read a CSV file with labels and predictions, as `raysearch predict` writes it.

    Patients and labels are texts: `007`, `7` and `7.0` are three patients. Blanks at their ends
    are no part of them. The table does not say what a row is; it counts as a patch.

    Raises:
        DataError: If a column is missing, a score is not a number, the scores of a row do not sum
            to 1, or a label or a patient is missing.
    """
    table = read_csv(path, "a score table")
    names = tuple(
        _identifier(name.removeprefix(SCORE_PREFIX))
        for name in table.columns
        if name.startswith(SCORE_PREFIX)
    )
    missing = {"patient", "label"} - set(table.columns)
    if len(names) < 2 or missing:
        columns = ", ".join(sorted(missing)) or f"{SCORE_PREFIX}CLASS for at least two classes"
        raise DataError(
            f"{path}: missing columns: {columns}; required are patient, label and"
            f" {SCORE_PREFIX}CLASS for each class"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: class {repeated[0]!r} twice; keep one of its columns")
    if not table.rows:
        raise DataError(f"{path}: no row of scores; score patches with `raysearch predict`")
    scores = _read_scores(path, table)
    labels, patients = (
        np.array([_identifier(text) for text in table.column(name)], np.str_)
        for name in ("label", "patient")
    )
    is_unlabelled = ~np.isin(labels, names)
    _reject_rows(path, table, is_unlabelled, f"the label is not one of {', '.join(names)}")
    no_patient = "the patient is missing, which confidence intervals require"
    _reject_rows(path, table, patients == "", no_patient)
    numbers = np.array([names.index(label) for label in labels.tolist()], np.int64)
    return ScoredRows(numbers, scores, patients, names)


def missing_value_notes(scored: ScoredRows) -> list[str]:
    """Return a note for each patient whose name is a word that programs write if it is missing."""
    names, counts = np.unique(scored.patients, return_counts=True)
    return [
        f"{count:,} {scored.unit} have the patient {name!r}, which counts as one patient; if it is"
        " missing, remove these rows"
        for name, count in zip(names.tolist(), counts.tolist(), strict=True)
        if name.lower() in MISSING_WORDS
    ]


def _read_scores(path: Path, table: TextTable) -> NDArray[np.float64]:
    """Read the probabilities, shape (N, C); DataError if they are none."""
    columns = [
        [_float_or_none(text) for text in table.column(name)]
        for name in table.columns
        if name.startswith(SCORE_PREFIX)
    ]
    scores = np.array(columns, np.float64).T
    is_text = np.array([None in values for values in zip(*columns, strict=True)], np.bool_)
    _reject_rows(path, table, is_text, "a score is not a number; give probabilities")
    is_finite = np.asarray(np.isfinite(scores).all(axis=1), np.bool_)
    _reject_rows(path, table, ~is_finite, "a score is not a finite number; remove the row")
    is_normalized = np.asarray(np.abs(scores.sum(axis=1) - 1) <= SUM_TOLERANCE, np.bool_)
    _reject_rows(path, table, ~is_normalized, "the scores do not sum to 1")
    return scores


def _identifier(text: str) -> str:
    """Return a name without blanks at its ends, its accents composed (Unicode NFC)."""
    return unicodedata.normalize("NFC", text.strip())


def _float_or_none(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _reject_rows(path: Path, table: TextTable, is_rejected: NDArray[np.bool_], reason: str) -> None:
    """Raise a DataError with the line of the first rejected row, if there is one."""
    if is_rejected.any():
        line = table.lines[int(np.flatnonzero(is_rejected)[0])]
        more = int(is_rejected.sum()) - 1
        raise DataError(f"{path}: line {line}: {reason} ({more:,} more such rows)")
