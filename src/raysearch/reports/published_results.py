"""Checks published results, which a user writes down in a YAML file, against themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ValidationInfo

from raysearch.config.hyperparameter_entry import rejected
from raysearch.config.names import candidates
from raysearch.config.yaml_loader import load_document
from raysearch.errors import DataError
from raysearch.metrics.plausibility import PlausibilityNote
from raysearch.metrics.reported_values import (
    REPORTED_CLASS_METRICS,
    ReportedValue,
    check_confidence_table,
    check_confusion,
    check_f1,
    check_fraction,
    check_support,
    reported_metrics,
)
from raysearch.reports.html_page import Table, render_page

EVALUATED_SET = "the evaluated set"
# Numbers as publications print them; counts of more digits would overflow the matrix of counts.
DECIMAL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{0,17})?|\.[0-9]{1,17}")
COUNT = re.compile("[0-9]{1,12}")
MAX_SHOWN, MAX_ERRORS, MAX_ENTRIES = 80, 20, 500
MODEL = ConfigDict(frozen=True, extra="forbid")


def _parse_reported(value: object) -> ReportedValue:
    """Return a metric as it is printed, with its zeros at the end."""
    if not isinstance(value, str) or not DECIMAL.fullmatch(value) or float(value) > 1:
        raise rejected(f"{_shown(value)} is not from 0 to 1; write the value as it is printed")
    return ReportedValue(value)


def _parse_count(value: object) -> int:
    if isinstance(value, str) and COUNT.fullmatch(value):
        return int(value)
    raise rejected(f"{_shown(value)} is not a count; write an integer from 0 to 10^12")


def _parse_confidence(value: object) -> float:
    if isinstance(value, str) and DECIMAL.fullmatch(value) and float(value) <= 1:
        return float(value)
    raise rejected(f"{_shown(value)} is not a confidence from 0 to 1")


def _shown(value: object) -> str:
    """Return a value as an error shows it; a long one is shortened."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


Reported = Annotated[ReportedValue, BeforeValidator(_parse_reported)]
Count = Annotated[int, BeforeValidator(_parse_count)]
Confidence = Annotated[float, BeforeValidator(_parse_confidence)]


class ReportedFraction(BaseModel):
    """A fraction that is reported together with its counts."""

    model_config = MODEL

    name: str
    reported: Reported
    count: Count
    total: Count


class ReportedClass(BaseModel):
    """A row of a classification report: its metrics by name, and its support."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Reported] = Field(init=False)

    support: Count | None = None

    @property
    def metrics(self) -> Mapping[str, ReportedValue]:
        """The reported metrics by name."""
        return self.__pydantic_extra__


class PublishedResults(BaseModel):
    """What a publication reports of a model on one set.

    Attributes:
        name: The name of the publication.
        rows: The number of rows of the evaluated set.
        other_sets: The numbers of rows of its other sets, by name.
        classes: The classification report.
        confusion: The confusion matrix; rows are true classes, columns predicted ones.
        metrics: Metrics by the names that `reported_metrics` uses.
        fractions: Fractions with their counts.
        by_confidence: `coverage` and metrics of the rows with at least this confidence.
    """

    model_config = MODEL

    name: str = ""
    rows: Count | None = None
    other_sets: dict[str, Count] = Field(default_factory=dict, max_length=MAX_ENTRIES)
    classes: dict[str, ReportedClass] = Field(default_factory=dict, max_length=MAX_ENTRIES)
    confusion: tuple[tuple[Count, ...], ...] | None = None
    metrics: dict[str, Reported] = Field(default_factory=dict)
    fractions: tuple[ReportedFraction, ...] = ()
    by_confidence: dict[Confidence, dict[str, Reported]] = Field(
        default_factory=dict, max_length=MAX_ENTRIES
    )

    @field_validator("by_confidence", mode="before")
    @classmethod
    def _check_confidences(cls, rows: object) -> object:
        """Reject two spellings of one confidence, such as 0.8 and 0.80."""
        if isinstance(rows, dict):
            values = [float(key) for key in rows if DECIMAL.fullmatch(str(key))]
            if len(set(values)) < len(values):
                raise rejected("a confidence is written twice; keep one of its rows")
        return rows

    @field_validator("confusion")
    @classmethod
    def _check_shape(
        cls, rows: tuple[tuple[int, ...], ...] | None, info: ValidationInfo
    ) -> tuple[tuple[int, ...], ...] | None:
        classes = info.data.get("classes")
        if rows is None or classes is None:  # `classes` has an error of its own
            return rows
        if len(rows) < 2 or {len(rows), *map(len, rows)} != {len(classes)}:
            raise rejected(
                "give one row of counts for each class of `classes`, with one column for each class"
            )
        return rows

    @property
    def support(self) -> dict[str, int]:
        """The reported support by class."""
        return {name: row.support for name, row in self.classes.items() if row.support is not None}

    @property
    def confusion_matrix(self) -> NDArray[np.int64] | None:
        """The confusion matrix (C, C), if it is reported."""
        return None if self.confusion is None else np.array(self.confusion, np.int64)


def read_published(path: Path) -> PublishedResults:
    """Read published results from a YAML file.

    Raises:
        DataError: With all errors of the file, one on each line.
    """
    document = load_document(path, texts=True)
    if not isinstance(document.tree, dict):
        keys = ", ".join(PublishedResults.model_fields)
        raise DataError(f"{path}: the file has no results; its keys are {keys}")
    try:
        results = PublishedResults.model_validate({"name": path.stem, **document.tree})
    except ValidationError as error:
        lines = []
        for details in error.errors(include_url=False):
            keys_of_value = tuple(key for key in details["loc"] if key != "[key]")
            line = document.line_of(keys_of_value)
            prefix = "" if line is None else f"line {line}: "
            location = ".".join(map(str, keys_of_value))
            lines.append(" ".join(f"{prefix}{location}: {_message(details)}".split()))
        errors = list(dict.fromkeys(lines))
        if len(errors) > 1:
            num_errors = len(errors)
            errors = [f"{num_errors} errors", *errors[:MAX_ERRORS]]
            if num_errors > MAX_ERRORS:
                errors.append("...")
        raise DataError("\n  ".join([f"{path}: {errors[0]}", *errors[1:]])) from None
    return results


def _message(details: ErrorDetails) -> str:
    """Return what is wrong with a value, without its location."""
    kind = details["type"]
    if kind == "extra_forbidden":
        model = ReportedFraction if details["loc"][0] == "fractions" else PublishedResults
        keys = list(model.model_fields)
        return f"unknown key{candidates(details['loc'][-1], keys)}"
    if kind == "missing":
        return "this key is required"
    if kind in ("dict_type", "model_type"):
        return f"{_shown(details['input'])} is not a mapping; write names with values"
    if kind in ("list_type", "tuple_type"):
        return f"{_shown(details['input'])} is not a list"
    return details["msg"]


def check_published(results: PublishedResults) -> list[PlausibilityNote]:
    """Return a note for each result that contradicts the other ones, or is not informative."""
    notes: list[PlausibilityNote] = []
    if results.support and results.rows is not None:
        notes += check_support(results.support, results.rows, results.other_sets, EVALUATED_SET)
    for name, row in results.classes.items():
        if all(metric in row.metrics for metric in REPORTED_CLASS_METRICS):
            precision, recall, f1 = (row.metrics[metric] for metric in REPORTED_CLASS_METRICS)
            notes += check_f1(name, precision, recall, f1)
    confusion = results.confusion_matrix
    if confusion is not None:
        reported = dict(results.metrics)
        for name, row in results.classes.items():
            reported |= {f"{metric}_{name}": value for metric, value in row.metrics.items()}
        notes += check_confusion(confusion, list(results.classes), reported)
        if results.rows is not None:
            counts = dict(zip(results.classes, confusion.sum(axis=1).tolist(), strict=True))
            notes += check_support(counts, results.rows, results.other_sets, EVALUATED_SET)
    for fraction in results.fractions:
        notes += check_fraction(fraction.name, fraction.reported, fraction.count, fraction.total)
    return notes + check_confidence_table(results.by_confidence)


def published_page(results: PublishedResults, notes: list[PlausibilityNote]) -> str:
    """Render a page of published results with the notes of `check_published`."""
    return render_page(
        "published_results.html",
        title=f"Published results: {results.name}",
        notes=notes,
        tables=[table for table in _tables(results) if table.rows],
    )


def _tables(results: PublishedResults) -> list[Table]:
    confusion = results.confusion_matrix
    computed = {} if confusion is None else reported_metrics(confusion, list(results.classes))
    return [
        Table(
            "Classification report",
            ["class", *REPORTED_CLASS_METRICS, "support"],
            [
                [
                    name,
                    *(
                        row.metrics[metric].text if metric in row.metrics else "-"
                        for metric in REPORTED_CLASS_METRICS
                    ),
                    "-" if row.support is None else f"{row.support:,}",
                ]
                for name, row in results.classes.items()
            ],
        ),
        Table(
            "Metrics of the confusion matrix",
            ["metric", "computed"],
            [[name, "-" if value is None else f"{value:.4f}"] for name, value in computed.items()],
        ),
        Table(
            "Fractions",
            ["fraction", "reported", "counts", "computed"],
            [
                [
                    fraction.name,
                    fraction.reported.text,
                    f"{fraction.count:,}/{fraction.total:,}",
                    f"{fraction.count / fraction.total:.4f}",
                ]
                for fraction in results.fractions
                if fraction.total
            ],
        ),
        _confidence_table(results),
    ]


def _confidence_table(results: PublishedResults) -> Table:
    rows = sorted(results.by_confidence.items())
    names = list(dict.fromkeys(name for _confidence, row in rows for name in row))
    return Table(
        "By minimum confidence",
        ["confidence", *names],
        [
            [f"{confidence:g}", *(row[name].text if name in row else "-" for name in names)]
            for confidence, row in rows
        ],
    )
