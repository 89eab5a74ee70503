"""How a study ended, as tables and lines for a terminal or as JSON."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Console
from rich.markup import escape

from raysearch.cli.json_output import print_json
from raysearch.cli.leaderboard_table import champion_table, leaderboard_rows, leaderboard_table
from raysearch.cli.selection_text import selection_lines
from raysearch.cli.study_end import StudyEnd
from raysearch.search.journal.codec import record_to_json
from raysearch.search.journal.history import History
from raysearch.search.study.plan import Plan

MAX_ROWS = 15


def show_end(plan: Plan, history: History, end: StudyEnd, as_json: bool, console: Console) -> None:
    """Print how a study ended: its leaderboard, its champion, and where the results are."""
    if as_json:
        rows = [asdict(row) for row in leaderboard_rows(plan, history, end.intervals)]
        print_json({**record_to_json(end), "leaderboard": rows})
        return
    console.print(leaderboard_table(plan, history, console.width, MAX_ROWS, end.intervals))
    console.print(champion_table(plan, history.trials[end.champion]))
    for line in end_lines(plan, history, end):
        console.print(line, soft_wrap=True)


def end_lines(plan: Plan, history: History, end: StudyEnd) -> list[str]:
    """Return the lines below the tables, with Rich markup."""
    lines = [escape(line) for line in selection_lines(plan, history, end)]
    if end.pooled_auroc is not None:
        lines.append(f"Pooled    out-of-fold AUROC {end.pooled_auroc}, 95 % interval by patient")
    if end.smoothed_auroc is not None:
        lines.append(f"          {end.smoothed_auroc} after smoothing over neighboring patches")
    lines.append(f"Study     {escape(end.folder)}")
    lines.append(model_line(plan, end))
    if end.tracking_error is not None:
        lines.append(
            f"[red]MLflow is incomplete[/]: {escape(end.tracking_error)}; run the same launch with"
            " --resume to send the missing events"
        )
    lines.append(f"Compare   {escape(end.comparison or 'run raysearch ui --open')}")
    return lines


def model_line(plan: Plan, end: StudyEnd) -> str:
    """Return the line that names the registered model."""
    return f"Model     models:/{plan.name}@champion (version {end.version})"
