"""How good a model was on a set, in a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from raysearch.reports.tables import judged_tables, metrics_table, short_metrics

if TYPE_CHECKING:
    from raysearch.metrics.bootstrap import Interval
    from raysearch.metrics.evaluation import Assessment


def assessment_tables(title: str, found: Assessment, near: Interval | None) -> Iterator[Table]:
    """The metrics beside who guesses, and all tables that are not a line a patient.

    `near` is the AUROC with what the patches near each one say, where it is known.
    """
    text = f"{title}: {found.rows:,} patches of {found.patients:,} patients"
    metrics = metrics_table(text, found, short_metrics(found), in_context=near)
    for one in (metrics, *judged_tables(found)):
        table = Table(title=one.title, title_justify="left")
        for place, name in enumerate(one.heads):
            table.add_column(name, justify="right" if place else "left")
        for row in one.rows:
            table.add_row(*row)
        yield table


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
