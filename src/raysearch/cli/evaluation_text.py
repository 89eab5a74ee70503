"""Prints the evaluation of a model on a test set as tables, or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.cli.json_output import print_json
from raysearch.errors import first_line
from raysearch.reports.evaluation_tables import (
    detail_tables,
    headline_metrics,
    key_tables,
    metrics_table,
)

if TYPE_CHECKING:
    from raysearch.metrics.evaluation import Evaluation
    from raysearch.metrics.interval import Interval
    from raysearch.testing.evaluation_run import EvaluationOutcome
    from raysearch.testing.test_results import EvaluationRecord


def print_tracking_error(error: Exception | None, console: Console) -> None:
    """Print why an evaluation is not in MLflow, if there is an error."""
    if error is not None:
        console.print(f"[red]Not in MLflow[/]: {escape(first_line(error))}", soft_wrap=True)


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
    text = f"{title}: {evaluation.rows:,} {evaluation.unit} of {evaluation.patients:,} patients"
    metrics = metrics_table(
        text, evaluation, headline_metrics(evaluation), smoothed_auroc=smoothed_auroc
    )
    for summary in (metrics, *key_tables(evaluation), *detail_tables(evaluation)):
        table = Table(title=escape(summary.title), title_justify="left")
        for index, name in enumerate(summary.columns):
            table.add_column(escape(name), justify="right" if index else "left")
        for row in summary.rows:
            table.add_row(*map(escape, row))
        yield table


def print_evaluation_json(outcome: EvaluationOutcome) -> None:
    """Print the record, the metrics and the error of the tracking store as JSON.

    `stored` says whether the result is that of an earlier evaluation.
    """
    error = None if outcome.tracking_error is None else first_line(outcome.tracking_error)
    content = {**asdict(outcome.record), **asdict(outcome.evaluation)}
    print_json({**content, "tracking_error": error, "stored": outcome.is_stored})
