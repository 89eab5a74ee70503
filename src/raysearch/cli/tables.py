"""Tables of trials, for people and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from rich.markup import escape
from rich.table import Table

from raysearch.cli.plan_text import hparam_rows, hparams_title, repeats_text, search_rows
from raysearch.search.journal.history import History, Trial, leaderboard
from raysearch.search.study.plan import Plan

STYLES = {
    "running": "cyan",
    "paused": "blue",
    "finished": "green",
    "stopped": "yellow",
    "failed": "red",
}
PARTS = ("architecture", "optimizer")
WIDE = 110
ONLY_WIDE = ("by fold", "time")
# Where a study has several numbers of folds.
POOLED = "pooled"
# A table names no more of them; leave-one-out has as many as patients.
MAX_FOLDS = 7
SPREAD: Mapping[str, Callable[[Sequence[float]], float]] = {
    "lowest": min,
    "median": median,
    "highest": max,
}
SHOWN_METRICS = ("auroc", "average_precision", "balanced_accuracy", "accuracy", "f1")


def hparams_text(trial: Trial, plan: Plan) -> str:
    """What was searched of a trial's hyperparameters, on one line, shortest numbers."""
    fixed = {
        hyperparameter.name
        for hyperparameter in plan.space.hparams
        if hyperparameter.kind == "fixed"
    }
    shown = {
        name: value
        for name, value in trial.hparams.items()
        if name not in fixed and name != "folds"
    }
    parts = [str(shown.pop(name)) for name in PARTS if name in shown]
    rest = [f"{name}={_short(value)}" for name, value in shown.items()]
    return " ".join(parts + rest)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def leaderboard_table(plan: Plan, history: History, width: int, most: int | None = None) -> Table:
    """The leaderboard for a terminal of `width` columns, at most `most` rows of it."""
    wide = width >= WIDE
    table = Table(title=f"Leaderboard of {plan.name}", title_justify="left", caption_justify="left")
    several = len(plan.splits) > 1
    left_out = (() if wide else ONLY_WIDE) + (() if several else (POOLED,))
    for name in (
        "trial",
        "state",
        plan.space.metric,
        POOLED,
        "by fold",
        "epochs",
        "time",
        "hparams",
    ):
        right = name in (plan.space.metric, POOLED, "epochs", "time")
        if name not in left_out:
            last = name == "hparams"
            table.add_column(
                name,
                justify="right" if right else "left",
                no_wrap=not last,
                overflow="fold" if last else "ellipsis",
            )
    for trial in leaderboard(history, plan.space.mode)[:most]:
        cells = _cells(plan, history, trial)
        table.add_row(*(text for name, text in cells.items() if name not in left_out))
    table.caption = "A trial that was stopped early ranks below every finished one."
    if several:
        table.caption += " Trials over several numbers of folds are ranked by their pooled scores."
    if history.champion:
        table.caption = "* champion. " + table.caption
    return table


def _cells(plan: Plan, history: History, trial: Trial) -> dict[str, str]:
    epochs = plan.space.epochs
    ends = [end.metrics[plan.space.metric] for end in trial.fold_ends(epochs)]
    text = escape(trial.reason if trial.status == "failed" else hparams_text(trial, plan))
    return {
        "trial": trial.id + (" *" if trial.id == history.champion else ""),
        "state": f"[{STYLES[trial.status]}]{trial.status}[/]",
        "objective": "-" if trial.objective is None else f"{trial.objective:.4f}",
        POOLED: "-" if trial.pooled is None else f"{trial.pooled:.4f}",
        "by fold": _by_fold(ends),
        "epochs": f"{trial.epoch}/{trial.folds * epochs}",
        "time": f"{trial.seconds:.0f} s",
        "hparams": text if trial.kind != "majority" else "class shares of the training rows",
    }


def _by_fold(ends: Sequence[float | None]) -> str:
    """The value at each fold's end, or between which ones those of many folds are."""
    if len(ends) <= MAX_FOLDS:
        return " ".join("-" if value is None else f"{value:.3f}" for value in ends) or "-"
    known = [value for value in ends if value is not None]
    span = f"{min(known):.3f} to {max(known):.3f}" if known else "-"
    return f"{span} ({len(ends)})"


def leaderboard_rows(plan: Plan, history: History) -> list[dict[str, Any]]:
    """The leaderboard as plain values."""
    return [
        {
            "trial": trial.id,
            "kind": trial.kind,
            "state": trial.status,
            "reason": trial.reason,
            "objective": trial.objective,
            "pooled": trial.pooled,
            "folds": [end.metrics for end in trial.fold_ends(plan.space.epochs)],
            "fold_epochs": trial.epoch,
            "seconds": trial.seconds,
            "costs": trial.costs.by_name(),
            "hparams": dict(trial.hparams),
            "champion": trial.id == history.champion,
        }
        for trial in leaderboard(history, plan.space.mode)
    ]


def champion_table(plan: Plan, trial: Trial) -> Table:
    """The champion's main metrics by fold, or where those of many folds lie, and their mean."""
    ends = trial.fold_ends(plan.space.epochs)
    title = f"Champion {trial.id}: {hparams_text(trial, plan)}"
    table = Table("metric", title=title, title_justify="left")
    many = len(ends) > MAX_FOLDS
    columns = list(SPREAD) if many else [f"fold {fold}" for fold in range(len(ends))]
    for column in (*columns, "mean"):
        table.add_column(column, justify="right")
    for name in dict.fromkeys((plan.space.metric, *SHOWN_METRICS)):
        values = [end.metrics[name] for end in ends]
        known = [value for value in values if value is not None]
        mean = f"{sum(known) / len(known):.4f}" if len(known) == len(ends) else "-"
        shown = [part(known) if known else None for part in SPREAD.values()] if many else values
        table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in shown), mean)
    return table


def plan_tables(plan: Plan, expected_fold_epochs: int) -> list[Table]:
    """What `--dry-run` prints."""
    space = plan.space
    head = Table(title=f"Plan of {plan.name}", title_justify="left", show_header=False)
    counts = ", ".join(
        f"{count:,} {name}" for name, count in zip(plan.class_names, plan.class_counts, strict=True)
    )
    rows = {
        "data": f"{plan.data} ({plan.fingerprint[:12]})",
        "patches": f"{sum(plan.class_counts):,} of {'x'.join(map(str, plan.shape))}: {counts}",
        "held_out": f"{len(plan.view.held_out):,} {plan.view.by}s, which no trial sees"
        if plan.view.held_out
        else "none",
        "auxiliary": ", ".join(f"{one.data}: {one.rows:,} patches" for one in plan.auxiliary),
        "objective": f"{space.metric}, {space.mode}, mean over the folds",
        "trials": f"{space.trials}, and the benchmark net and the majority class beside them",
        "epochs": f"{space.epochs} a fold",
        "seed": str(space.seed),
        "a trial takes": f"{space.resources.cpus:g} CPUs, {space.resources.gpus:g} GPUs",
        **search_rows(plan),
        "cost": f"about {expected_fold_epochs:,} fold-epochs,"
        f" {plan.max_fold_epochs:,} at most",
        "repeats": repeats_text(plan),
        "precision": "chosen by a few steps of each architecture before the first trial",
    }
    for kind, found in plan.precision_settings.items():
        ways = [f"{name}: {one.precision} {one.memory_format}" for name, one in found.items()]
        rows["precision"] = f"{kind}: {'; '.join(ways)}"
    for name, text in rows.items():
        if text:
            head.add_row(name, escape(text))
    for warning in plan.warnings:
        head.add_row("[yellow]warning[/]", escape(warning))
    hparams = Table(title=hparams_title(space), title_justify="left", show_header=False)
    for row in hparam_rows(space):
        hparams.add_row(*map(escape, row))
    return [head, hparams, *(_split_table(plan, split.folds) for split in plan.splits)]


def _split_table(plan: Plan, folds: int) -> Table:
    split = plan.split(folds)
    title = f"{folds} folds ({split.hash[:12]}), rungs after fold-epoch"
    rungs = ", ".join(map(str, split.rungs)) or "none"
    table = Table("fold", "patients", "patches", title=f"{title} {rungs}", title_justify="left")
    if folds > MAX_FOLDS:
        for name, pick in SPREAD.items():
            table.add_row(name, *(f"{pick(one):,.15g}" for one in (split.patients, split.patches)))
        return table
    for fold in range(folds):
        table.add_row(str(fold), f"{split.patients[fold]:,}", f"{split.patches[fold]:,}")
    return table
