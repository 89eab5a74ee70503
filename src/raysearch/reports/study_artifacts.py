"""What a study leaves in MLflow beside its runs: the figures, and the leaderboard as a table."""

from __future__ import annotations

import json

from raysearch.analysis.search_figures import study_figures
from raysearch.analysis.stored_importances import ImportancesByFolds
from raysearch.reports.search_page import figures_page
from raysearch.search.journal.history import History, leaderboard
from raysearch.search.study.plan import Plan


def study_files(
    plan: Plan, history: History, importances: ImportancesByFolds | None = None
) -> dict[str, bytes]:
    """The files by their names: `figures.html` and `leaderboard.json`."""
    page = figures_page(plan, history, study_figures(plan, history, importances))
    return {"figures.html": page.encode(), "leaderboard.json": _leaderboard(plan, history)}


def _leaderboard(plan: Plan, history: History) -> bytes:
    names = [hyperparameter.name for hyperparameter in plan.space.hparams]
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
