"""The figures of a study as one page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysearch.analysis.search_figures import SearchFigures
from raysearch.reports.html_page import rendered
from raysearch.reports.search_charts import (
    coordinates_chart,
    importance_chart,
    progress_chart,
    value_text,
)
from raysearch.search.journal.history import History
from raysearch.search.study.plan import Plan

# What a trial cost: how the table heads it, in what unit, and how it writes it.
COSTS = {
    "parameters": ("million parameters", 1e6, "{:.3g}"),
    "flops": ("GFLOPs a patch", 1e9, "{:.3g}"),
    "effective_batch_size": ("batch", 1, "{:,}"),
    "samples_seen": ("samples seen", 1, "{:,}"),
    "inference_ms": ("ms a patch", 1, "{:.3g}"),
    "peak_device_bytes": ("device memory, GB", 1e9, "{:.2f}"),
    "peak_rss_bytes": ("peak RSS, GB", 1e9, "{:.2f}"),
}


def figures_page(plan: Plan, history: History, figures: Sequence[SearchFigures]) -> str:
    """The page as HTML."""
    trials = history.searched()
    ended = sum(trial.status in ("finished", "stopped", "failed") for trial in trials)
    context = {
        "title": f"Figures of {plan.name}",
        "state": f"{plan.space.metric}, {plan.space.mode}; {ended} of {plan.space.trials} trials"
        f" have ended. Data {plan.fingerprint[:12]}, seed {plan.space.seed}.",
        "metric": plan.space.metric,
        "groups": [figures_group(one) for one in figures],
    }
    return rendered(Path(__file__).with_suffix(".html"), context)


def figures_group(one: SearchFigures) -> dict[str, Any]:
    """What `figures_groups.html` shows of the trials over one number of folds."""
    names = [hyperparameter.name for hyperparameter in one.parallel_coordinates.hparams]
    lines = one.parallel_coordinates.lines
    told = [line.trial.costs.by_name() for line in lines]
    costs = [name for name in COSTS if any(name in some for some in told)]
    return {
        "folds": one.folds,
        "metric": one.metric,
        "alone": one.is_only_group,
        "importance": importance_chart(one.importance) if one.importance.fractions else "",
        "importance_text": one.importance_text,
        "progress": progress_chart(one.optimization_history, one.progress_text),
        "progress_text": one.progress_text,
        "coordinates": coordinates_chart(one.parallel_coordinates, one.metric) if names else "",
        "coordinates_text": one.coordinates_text,
        "names": names,
        "costs": [COSTS[name][0] for name in costs],
        "rows": [
            {
                "trial": line.trial.id,
                "state": line.trial.status,
                "epoch": line.trial.epoch,
                "objective": f"{line.trial.objective:.4f}",
                "costs": [_cost(name, some[name]) if name in some else "" for name in costs],
                "hparams": [value_text(line.trial.hparams.get(name, "")) for name in names],
            }
            for line, some in zip(lines, told, strict=True)
        ],
    }


def _cost(name: str, value: float) -> str:
    _head, unit, text = COSTS[name]
    return text.format(value if unit == 1 else value / unit)
