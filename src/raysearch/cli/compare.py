"""`raysearch compare`: compares the values of a hyperparameter in a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.json_output import print_json
from raysearch.cli.options import (
    STUDIES,
    AllowCodeOption,
    JsonOption,
    StudiesOption,
    make_console,
    trust_stored_code,
)
from raysearch.cli.selection_text import four_digits, signed

BEST_NOTES = (
    "Each row has the best of its finished trials; the intervals do not contain that choice, which"
    " favors a value with more trials. The differences are paired: both trials score the same"
    " patients. Times are those of the training, without the features of frozen networks."
)

if TYPE_CHECKING:
    from raysearch.metrics.interval import Interval
    from raysearch.search.journal.history import History
    from raysearch.search.study.plan import Plan
    from raysearch.selection.best_of_values import BestOfValue
    from raysearch.selection.comparison import HyperparameterComparison


def compare(
    hyperparameter: Annotated[
        str, typer.Option(help="The hyperparameter whose values are compared.")
    ],
    name: Annotated[str | None, typer.Argument(help="The study. Default: the newest.")] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Compare the best trial of each value, with its costs.")
    ] = False,
    allow_code: AllowCodeOption = False,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Compare the values of a hyperparameter by pairs of trials.

    Example: `raysearch compare prepared --hyperparameter preprocess`
    """
    trust_stored_code(allow_code)
    from raysearch.cli.study_paths import newest_name
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import load_study
    from raysearch.selection.best_of_values import best_of_values
    from raysearch.selection.comparison import compare_values, reject_unsearched

    folder = StudyFolder(f"{studies}/{name or newest_name(studies)}")
    study = load_study(folder)
    record = {"study": folder.name, "hyperparameter": hyperparameter}
    objective = {"metric": study.plan.space.metric, "mode": study.plan.space.mode}
    if best:
        reject_unsearched(study.plan, hyperparameter)
        rows = best_of_values(folder, study.plan, study.history, hyperparameter)
        if as_json:
            print_json({**record, **objective, "best": [asdict(row) for row in rows]})
            return 0
        console = make_console()
        console.print(_best_table(study.plan, hyperparameter, rows))
        console.print(escape(BEST_NOTES), soft_wrap=True)
        return 0
    comparisons = compare_values(folder, study.plan, study.history, hyperparameter)
    if as_json:
        records = [asdict(comparison) for comparison in comparisons]
        print_json({**record, **objective, "comparisons": records})
        return 0
    console = make_console()
    console.print(_comparison_table(study.plan, hyperparameter, comparisons))
    console.print(escape(_notes(study.plan, study.history, hyperparameter)), soft_wrap=True)
    return 0


def _best_table(plan: Plan, hyperparameter: str, rows: Sequence[BestOfValue]) -> Table:
    # It imports numpy, which other commands do not need.
    from raysearch.cli.time_text import duration_text

    title = f"Best {plan.space.metric} by {hyperparameter} in {plan.name}"
    table = Table(title=title, title_justify="left")
    table.add_column(hyperparameter)
    table.add_column("trial")
    for name in (
        "finished",
        plan.space.metric,
        "95 % by patient",
        "to the best",
        "95 % by patient",
    ):
        table.add_column(name, justify="right")
    for name in ("trial", "all its trials"):
        table.add_column(f"time of {name}", justify="right")
    for row in rows:
        table.add_row(
            escape(row.value),
            row.trial,
            str(row.num_finished),
            four_digits(row.objective.value),
            f"{four_digits(row.objective.low)} to {four_digits(row.objective.high)}",
            *_difference_cells(row.difference),
            duration_text(row.trial_seconds),
            duration_text(row.total_seconds),
        )
    return table


def _difference_cells(difference: Interval | None) -> tuple[str, str]:
    if difference is None:
        return "", ""
    return signed(difference.value), f"{signed(difference.low)} to {signed(difference.high)}"


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
