"""`raysearch compare`: compares the values of a hyperparameter in a study."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import STUDIES, JsonOption, StudiesOption, make_console
from raysearch.cli.selection_text import four_digits, signed

if TYPE_CHECKING:
    from raysearch.search.journal.history import History
    from raysearch.search.study.plan import Plan
    from raysearch.selection.comparison import HyperparameterComparison


def compare(
    hyperparameter: Annotated[
        str, typer.Option(help="The hyperparameter whose values are compared.")
    ],
    name: Annotated[str | None, typer.Argument(help="The study. Default: the newest.")] = None,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Compare the values of a hyperparameter by pairs of trials that are equal in all others.

    Example: `raysearch compare prepared --hyperparameter preprocess`
    """
    from raysearch.cli.study_paths import newest_name
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import load_study
    from raysearch.selection.comparison import compare_values

    folder = StudyFolder(f"{studies}/{name or newest_name(studies)}")
    study = load_study(folder)
    comparisons = compare_values(folder, study.plan, study.history, hyperparameter)
    if as_json:
        records = [asdict(comparison) for comparison in comparisons]
        sys.stdout.write(json.dumps(records) + "\n")
        return 0
    console = make_console()
    console.print(_comparison_table(study.plan, hyperparameter, comparisons))
    console.print(escape(_notes(study.plan, study.history, hyperparameter)), soft_wrap=True)
    return 0


def _comparison_table(
    plan: Plan, hyperparameter: str, comparisons: Sequence[HyperparameterComparison]
) -> Table:
    table = Table(
        title=f"{plan.space.metric} by {hyperparameter} in {plan.name}", title_justify="left"
    )
    table.add_column(hyperparameter)
    for name in ("pairs", "trials", "patients", "first", "second", "difference"):
        table.add_column(name, justify="right")
    for name in ("95 % by patient", "by pair"):
        table.add_column(name, justify="right")
    table.add_column("result")
    for comparison in comparisons:
        table.add_row(*_comparison_row(comparison))
    return table


def _comparison_row(comparison: HyperparameterComparison) -> list[str]:
    difference = comparison.difference
    pair_range = f"{signed(comparison.min_difference)} to {signed(comparison.max_difference)}"
    return [
        escape(f"{_value_text(comparison.first)} -> {_value_text(comparison.second)}"),
        str(comparison.num_pairs),
        str(comparison.num_trials),
        str(comparison.num_patients),
        *(four_digits(objective) for objective in comparison.objectives),
        signed(difference.value),
        f"{signed(difference.low)} to {signed(difference.high)}",
        pair_range if comparison.num_pairs > 1 else "",
        escape(_result_text(comparison)),
    ]


def _notes(plan: Plan, history: History, hyperparameter: str) -> str:
    better = "higher" if plan.space.mode == "max" else "lower"
    num_unfinished = sum(trial.status in ("stopped", "failed") for trial in history.searched())
    text = (
        f"A pair is two trials that differ in {hyperparameter} alone, and in the seed of their"
        " training. The interval does not contain the variance of seeds; the range by pair shows"
        " it. The intervals are not corrected for multiple comparisons: of twenty values without an"
        f" effect, about one appears significant. {plan.space.metric} is pooled out of fold;"
        f" {better} is better."
    )
    if num_unfinished:
        text += f" {num_unfinished} trials that did not finish are in no pair."
    return text


def _result_text(comparison: HyperparameterComparison) -> str:
    if comparison.difference.low is None:
        return "undefined"
    if comparison.better is None:
        return "no significant difference"
    return f"{_value_text(comparison.better)} is better"


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
