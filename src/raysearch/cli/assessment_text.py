"""How good a model was on a set, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from raysearch.scores.assessment import Assessment
from raysearch.scores.bootstrap import Interval
from raysearch.scores.selective import Cleared

# What of the metrics a table shows, by how many classes there are.
OF_TWO = (
    *("auroc", "average_precision", "accuracy", "balanced_accuracy", "precision", "recall"),
    *("specificity", "f1", "mcc", "brier", "log_loss"),
)
OF_SEVERAL = (
    *("auroc", "average_precision", "accuracy", "balanced_accuracy", "macro_precision"),
    *("macro_recall", "macro_specificity", "macro_f1", "mcc", "brier", "log_loss"),
)


def shown_metrics(found: Assessment) -> tuple[str, ...]:
    """The names of the metrics that are worth a line."""
    return OF_TWO if len(found.class_names) == 2 else OF_SEVERAL


def assessment_tables(title: str, found: Assessment) -> list[Table]:
    """The metrics beside who guesses, the classes, what is left to a person, and the patients."""
    tables = [_metrics(title, found), _classes(found), _coverage(found)]
    if found.triage:
        tables.append(_triage("Cleared without a person, by patch", found.triage))
    if found.by_patient is not None:
        tables.append(_patients(found))
        tables.append(_triage("Cleared without a person, by patient", found.by_patient.triage))
    return tables


def told(found: Assessment) -> dict[str, Any]:
    """As plain values."""
    values: dict[str, Any] = _plain(asdict(found))
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place else "left")
    return table


def _metrics(title: str, found: Assessment) -> Table:
    text = f"{title}: {found.rows:,} patches of {found.patients:,} patients"
    table = _table(text, "metric", "value", "95 % by patient", "guessing")
    for name in shown_metrics(found):
        one = found.metrics[name]
        table.add_row(name, _number(one.value), _span(one), _number(found.baseline[name]))
    table.add_row("calibration error", _number(found.reliability.error), "", "")
    return table


def _classes(found: Assessment) -> Table:
    decided = "likeliest" if found.threshold is None else f"threshold {found.threshold:.3f}"
    names = ("class", "precision", "recall", "f1", "specificity", "support")
    table = _table(f"By class ({decided})", *names, *(f"as {one}" for one in found.class_names))
    for one, counts in zip(found.classes, found.confusion.tolist(), strict=True):
        values = (one.precision, one.recall, one.f1, one.specificity)
        table.add_row(
            one.name,
            *(_number(value.value) for value in values),
            f"{one.support:,}",
            *(f"{count:,}" for count in counts),
        )
    return table


def _coverage(found: Assessment) -> Table:
    title = "Decided only where sure enough"
    if found.risk.augrc is not None:
        title += f" (AUGRC {found.risk.augrc:.4f})"
    heads = [f"{name} {what}" for name in found.class_names for what in ("cover", "prec", "rec")]
    table = _table(title, "confidence", "covered", "patients", "accuracy", *heads)
    for one in found.coverage:
        cells = [
            _number(value, 3)
            for part in one.classes
            for value in (part.coverage, part.precision, part.recall)
        ]
        patients = f"{one.patients:,} of {one.of_patients:,}"
        table.add_row(
            f"{one.confidence:g}",
            _number(one.coverage, 3),
            patients,
            _number(one.accuracy, 3),
            *cells,
        )
    return table


def _triage(title: str, lines: Sequence[Cleared]) -> Table:
    table = _table(title, "confidence", "cleared", "missed", "share missed", "NPV")
    for one in lines:
        table.add_row(
            f"{one.confidence:g}",
            f"{one.rows:,} of {one.of:,}",
            f"{one.missed:,} of {one.positives:,}",
            f"{_number(one.missed_share.value, 3)} ({_span(one.missed_share, 3)})",
            f"{_number(one.npv.value, 3)} ({_span(one.npv, 3)})",
        )
    return table


def _patients(found: Assessment) -> Table:
    of = found.by_patient
    ill = 0 if of is None else int(of.table.labels.sum())
    title = f"By patient: {ill:,} of {found.patients:,} have a patch of {found.class_names[1]}"
    table = _table(title, "ranked by", "AUROC", "95 %")
    for name, one in (of.auroc if of is not None else {}).items():
        table.add_row(name, _number(one.value), _span(one))
    error = None if of is None else of.table.share_error()
    table.add_row("error of the share above the threshold", _number(error), "")
    return table


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _span(one: Interval, digits: int = 4) -> str:
    return f"{_number(one.low, digits)} to {_number(one.high, digits)}"
