"""Renders the figures of a search as a page, and the files that MLflow gets of a search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from raysearch.analysis.parallel_coordinates import value_text
from raysearch.analysis.search_figures import SearchFigures, study_figures
from raysearch.analysis.stored_importances import ImportancesByFolds
from raysearch.data.pseudonyms import without_folders
from raysearch.metrics.row_units import singular
from raysearch.reports.chart_canvas import Chart
from raysearch.reports.html_page import Table, render_page
from raysearch.reports.search_charts import (
    coordinates_chart,
    history_chart,
    importance_chart,
)
from raysearch.search.journal.history import History, leaderboard
from raysearch.search.study.plan import Plan


@dataclass(frozen=True)
class CostColumn:
    """A column of the trial table with a cost: its title, the unit of a cell, and its format.

    The title has `{row}` in place of what a row of the study is.
    """

    title: str
    unit: float
    cell_format: str

    def cell(self, cost: float | None) -> str:
        """Return the text of a cost; empty if it was not measured."""
        if cost is None:
            return ""
        return self.cell_format.format(cost if self.unit == 1 else cost / self.unit)


COST_COLUMNS = {
    "parameters": CostColumn("million parameters", 1e6, "{:.3g}"),
    "flops": CostColumn("GFLOPs per {row}", 1e9, "{:.3g}"),
    "effective_batch_size": CostColumn("batch size", 1, "{:,}"),
    "samples_seen": CostColumn("samples seen", 1, "{:,}"),
    "inference_ms": CostColumn("ms per {row}", 1, "{:.3g}"),
    "peak_device_bytes": CostColumn("device memory, GB", 1e9, "{:.2f}"),
    "peak_rss_bytes": CostColumn("peak RSS, GB", 1e9, "{:.2f}"),
}


@dataclass(frozen=True)
class SearchSection:
    """The figures of the trials with the same number of folds; `search_figures.html` renders it.

    Attributes:
        figures: The figures with their captions.
        charts: The charts.
        has_importances: Whether there are importances; if not, the caption says why.
        trials: The trials, the best first.
        costs: Their costs, if some were measured.
    """

    figures: SearchFigures
    charts: tuple[Chart, ...]
    has_importances: bool
    trials: Table
    costs: Table


def search_page(plan: Plan, history: History, figures: Sequence[SearchFigures]) -> str:
    """Render the page of the figures of a study."""
    trials = history.searched()
    num_ended = sum(trial.status in ("finished", "stopped", "failed") for trial in trials)
    state = (
        f"Objective: {plan.space.metric}, {plan.space.mode}imized. {num_ended} of"
        f" {history.planned(plan.space.trials)} trials have ended."
        f" Data {plan.fingerprint[:12]}, seed"
        f" {plan.space.seed}."
    )
    sections = [search_section(group, plan.unit) for group in figures]
    title = f"Search figures of {plan.name}"
    return render_page("search_page.html", title=title, state=state, search_sections=sections)


def search_section(figures: SearchFigures, unit: str) -> SearchSection:
    """Return the section of the trials with the same number of folds, of a study of `unit`."""
    importance, coordinates = figures.importance, figures.parallel_coordinates
    history, metric, suffix = (
        figures.optimization_history,
        figures.metric,
        f"-{figures.folds}-folds",
    )
    charts = []
    if importance.fractions:
        chart = importance_chart(importance, f"importances{suffix}")
        charts.append(replace(chart, caption=figures.importance_text))
    chart = history_chart(history, metric, f"optimization-history{suffix}")
    charts.append(replace(chart, caption=figures.progress_text))
    if coordinates.hparams and coordinates.lines:
        name = f"parallel-coordinates{suffix}"
        chart = coordinates_chart(coordinates, metric, figures.mode, name)
        caption = f"{figures.coordinates_text} {chart.caption}".strip()
        charts.append(replace(chart, caption=caption))
    return SearchSection(
        figures=figures,
        charts=tuple(charts),
        has_importances=bool(importance.fractions),
        trials=_trial_table(figures),
        costs=_cost_table(figures, unit),
    )


def _trial_table(figures: SearchFigures) -> Table:
    coordinates = figures.parallel_coordinates
    names = [hparam.name for hparam in coordinates.hparams]
    rows = [
        [
            line.trial.id,
            line.trial.status,
            str(line.trial.epoch),
            f"{line.trial.objective:.4f}",
            ", ".join(
                f"{name} {value_text(line.trial.hparams[name])}"
                for name in names
                if name in line.trial.hparams
            ),
        ]
        for line in coordinates.lines
    ]
    columns = ["trial", "state", "fold-epochs", figures.metric, "hyperparameters"]
    return Table("", columns, rows, is_text=True)


def _cost_table(figures: SearchFigures, unit: str) -> Table:
    """Return the costs of the trials; only the names of the trials if none was measured."""
    lines = figures.parallel_coordinates.lines
    costs_by_trial = [line.trial.costs.by_name() for line in lines]
    columns = {
        name: column
        for name, column in COST_COLUMNS.items()
        if any(name in costs for costs in costs_by_trial)
    }
    rows = [
        [line.trial.id, *(column.cell(costs.get(name)) for name, column in columns.items())]
        for line, costs in zip(lines, costs_by_trial, strict=True)
    ]
    titles = (column.title.format(row=singular(unit)) for column in columns.values())
    return Table("Costs", ["trial", *titles], rows)


def search_artifacts(
    plan: Plan, history: History, importances: ImportancesByFolds | None = None
) -> dict[str, bytes]:
    """Return the files that the parent run in MLflow gets, by name.

    Args:
        plan: The plan of the study.
        history: Its trials.
        importances: The hyperparameter importances, if they are computed already.

    Returns:
        `figures.html`, the page of the figures, and `leaderboard.json`, a table of the trials.
    """
    page = search_page(plan, history, study_figures(plan, history, importances))
    return {"figures.html": page.encode(), "leaderboard.json": _leaderboard_json(plan, history)}


def _leaderboard_json(plan: Plan, history: History) -> bytes:
    names = [hparam.name for hparam in plan.space.hparams]
    columns = ["trial", "kind", "state", "reason", plan.space.metric, "fold_epochs", "seconds"]
    rows = [
        [
            *(trial.id, trial.kind, trial.status, without_folders(trial.reason), trial.objective),
            *(trial.epoch, round(trial.seconds, 3)),
            *(_without_folders(trial.hparams.get(name)) for name in names),
        ]
        for trial in leaderboard(history, plan.space)
    ]
    return json.dumps({"columns": [*columns, *names], "data": rows}).encode()


def _without_folders(value: str | float | None) -> str | float | None:
    """Shorten the path of a file of weights."""
    return without_folders(value) if isinstance(value, str) else value
