"""Tables that answer which adaptation, network or classifier is best, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysearch.errors import StudyError
from raysearch.metrics.interval import Interval
from raysearch.reports.evaluation_tables import interval_text, number
from raysearch.reports.html_page import Table
from raysearch.search.journal.history import History, finished
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.selection.best_of_values import (
    BestOfValue,
    best_of_values,
    has_read,
    value_of,
)

# The choices whose values a report compares, if the finished trials have several.
COMPARED = ("adaptation", "architecture", "classifier")
MIN_VALUES, MINUTE_S = 2, 60.0
Answers = Mapping[str, Sequence[BestOfValue]]


def study_answers(
    folder: StudyFolder, plan: Plan, history: History
) -> tuple[dict[str, list[BestOfValue]], list[str]]:
    """Return the best trial of each value of the choices that a report compares, and notes.

    A note says which choice is left out because the scores of a trial are missing.
    """
    answers: dict[str, list[BestOfValue]] = {}
    notes = []
    trials = finished(history, plan.space.mode)
    for name in COMPARED:
        values = {value_of(trial, name) for trial in trials if has_read(trial, name)}
        if len(values) < MIN_VALUES:
            continue
        try:
            answers[name] = best_of_values(folder, plan, history, name)
        except StudyError as error:
            notes.append(f"no table of {name}: {error}")
    return answers, notes


def answer_tables(answers: Answers, metric: str) -> tuple[Table, ...]:
    """Return a table for each choice."""
    columns = (
        *("trial", "finished", metric, "95 % CI by patient", "difference from best"),
        *("95 % CI of the difference", "minutes", "minutes of all"),
    )
    return tuple(
        Table(f"Best trial by {name}", [name, *columns], [_row(answer) for answer in rows])
        for name, rows in answers.items()
    )


def _row(answer: BestOfValue) -> list[str]:
    return [
        answer.value,
        answer.trial,
        str(answer.num_finished),
        number(answer.objective.value),
        interval_text(answer.objective),
        *_difference_cells(answer.difference),
        f"{answer.trial_seconds / MINUTE_S:.1f}",
        f"{answer.total_seconds / MINUTE_S:.1f}",
    ]


def _difference_cells(difference: Interval | None) -> tuple[str, str]:
    if difference is None:
        return "", ""
    return number(difference.value), interval_text(difference)
