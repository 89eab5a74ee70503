"""The result in sentences, and why the values of a metric on the page differ."""

from __future__ import annotations

from collections.abc import Iterator

from raysearch.metrics.interval import Interval
from raysearch.metrics.row_units import singular
from raysearch.reports.evaluation_tables import interval_text, number
from raysearch.reports.html_page import Table
from raysearch.reports.study_report import OUT_OF_FOLD, EvaluatedSet, StudyReport


def result_text(evaluated: EvaluatedSet) -> str:
    """Return the result on a set in two sentences, for readers who know no metric."""
    evaluation, class_names = evaluated.evaluation, evaluated.evaluation.class_names
    auroc = evaluation.metrics["auroc"]
    unit = evaluation.unit
    place = f"On {evaluated.support} ({evaluated.name})"
    if len(class_names) != 2:
        accuracy = _percentage(evaluation.metrics["accuracy"])
        mean = number(auroc.value, 3)
        return (
            f"{place}, the model predicts the true class of {accuracy} of the {unit}. The mean"
            f" AUROC of the classes is {mean}{_brackets(auroc)}."
        )
    negative, positive = class_names
    sensitivity, specificity = evaluation.classes[1].recall, evaluation.classes[1].specificity
    rule = "If the most probable class is predicted"
    if evaluation.threshold is not None:
        rule = f"At its threshold of {evaluation.threshold:.3f}"
    return (
        f"{place}, the model gives a {singular(unit)} of class {positive} a higher probability than"
        f" one of class {negative} in {_percentage(auroc)} of the pairs"
        f" (AUROC {number(auroc.value, 3)}). {rule}, it detects {_percentage(sensitivity)} of the"
        f" {unit} of class {positive} (sensitivity), and excludes {_percentage(specificity)} of"
        f" those of class {negative} (specificity). In brackets: 95 % intervals by patient."
    )


def value_table(report: StudyReport) -> Table:
    """Return the champion's values of the objective's metric, and why they differ."""
    metric = report.plan.space.metric
    rows = [
        [name, number(interval.value), interval_text(interval), text]
        for name, interval, text in _values(report)
    ]
    columns = ["of the champion", metric, "95 % CI by patient", "why it differs"]
    return Table(f"The values of {metric} on this page", columns, rows, is_text=True)


def _values(report: StudyReport) -> Iterator[tuple[str, Interval, str]]:
    """Yield name, value and explanation of each value."""
    metric, champion, selection = report.plan.space.metric, report.champion, report.selection
    candidate = selection.candidate_of(selection.chosen)
    pooled_text = f"One value of the {report.plan.unit} of all folds together"
    yield (
        *("mean over folds", Interval(None, champion.objective, None)),
        f"The mean of {champion.folds} values, one for each fold: how the search compares trials"
        " (optimization history, table of trials).",
    )
    pooled = candidate.objective
    yield (
        *("pooled out of fold", pooled),
        f"{pooled_text}, so that models of different folds are compared, too:"
        " how the champion is selected (ranking).",
    )
    yield (
        *("bias-corrected estimate", selection.corrected),
        f"The pooled value of the best of {len(selection.candidates):,} trials, less what choosing"
        " the best adds: what to expect of other patients.",
    )
    for value in report.history.repeat_objectives:
        yield (
            *("repeat", Interval(None, value, None)),
            f"{pooled_text}, of one more cross-validation with a new seed:"
            " compare it with the pooled value out of fold.",
        )
    for evaluated in report.sets:
        interval = evaluated.evaluation.metrics.get(metric)
        if interval is not None and not _is_same(evaluated, interval, pooled):
            yield evaluated.name, interval, _set_text(evaluated)
        if evaluated.smoothed_auroc is not None and metric == "auroc":
            yield (
                *(f"{evaluated.name}, neighbor-smoothed", evaluated.smoothed_auroc),
                "Each score is combined with those of nearby patches of the slide.",
            )


def _is_same(evaluated: EvaluatedSet, interval: Interval, pooled: Interval) -> bool:
    """Return whether the out-of-fold value is that of the selection."""
    return evaluated.name == OUT_OF_FOLD and number(interval.value) == number(pooled.value)


def _set_text(evaluated: EvaluatedSet) -> str:
    if evaluated.name == OUT_OF_FOLD:
        unit = evaluated.evaluation.unit
        return f"The {unit} of all folds, with the decision rule, which the selection does not use."
    return (
        f"Other patients, {evaluated.evaluation.patients:,} of them, which neither search nor"
        " selection has seen."
    )


def _percentage(interval: Interval) -> str:
    if interval.value is None:
        return "an undefined fraction"
    return f"{interval.value:.1%}{_brackets(interval, percent=True)}"


def _brackets(interval: Interval, *, percent: bool = False) -> str:
    if interval.low is None or interval.high is None:
        return ""
    if percent:
        return f" ({interval.low:.1%} to {interval.high:.1%})"
    return f" ({interval.low:.3f} to {interval.high:.3f})"
