"""Prints the evaluation of a model on a test set as tables, or as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.reports.evaluation_tables import detail_tables, headline_metrics, metrics_table

if TYPE_CHECKING:
    from raysearch.metrics.bootstrap import Interval
    from raysearch.metrics.evaluation import Evaluation
    from raysearch.testing.test_results import EvaluationRecord


def print_evaluation(
    title: str, record: EvaluationRecord, evaluation: Evaluation, console: Console
) -> None:
    """Print the tables of an evaluation, the model, and the notes of the record."""
    for table in evaluation_tables(title, evaluation, record.smoothed_auroc):
        console.print(table)
    console.print(f"Model     {escape(record.model)}", soft_wrap=True)
    for note in record.notes:
        console.print(f"[yellow]Note[/]      {escape(note)}", soft_wrap=True)


def evaluation_tables(
    title: str, evaluation: Evaluation, smoothed_auroc: Interval | None
) -> Iterator[Table]:
    """Yield the metrics next to the class-prior baseline, then the other summary tables.

    Args:
        title: The title of the first table.
        evaluation: The metrics.
        smoothed_auroc: The AUROC after smoothing over neighboring patches; None if their positions
            are unknown.
    """
    text = f"{title}: {evaluation.rows:,} patches of {evaluation.patients:,} patients"
    metrics = metrics_table(
        text, evaluation, headline_metrics(evaluation), smoothed_auroc=smoothed_auroc
    )
    for summary in (metrics, *detail_tables(evaluation)):
        table = Table(title=summary.title, title_justify="left")
        for index, name in enumerate(summary.columns):
            table.add_column(name, justify="right" if index else "left")
        for row in summary.rows:
            table.add_row(*row)
        yield table


def evaluation_json(
    record: EvaluationRecord, evaluation: Evaluation, tracking_error: Exception | None
) -> str:
    """Return the record, the metrics and the error of the tracking store as one line of JSON.

    Numbers that are not finite are null.
    """
    error = None if tracking_error is None else str(tracking_error)
    content = {**asdict(record), **asdict(evaluation), "tracking_error": error}
    return json.dumps(_json_value(content)) + "\n"


def _json_value(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, np.ndarray):
        return _json_value(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
