"""Renders the figures of a search as a page, and the files that MLflow gets of a search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from raysearch.analysis.parallel_coordinates import value_text
from raysearch.analysis.search_figures import SearchFigures, study_figures
from raysearch.analysis.stored_importances import ImportancesByFolds
from raysearch.reports.html_page import render_page
from raysearch.reports.search_charts import (
    coordinates_chart,
    history_chart,
    importance_chart,
)
from raysearch.search.journal.history import History, leaderboard
from raysearch.search.study.plan import Plan


@dataclass(frozen=True)
class CostColumn:
    """A column of the trial table with a cost: its title, the unit of a cell, and its format."""

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
    "flops": CostColumn("GFLOPs per patch", 1e9, "{:.3g}"),
    "effective_batch_size": CostColumn("batch size", 1, "{:,}"),
    "samples_seen": CostColumn("samples seen", 1, "{:,}"),
    "inference_ms": CostColumn("ms per patch", 1, "{:.3g}"),
    "peak_device_bytes": CostColumn("device memory, GB", 1e9, "{:.2f}"),
    "peak_rss_bytes": CostColumn("peak RSS, GB", 1e9, "{:.2f}"),
}


@dataclass(frozen=True)
class TrialRow:
    """A row of the trial table."""

    trial: str
    state: str
    fold_epochs: int
    objective: str
    hparams: tuple[str, ...]
    costs: tuple[str, ...]


@dataclass(frozen=True)
class SearchSection:
    """The figures of the trials with the same number of folds; `search_figures.html` renders it.

    Attributes:
        figures: The figures with their captions.
        importance: The chart of the importances; empty if they are undefined.
        history: The chart of the optimization history.
        coordinates: The chart of the parallel coordinates; empty without hyperparameters.
        hparam_names: The columns of the hyperparameters.
        cost_titles: The columns of the costs.
        rows: The trials, the best first.
    """

    figures: SearchFigures
    importance: str
    history: str
    coordinates: str
    hparam_names: tuple[str, ...]
    cost_titles: tuple[str, ...]
    rows: tuple[TrialRow, ...]


def search_page(plan: Plan, history: History, figures: Sequence[SearchFigures]) -> str:
    """Render the page of the figures of a study."""
    trials = history.searched()
    num_ended = sum(trial.status in ("finished", "stopped", "failed") for trial in trials)
    state = (
        f"Objective: {plan.space.metric}, {plan.space.mode}imized. {num_ended} of"
        f" {plan.space.trials} trials have ended. Data {plan.fingerprint[:12]}, seed"
        f" {plan.space.seed}."
    )
    sections = [search_section(group) for group in figures]
    title = f"Search figures of {plan.name}"
    return render_page("search_page.html", title=title, state=state, search_sections=sections)


def search_section(figures: SearchFigures) -> SearchSection:
    """Return the section of the trials with the same number of folds."""
    importance, coordinates = figures.importance, figures.parallel_coordinates
    names = tuple(hparam.name for hparam in coordinates.hparams)
    costs_by_trial = [line.trial.costs.by_name() for line in coordinates.lines]
    columns = {
        name: column
        for name, column in COST_COLUMNS.items()
        if any(name in costs for costs in costs_by_trial)
    }
    rows = tuple(
        TrialRow(
            line.trial.id,
            line.trial.status,
            line.trial.epoch,
            f"{line.trial.objective:.4f}",
            tuple(value_text(line.trial.hparams.get(name, "")) for name in names),
            tuple(column.cell(costs.get(name)) for name, column in columns.items()),
        )
        for line, costs in zip(coordinates.lines, costs_by_trial, strict=True)
    )
    return SearchSection(
        figures=figures,
        importance=importance_chart(importance) if importance.fractions else "",
        history=history_chart(figures.optimization_history, figures.progress_text),
        coordinates=coordinates_chart(coordinates, figures.metric) if names else "",
        hparam_names=names,
        cost_titles=tuple(column.title for column in columns.values()),
        rows=rows,
    )


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
            *(trial.id, trial.kind, trial.status, trial.reason, trial.objective),
            *(trial.epoch, round(trial.seconds, 3)),
            *(trial.hparams.get(name) for name in names),
        ]
        for trial in leaderboard(history, plan.space.mode)
    ]
    return json.dumps({"columns": [*columns, *names], "data": rows}).encode()
