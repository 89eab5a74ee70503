"""Tables that answer which adaptation, network or classifier is best, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysearch.errors import StudyError
from raysearch.metrics.interval import Interval
from raysearch.reports.evaluation_tables import interval_text, number
from raysearch.reports.html_page import Table
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.selection.best_of_values import BestOfValue, best_of_values

# The choices whose values a report compares, if the finished trials have several.
COMPARED = ("adaptation", "architecture", "classifier")
MINUTE_S = 60.0
Answers = Mapping[str, Sequence[BestOfValue]]


def study_answers(folder: StudyFolder, plan: Plan, history: History) -> Answers:
    """Return the best trial of each value of the choices that a report compares."""
    answers: dict[str, Sequence[BestOfValue]] = {}
    for name in COMPARED:
        # Trials without pretrained weights are a value of `adaptation` of their own.
        names = (name, "weights") if name == "adaptation" else (name,)
        if all(len(set(plan.space.values_of(each))) < 2 for each in names):
            continue
        try:
            answers[name] = best_of_values(folder, plan, history, name)
        except StudyError:  # the finished trials have one value, or scores are gone
            continue
    return answers


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
