"""The leaderboard of a study and the table of its champion, for a terminal and as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from raysearch.cli.plan_text import FOLD_SUMMARIES, MAX_FOLDS
from raysearch.config.hyperparameter_spec import Value
from raysearch.search.journal.history import History, Trial, leaderboard
from raysearch.search.study.plan import Plan

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
# A terminal with fewer columns shows a table without `WIDE_COLUMNS`.
MIN_WIDE_WIDTH = 110
WIDE_COLUMNS = ("by fold", "time")
# The column of a study with several numbers of folds.
POOLED = "pooled"
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
        folds: The metrics at the end of each fold.
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
    folds: tuple[Mapping[str, float | None], ...]
    fold_epochs: int
    seconds: float
    costs: Mapping[str, float]
    hparams: Mapping[str, Value]
    champion: bool


def leaderboard_rows(plan: Plan, history: History) -> list[LeaderboardRow]:
    """Return the leaderboard as records, the best trial first."""
    return [
        LeaderboardRow(
            trial=trial.id,
            kind=trial.kind,
            state=trial.status,
            reason=trial.reason,
            objective=trial.objective,
            pooled=trial.pooled,
            folds=tuple(dict(end.metrics) for end in trial.fold_ends(plan.space.epochs)),
            fold_epochs=trial.epoch,
            seconds=trial.seconds,
            costs=trial.costs.by_name(),
            hparams=dict(trial.hparams),
            champion=trial.id == history.champion,
        )
        for trial in leaderboard(history, plan.space.mode)
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
    plan: Plan, history: History, width: int, max_rows: int | None = None
) -> Table:
    """Return the leaderboard for a terminal of `width` columns, with at most `max_rows` trials."""
    has_several_folds = len(plan.splits) > 1
    hidden: tuple[str, ...] = () if width >= MIN_WIDE_WIDTH else WIDE_COLUMNS
    hidden += () if has_several_folds else (POOLED,)
    caption = "A trial that was stopped early ranks below every finished one."
    if has_several_folds:
        caption += " Trials over several numbers of folds are ranked by their pooled scores."
    if history.champion:
        caption = f"* champion. {caption}"
    title = f"Leaderboard of {plan.name}"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    names = ("trial", "state", plan.space.metric, POOLED, "by fold", "epochs", "time")
    for name in names:
        is_number = name in (plan.space.metric, POOLED, "epochs", "time")
        if name not in hidden:
            table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    table.add_column("hyperparameters", overflow="fold")
    for trial in leaderboard(history, plan.space.mode)[:max_rows]:
        cells = _cells(plan, history, trial)
        table.add_row(*(text for name, text in cells.items() if name not in hidden))
    return table


def _cells(plan: Plan, history: History, trial: Trial) -> dict[str, str]:
    """Return the cells of a trial by column."""
    epochs = plan.space.epochs
    ends = [end.metrics[plan.space.metric] for end in trial.fold_ends(epochs)]
    text = escape(trial.reason if trial.status == "failed" else hparams_text(trial, plan))
    return {
        "trial": trial.id + (" *" if trial.id == history.champion else ""),
        "state": f"[{STYLES[trial.status]}]{trial.status}[/]",
        "objective": _number_text(trial.objective),
        POOLED: _number_text(trial.pooled),
        "by fold": _fold_values_text(ends),
        "epochs": f"{trial.epoch}/{trial.folds * epochs}",
        "time": f"{trial.seconds:.0f} s",
        "hyperparameters": text
        if trial.kind != "majority"
        else "the class fractions of the training rows",
    }


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
    ends = trial.fold_ends(plan.space.epochs)
    title = f"Champion {trial.id}: {hparams_text(trial, plan)}"
    table = Table("metric", title=title, title_justify="left")
    is_summarized = len(ends) > MAX_FOLDS
    columns = list(FOLD_SUMMARIES) if is_summarized else [f"fold {n}" for n in range(len(ends))]
    for column in (*columns, "mean"):
        table.add_column(column, justify="right")
    for name in dict.fromkeys((plan.space.metric, *SHOWN_METRICS)):
        values = [end.metrics[name] for end in ends]
        defined = [value for value in values if value is not None]
        mean = sum(defined) / len(defined) if len(defined) == len(ends) else None
        if is_summarized:
            values = [summary(defined) if defined else None for summary in FOLD_SUMMARIES.values()]
        table.add_row(name, *map(_number_text, values), _number_text(mean))
    return table
