"""All trials of a study as a CSV file: results, folds, costs, hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from raysearch.config.report_interval import trial_epochs
from raysearch.data.csv_files import csv_content
from raysearch.search.journal.history import leaderboard

if TYPE_CHECKING:
    from raysearch.search.journal.history import History, Trial
    from raysearch.search.study.plan import Plan
    from raysearch.selection.stored_intervals import Intervals


# A number, a truth value, a text, or nothing.
Cell = str | int | float | bool | None
# The prefixes of groups of columns, in their order behind the columns without one.
GROUPS = ("fold_", "costs/", "hparams/")


def results_csv(plan: Plan, history: History, intervals: Intervals) -> bytes:
    """Return the table of `trial_table` as the content of a CSV file."""
    header, rows = trial_table(plan, history, intervals)
    return csv_content(header, ([_text(row.get(name)) for name in header] for row in rows))


def trial_table(
    plan: Plan, history: History, intervals: Intervals
) -> tuple[list[str], list[Mapping[str, Cell]]]:
    """Return a row for each trial, the best first, also for those that have not reported.

    Args:
        plan: The study's plan.
        history: Its trials.
        intervals: The intervals of the pooled objectives, of the trials that have one.

    Returns:
        The names of the columns, and the cells of each row by column. A row lacks the columns that
        its trial does not have.
    """
    ranked = leaderboard(history, plan.space)
    trials = [*ranked, *(trial for trial in history.trials.values() if trial not in ranked)]
    rows = [_cells(plan, history, trial, intervals) for trial in trials]
    # The columns of every trial, in the order in which they first appear; groups stay together.
    names = dict.fromkeys(name for row in rows for name in row)
    return sorted(names, key=_group), rows


def _group(column: str) -> tuple[int, int]:
    """Return the place of a column: its group, and the number of its fold."""
    group = next((rank for rank, prefix in enumerate(GROUPS, 1) if column.startswith(prefix)), 0)
    if "/" not in column:
        return 0, 0
    return group, int(column[len("fold_") : column.index("/")]) if group == 1 else 0


def _cells(plan: Plan, history: History, trial: Trial, intervals: Intervals) -> Mapping[str, Cell]:
    """Return the cells of a trial by column; folds are numbered from 0."""
    ends = trial.fold_ends(trial_epochs(plan.space, trial.hparams))
    interval = intervals.get(trial.id)
    by_fold = {
        f"fold_{fold}/{name}": value
        for fold, end in enumerate(ends)
        for name, value in end.metrics.items()
    }
    return {
        "study": plan.name,
        "trial": trial.id,
        "kind": trial.kind,
        "state": trial.status,
        "reason": trial.reason,
        "champion": trial.id == history.champion,
        "metric": plan.space.metric,
        "objective": trial.objective,
        "pooled": trial.pooled if interval is None else interval.value,
        "pooled_low": None if interval is None else interval.low,
        "pooled_high": None if interval is None else interval.high,
        "folds_done": len(ends),
        "folds": trial.folds,
        "fold_epochs": trial.epoch,
        "seconds": trial.seconds,
        "seed": trial.seed,
        "hosts": " ".join(_hosts(trial)),
        **by_fold,
        **{f"costs/{name}": value for name, value in trial.costs.by_name().items()},
        **{f"hparams/{name}": value for name, value in trial.hparams.items()},
    }


def _hosts(trial: Trial) -> Sequence[str]:
    hosts = dict.fromkeys(report.host for report in trial.reports)
    return [host for host in hosts if host is not None]


def _text(cell: Cell) -> Cell:
    """Return a truth value as a space file has it."""
    return str(cell).lower() if isinstance(cell, bool) else cell
