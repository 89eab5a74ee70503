"""How a champion was selected, in words and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.table import Table

from raysearch.metrics.bootstrap import Interval

if TYPE_CHECKING:
    from raysearch.search.journal.history import History
    from raysearch.search.study.plan import Plan
    from raysearch.selection.selection import Selection


def selection_lines(plan: Plan, history: History, end: Mapping[str, Any]) -> list[str]:
    """Who is tied, what the best is worth without luck, and what was locked."""
    finished, tied, locked = len(history.done()), end["tied"], end["locked"]
    if end["champion"] != end["chosen"]:
        failed = "refitted" if end["kind"] == "refit" else "trained again"
        who = f"the best after {end['chosen']}, which could not be {failed}"
    elif len(tied) > 1:
        others = ", ".join(tied)
        who = f"of {len(tied)} that are as good within {end['margin']:g} ({others}), the fastest"
    else:
        who = f"no other of {finished} finished is shown to be as good within {end['margin']:g}"
    lines = [
        f"Selected  {end['champion']}: {who}",
        f"Corrected {plan.space.metric} {Interval(**end['corrected'])}: what the best of"
        f" {len(history.searched())} trials is worth on patients that did not choose it",
    ]
    lines += fresh_lines(plan, history, end)
    text = f"Locked    temperature {locked['temperature']:.3f}"
    if locked["error"] is not None:
        text += (
            f" (calibration error {locked['error_before']:.3f} before, {locked['error']:.3f} after)"
        )
    if locked["threshold"] is not None:
        text += f", threshold {locked['threshold']:.3f} by {locked['criterion']}"
    return [*lines, text]


def fresh_lines(plan: Plan, history: History, end: Mapping[str, Any]) -> list[str]:
    """What the champion's trial is worth with other seeds, and whether these are the champion."""
    fresh = end["fresh"]
    found = [Interval(**one["objective"]) for one in fresh if one["objective"]]
    failures = sorted({one["failure"] for one in fresh if one["failure"]})
    text = []
    if found:
        before = Interval(**end["objective"]).value
        seeds = "another seed" if len(found) == 1 else f"{len(found)} other seeds"
        told = "undefined" if before is None else f"{before:.4f}"
        text.append(f"{plan.space.metric} {_spread(found)} with {seeds}, {told} when it was chosen")
    if failures:
        count = len(fresh) - len(found)
        text.append(f"the training failed with {count} of {len(fresh)} ({', '.join(failures)})")
    lines = [f"Fresh     {'; '.join(text)}"] if text else []
    if end["kind"] == "ensemble":
        folds = history.trials[end["champion"]].folds
        lines.append(f"Ensemble  the mean of {folds} nets, one a fold of that training")
    return lines


def _spread(found: Sequence[Interval]) -> str:
    """One with its interval; of several the lowest, the highest and the mean."""
    values = [one.value for one in found if one.value is not None]
    if len(found) == 1 or not values:
        return str(found[0])
    return f"{fmean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def selection_table(plan: Plan, selection: Selection, most: int | None = None) -> Table:
    """The finished trials, the best first, each against the best."""
    metric = plan.space.metric
    title = f"{metric} of {plan.name}, pooled out of fold over {selection.patients} patients"
    table = Table(title=title, title_justify="left")
    table.add_column("trial")
    for name in (metric, "95 % by patient", "to the best", "by Holm", "ms a patch"):
        table.add_column(name, justify="right")
    table.add_column("")
    for one in selection.candidates[:most]:
        low, value, high = (
            "-" if part is None else f"{part:.4f}"
            for part in (one.objective.low, one.objective.value, one.objective.high)
        )
        apart = one.against.difference
        chosen, best = one.trial is selection.chosen, one is selection.candidates[0]
        state = ["tied"] if one.against.tied and not best else []
        state += ["chosen"] if chosen else []
        table.add_row(
            one.trial.id,
            value,
            f"{low} to {high}",
            "" if best else _signed(apart.value),
            "" if best else f"{_signed(apart.low)} to {_signed(apart.high)}",
            "-" if one.inference_ms is None else f"{one.inference_ms:.3g}",
            ", ".join(state),
        )
    return table


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
