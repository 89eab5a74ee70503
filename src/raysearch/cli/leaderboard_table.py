"""The leaderboard of a study and the table of its champion, for a terminal and as records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import MAX_ROWS
from raysearch.cli.plan_text import FOLD_SUMMARIES, MAX_FOLDS
from raysearch.config.hyperparameter_spec import Value
from raysearch.config.report_interval import trial_epochs
from raysearch.metrics.interval import Interval
from raysearch.search.journal.history import (
    History,
    Trial,
    excluded_values,
    finished,
    leaderboard,
)
from raysearch.search.study.plan import Plan
from raysearch.selection.stored_intervals import Intervals

# The color of each state of a trial.
STYLES = {
    "running": "cyan",
    "paused": "blue",
    "finished": "green",
    "stopped": "yellow",
    "failed": "red",
}
# Hyperparameters whose values are shown without their names.
UNNAMED_HPARAMS = ("architecture", "optimizer")
OBJECTIVE, INTERVAL, BY_FOLD, HPARAMS = "objective", "95 %", "by fold", "hyperparameters"
# The column of a study with several numbers of folds.
POOLED = "pooled"
# A terminal with fewer columns than `MIN_WIDE_WIDTH` shows what decides between trials.
MIN_WIDE_WIDTH = 120
NARROW_COLUMNS = ("trial", "state", OBJECTIVE, POOLED, INTERVAL, "folds", "minutes")
WIDE_COLUMNS = (
    *("trial", "state", OBJECTIVE, POOLED, INTERVAL, BY_FOLD),
    *("epochs", "minutes", HPARAMS),
)
MAX_HEADER = 9
# The failures that are named below a narrow table.
MAX_FAILURES = 3
SHOWN_METRICS = ("auroc", "average_precision", "balanced_accuracy", "accuracy", "f1")


@dataclass(frozen=True)
class LeaderboardRow:
    """A trial of the leaderboard as it is printed in JSON.

    Attributes:
        trial: The trial's identifier.
        kind: trial, benchmark or majority.
        state: running, paused, finished, stopped or failed.
        reason: Why the trial stopped or failed.
        objective: The mean over the folds that it reported; None if it is undefined.
        pooled: The objective of the pooled out-of-fold scores, if it is computed.
        interval: The same with its 95 % interval by patient, which the selection computes.
        folds: The metrics at the end of each fold, from fold 0.
        fold_epochs: The fold-epochs that it trained.
        seconds: The time that they took.
        costs: What the network costs, such as its parameters and its time for a patch.
        hparams: Its hyperparameters.
        champion: Whether it is the champion.
    """

    trial: str
    kind: str
    state: str
    reason: str
    objective: float | None
    pooled: float | None
    interval: Interval | None
    folds: tuple[Mapping[str, float | None], ...]
    fold_epochs: int
    seconds: float
    costs: Mapping[str, float]
    hparams: Mapping[str, Value]
    champion: bool


def leaderboard_rows(plan: Plan, history: History, intervals: Intervals) -> list[LeaderboardRow]:
    """Return the leaderboard as records, the best trial first."""
    return [
        LeaderboardRow(
            trial=trial.id,
            kind=trial.kind,
            state=trial.status,
            reason=trial.reason,
            objective=trial.objective,
            pooled=trial.pooled,
            interval=intervals.get(trial.id),
            folds=tuple(
                dict(end.metrics)
                for end in trial.fold_ends(trial_epochs(plan.space, trial.hparams))
            ),
            fold_epochs=trial.epoch,
            seconds=trial.seconds,
            costs=trial.costs.by_name(),
            hparams=dict(trial.hparams),
            champion=trial.id == history.champion,
        )
        for trial in leaderboard(history, plan.space)
    ]


def hparams_text(trial: Trial, plan: Plan) -> str:
    """Return the searched hyperparameters of a trial on one line, numbers with three digits."""
    fixed = {hparam.name for hparam in plan.space.hparams if hparam.kind == "fixed"}
    searched = {
        name: value
        for name, value in trial.hparams.items()
        if name not in fixed and name != "folds"
    }
    unnamed = [str(searched.pop(name)) for name in UNNAMED_HPARAMS if name in searched]
    named = [f"{name}={_value_text(value)}" for name, value in searched.items()]
    return " ".join(unnamed + named)


def _value_text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def leaderboard_table(
    plan: Plan,
    history: History,
    width: int,
    max_rows: int | None = None,
    intervals: Intervals | None = None,
) -> Table:
    """Return the leaderboard for a terminal of `width` columns.

    A narrow one has the columns that decide between trials; none of them is cut.

    Args:
        plan: The study's plan.
        history: Its trials.
        width: The columns of the terminal.
        max_rows: The number of trials that are shown, beside the champion and the baselines.
        intervals: The intervals of the pooled objectives, of the trials that have one.
    """
    metric, trial_intervals = plan.space.metric, intervals or {}
    names = [*(WIDE_COLUMNS if width >= MIN_WIDE_WIDTH else NARROW_COLUMNS)]
    if len(plan.splits) == 1:
        names.remove(POOLED)
    if not trial_intervals:
        names.remove(INTERVAL)
    trials, num_hidden = _shown_trials(plan, history, max_rows)
    caption = " ".join(_caption(plan, history, names, num_hidden))
    title = f"Leaderboard of {plan.name} by {metric}"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for name in names:
        header = name
        if name == OBJECTIVE:  # the title has the name that is too long
            header = metric if len(metric) <= MAX_HEADER else "value"
        if name == HPARAMS:
            table.add_column(header, overflow="fold")
        else:
            is_number = name not in ("trial", "state", BY_FOLD)
            table.add_column(header, justify="right" if is_number else "left", no_wrap=True)
    for trial in trials:
        cells = _cells(plan, history, trial, trial_intervals.get(trial.id))
        table.add_row(*(cells[name] for name in names))
    return table


def _shown_trials(plan: Plan, history: History, max_rows: int | None) -> tuple[list[Trial], int]:
    """Return the trials that are shown, and the number of the others."""
    ranked = leaderboard(history, plan.space)
    shown = [
        trial
        for rank, trial in enumerate(ranked)
        if max_rows is None
        or rank < max_rows
        or trial.id == history.champion
        or trial.kind != "trial"
    ]
    return shown, len(ranked) - len(shown)


def _caption(plan: Plan, history: History, names: Sequence[str], num_hidden: int) -> Iterator[str]:
    """Yield the sentences below the table."""
    if num_hidden:
        trials = "1 trial is" if num_hidden == 1 else f"{num_hidden:,} trials are"
        yield (
            f"{trials} left out: `raysearch results {plan.name} --rows N` shows more, and `--csv"
            " FILE` writes all."
        )
    if HPARAMS not in names:
        yield f"{MIN_WIDE_WIDTH} columns also show the hyperparameters and each fold."
    if history.champion:
        yield "* champion."
    yield "A trial that was stopped early ranks below every finished one."
    if POOLED in names:
        yield "Trials over several numbers of folds are ranked by their pooled scores."
    if history.exclusions:
        yield f"Excluded by the user: {', '.join(excluded_values(history))}."
    if INTERVAL in names:
        yield "The interval is by patient, of the scores pooled over the folds."


def show_leaderboard(
    plan: Plan,
    history: History,
    console: Console,
    max_rows: int = MAX_ROWS,
    intervals: Intervals | None = None,
) -> None:
    """Print the leaderboard, and below it what a narrow terminal has no column for."""
    console.print(leaderboard_table(plan, history, console.width, max_rows, intervals))
    for line in leaderboard_notes(plan, history, console.width):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def leaderboard_notes(plan: Plan, history: History, width: int) -> list[str]:
    """Return what the table of a narrow terminal lacks: the best hyperparameters, and failures."""
    if width >= MIN_WIDE_WIDTH:
        return []
    best = history.trials.get(history.champion or "")
    ranked = finished(history, plan.space.mode)
    lines = []
    if best is not None or ranked:
        trial, label = (ranked[0], "Best") if best is None else (best, "Champion")
        lines.append(f"{label:9} {trial.id}: {hparams_text(trial, plan)}")
    failed = [trial for trial in history.trials.values() if trial.status == "failed"]
    lines += [f"Failed    {trial.id}: {trial.reason}" for trial in failed[:MAX_FAILURES]]
    if len(failed) > MAX_FAILURES:
        lines.append(f"          and {len(failed) - MAX_FAILURES} more trials")
    return lines


def _cells(plan: Plan, history: History, trial: Trial, interval: Interval | None) -> dict[str, str]:
    """Return the cells of a trial by column."""
    epochs = trial_epochs(plan.space, trial.hparams)
    ends = [end.metrics[plan.space.metric] for end in trial.fold_ends(epochs)]
    text = escape(trial.reason if trial.status == "failed" else hparams_text(trial, plan))
    return {
        "trial": trial.id + (" *" if trial.id == history.champion else ""),
        "state": f"[{STYLES[trial.status]}]{trial.status}[/]",
        OBJECTIVE: _number_text(trial.objective),
        POOLED: _number_text(trial.pooled),
        INTERVAL: _interval_text(interval),
        BY_FOLD: _fold_values_text(ends),
        "folds": f"{len(ends)}/{trial.folds}",
        "epochs": f"{trial.epoch}/{trial.folds * epochs}",
        "minutes": minutes_text(trial.seconds),
        HPARAMS: text if trial.kind != "majority" else "the class fractions of the training rows",
    }


def _interval_text(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return "-"
    return f"{interval.low:.3f} to {interval.high:.3f}"


def minutes_text(seconds: float) -> str:
    """Return a time in minutes with about three digits."""
    minutes = seconds / 60
    digits = 2 if minutes < 10 else 1 if minutes < 1000 else 0
    return f"{minutes:,.{digits}f}"


def _number_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _fold_values_text(values: Sequence[float | None]) -> str:
    """Return the value at the end of each fold, or the range of the values of many folds."""
    if len(values) <= MAX_FOLDS:
        return " ".join("-" if value is None else f"{value:.3f}" for value in values) or "-"
    defined = [value for value in values if value is not None]
    text = f"{min(defined):.3f} to {max(defined):.3f}" if defined else "-"
    return f"{text} ({len(values)})"


def champion_table(plan: Plan, trial: Trial) -> Table:
    """Return the main metrics of the champion by fold, or their range for many folds."""
    ends = trial.fold_ends(trial_epochs(plan.space, trial.hparams))
    title = f"Champion {trial.id}: {escape(hparams_text(trial, plan))}"
    table = Table("metric", title=title, title_justify="left")
    is_summarized = len(ends) > MAX_FOLDS
    columns = list(FOLD_SUMMARIES) if is_summarized else [f"fold {n}" for n in range(len(ends))]
    for column in (*columns, "mean"):
        table.add_column(column, justify="right")
    for name in dict.fromkeys((plan.space.metric, *plan.space.metrics, *SHOWN_METRICS)):
        values = [end.metrics[name] for end in ends]
        defined = [value for value in values if value is not None]
        mean = sum(defined) / len(defined) if len(defined) == len(ends) else None
        if is_summarized:
            values = [summary(defined) if defined else None for summary in FOLD_SUMMARIES.values()]
        table.add_row(name, *map(_number_text, values), _number_text(mean))
    return table
