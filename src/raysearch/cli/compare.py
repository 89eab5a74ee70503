"""`raysearch compare`: whether a hyperparameter of a study matters."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import STUDIES, StudiesOption, make_console

if TYPE_CHECKING:
    from raysearch.search.journal.history import History
    from raysearch.search.study.plan import Plan
    from raysearch.selection.comparison import Comparison


def compare(
    hyperparameter: Annotated[
        str, typer.Option(help="The hyperparameter whose values are compared.")
    ],
    name: Annotated[str | None, typer.Argument(help="The study. Default: the newest.")] = None,
    studies: StudiesOption = STUDIES,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare the values of a hyperparameter by trials that are equal in every other one.

    Example: `raysearch compare prepared --hyperparameter preprocess`
    """
    from raysearch.cli.study_paths import newest_name
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.study import read_history, read_plan
    from raysearch.selection.comparison import compare as compare_values

    folder = StudyFolder(f"{studies}/{name or newest_name(studies)}")
    plan, history = read_plan(folder), read_history(folder)
    found = compare_values(folder, plan, history, hyperparameter)
    if as_json:
        sys.stdout.write(json.dumps([asdict(one) for one in found]) + "\n")
        return 0
    console = make_console()
    console.print(_table(plan, hyperparameter, found))
    console.print(escape(_notes(plan, history, hyperparameter)), soft_wrap=True)
    return 0


def _table(plan: Plan, hyperparameter: str, found: Sequence[Comparison]) -> Table:
    table = Table(
        title=f"{plan.space.metric} by {hyperparameter} in {plan.name}", title_justify="left"
    )
    for name in (hyperparameter, "pairs", "trials", "patients"):
        table.add_column(name, justify="left" if name == hyperparameter else "right")
    for name in ("one", "other", "difference", "95 % by patient", "by pair"):
        table.add_column(name, justify="right")
    table.add_column("decision")
    for one in found:
        low, value, high = one.difference.low, one.difference.value, one.difference.high
        table.add_row(
            escape(f"{_text(one.one)} -> {_text(one.other)}"),
            *map(str, (one.pairs, one.trials, one.patients)),
            *("-" if mean is None else f"{mean:.4f}" for mean in one.values),
            _signed(value),
            f"{_signed(low)} to {_signed(high)}",
            f"{_signed(one.lowest)} to {_signed(one.highest)}" if one.pairs > 1 else "",
            escape(_decision(one)),
        )
    return table


def _notes(plan: Plan, history: History, hyperparameter: str) -> str:
    better = "higher" if plan.space.mode == "max" else "lower"
    left = sum(one.status in ("stopped", "failed") for one in history.searched())
    text = (
        f"A pair is two trials that differ in {hyperparameter} alone, and in the seed of their training: what"
        " seeds do shows between the pairs, and is not in the interval. Each interval stands for"
        f" itself: of twenty differences that are none, one is shown. {plan.space.metric} is"
        f" pooled out of fold; {better} is better."
    )
    return text + (f" {left} trials that did not finish are in no pair." if left else "")


def _decision(one: Comparison) -> str:
    if one.difference.low is None:
        return "undefined"
    return "no difference shown" if one.better is None else f"{_text(one.better)} is better"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
