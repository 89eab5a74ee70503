"""Writes an evaluation as tables of texts, for the terminal and for pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from raysearch.analysis.parallel_coordinates import value_text
from raysearch.config.hyperparameter_spec import Hparams
from raysearch.data.pseudonyms import DisplayedNames
from raysearch.metrics.calibration import Reliability
from raysearch.metrics.evaluation import Evaluation, PatientLevelEvaluation
from raysearch.metrics.interval import Interval
from raysearch.metrics.patient_level import CONFIDENT, TOP
from raysearch.metrics.row_units import singular
from raysearch.metrics.selective_prediction import RuleOut
from raysearch.reports.evaluation_charts import MAX_MATRIX_CLASSES
from raysearch.reports.html_page import Table

# The metrics that the terminal prints, for two classes and for more.
BINARY_METRICS = (
    *("auroc", "average_precision", "accuracy", "balanced_accuracy", "precision", "recall"),
    *("specificity", "f1", "mcc", "brier", "log_loss"),
)
# With more classes, the values of a class are a row of their own table instead of three columns.
MAX_WIDE_CLASSES = 3
MAX_CONFUSIONS = 30
MAX_FOLD_COLUMNS = 10
MULTICLASS_METRICS = (
    *("auroc", "average_precision", "accuracy", "balanced_accuracy", "macro_precision"),
    *("macro_recall", "macro_specificity", "macro_f1", "mcc", "brier", "log_loss"),
)


def metrics_table(
    title: str,
    evaluation: Evaluation,
    names: Sequence[str] | None = None,
    uncalibrated: Reliability | None = None,
    smoothed_auroc: Interval | None = None,
) -> Table:
    """Return the metrics next to those of the class-prior baseline.

    Args:
        title: The caption of the table.
        evaluation: The evaluation.
        names: The metrics; by default all.
        uncalibrated: The reliability diagram before temperature scaling; its calibration error is
            added if it is known.
        smoothed_auroc: The AUROC after neighbor smoothing; added if it is known.
    """
    rows = [
        [
            name,
            number(evaluation.metrics[name].value),
            interval_text(evaluation.metrics[name]),
            number(evaluation.baseline[name]),
        ]
        for name in (evaluation.metrics if names is None else names)
    ]
    if smoothed_auroc is not None:
        value = number(smoothed_auroc.value)
        rows.insert(1, ["auroc, neighbor-smoothed", value, interval_text(smoothed_auroc), ""])
    note = (
        "" if uncalibrated is None else f"{number(uncalibrated.error)} before temperature scaling"
    )
    rows.append(["expected calibration error", number(evaluation.reliability.error), note, ""])
    columns = ["metric", "value", "95 % CI by patient", "class-prior baseline"]
    return Table(title, columns, rows)


def headline_metrics(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the names of the metrics that the terminal prints."""
    return BINARY_METRICS if len(evaluation.class_names) == 2 else MULTICLASS_METRICS


def key_tables(evaluation: Evaluation) -> Iterator[Table]:
    """Yield the tables by class and of the patients that are detected."""
    yield _class_table(evaluation)
    if evaluation.patient_level is not None:
        yield _detection_table(evaluation, evaluation.patient_level)


def detail_tables(evaluation: Evaluation) -> Iterator[Table]:
    """Yield the tables of confusions, of selective prediction, of rule-out and of the patients."""
    if len(evaluation.class_names) > MAX_MATRIX_CLASSES:
        yield _confusion_table(evaluation)
    is_wide = len(evaluation.class_names) > MAX_WIDE_CLASSES
    yield _selective_prediction_table(evaluation, () if is_wide else evaluation.class_names)
    if is_wide:
        yield _selective_class_table(evaluation)
    if evaluation.rule_out:
        yield _rule_out_table(f"Rule-out by {singular(evaluation.unit)}", evaluation.rule_out)
    if evaluation.patient_level is not None:
        yield _patient_auroc_table(evaluation, evaluation.patient_level)
        yield _rule_out_table("Rule-out by patient", evaluation.patient_level.rule_out)


def _class_table(evaluation: Evaluation) -> Table:
    rows = [
        [
            report.name,
            *(
                _with_interval(value, 4)
                for value in (report.precision, report.recall, report.f1, report.specificity)
            ),
            f"{report.support:,}",
        ]
        for report in evaluation.classes
    ]
    rule = "the most probable class is predicted"
    if evaluation.threshold is not None:
        threshold = f"a probability of {evaluation.threshold:.3f}"
        rule = f"{evaluation.class_names[1]} is predicted from {threshold} on"
    columns = ["class", "precision", "recall", "F1", "specificity", "support"]
    return Table(f"By class; {rule}", columns, rows)


def _confusion_table(evaluation: Evaluation) -> Table:
    """Return the pairs of classes that are confused most often, as a fraction of the true class."""
    confusion = evaluation.confusion
    errors = confusion * (1 - np.eye(len(confusion), dtype=np.int64))
    support = confusion.sum(axis=1)
    cells = np.argsort(-errors, axis=None, kind="stable")[:MAX_CONFUSIONS]
    rows = [
        [
            f"{evaluation.class_names[true]} as {evaluation.class_names[predicted]}",
            f"{errors[true, predicted]:,}",
            f"{errors[true, predicted] / support[true]:.3f}",
        ]
        for true, predicted in (divmod(int(cell), len(confusion)) for cell in cells)
        if errors[true, predicted]
    ]
    title = "Most frequent confusions of the confusion matrix"
    return Table(title, ["true class as predicted class", evaluation.unit, "fraction"], rows)


def _selective_prediction_table(evaluation: Evaluation, class_names: Sequence[str]) -> Table:
    """Return a row for each confidence, with three columns for each of the `class_names`."""
    columns = ["min. confidence", "coverage", "patients", "accuracy"]
    for name in class_names:
        columns += [f"{name}: coverage", f"{name}: precision", f"{name}: recall"]
    rows = [
        [
            f"{selective.confidence:g}",
            number(selective.coverage, 3),
            f"{selective.patients:,} of {selective.total_patients:,}",
            number(selective.accuracy, 3),
            *(
                number(value, 3)
                for by_class in selective.classes[: len(class_names)]
                for value in (by_class.coverage, by_class.precision, by_class.recall)
            ),
        ]
        for selective in evaluation.coverage
    ]
    augrc = "" if evaluation.risk.augrc is None else f"; AUGRC {evaluation.risk.augrc:.4f}"
    return Table(f"Selective prediction by confidence{augrc}", columns, rows)


def _selective_class_table(evaluation: Evaluation) -> Table:
    """Return a row for each class, with its values at each confidence."""
    columns = ["class", *(f"from {selective.confidence:g}" for selective in evaluation.coverage)]
    rows = [
        [
            name,
            *(
                " / ".join(
                    number(value, 3)
                    for value in (by_class.coverage, by_class.precision, by_class.recall)
                )
                for by_class in (selective.classes[index] for selective in evaluation.coverage)
            ),
        ]
        for index, name in enumerate(evaluation.class_names)
    ]
    title = "Selective prediction by class: coverage / precision / recall from each confidence"
    return Table(title, columns, rows)


def _rule_out_table(title: str, results: Sequence[RuleOut]) -> Table:
    rows = [
        [
            f"{result.confidence:g}",
            f"{result.ruled_out:,} of {result.total:,}",
            f"{result.missed:,} of {result.positives:,}",
            _with_interval(result.missed_fraction),
            _with_interval(result.npv),
        ]
        for result in results
    ]
    columns = ["min. confidence", "ruled out", "missed positives", "false negative rate", "NPV"]
    return Table(title, columns, rows)


def _patient_auroc_table(evaluation: Evaluation, patient_level: PatientLevelEvaluation) -> Table:
    rows = [
        [name, number(interval.value), interval_text(interval)]
        for name, interval in patient_level.auroc.items()
    ]
    error = patient_level.table.positive_fraction_error()
    rows.append(["mean absolute error of the positive fraction", number(error), ""])
    positives = int(patient_level.table.labels.sum())
    title = (
        f"Patient-level AUROC: {positives:,} of {evaluation.patients:,} patients have a"
        f" {singular(evaluation.unit)} of class {evaluation.class_names[1]}"
    )
    return Table(title, ["patient score", "AUROC", "95 % CI"], rows)


def _detection_table(evaluation: Evaluation, patient_level: PatientLevelEvaluation) -> Table:
    rows = [
        [
            detection.rule,
            f"{detection.true_positives:,} of {detection.positives:,}",
            _with_interval(detection.sensitivity),
            f"{detection.true_negatives:,} of {detection.negatives:,}",
            _with_interval(detection.specificity),
        ]
        for detection in patient_level.detection
    ]
    title = (
        f"Patients detected as positive by their {evaluation.unit} with a probability of"
        f" class {evaluation.class_names[1]} of at least {CONFIDENT:g}"
    )
    columns = [evaluation.unit, "true positives", "sensitivity", "true negatives", "specificity"]
    return Table(title, columns, rows)


def patient_table(
    evaluation: Evaluation,
    patient_level: PatientLevelEvaluation,
    max_patients: int,
    names: DisplayedNames,
) -> Table:
    """Return the patients with the largest errors of the predicted positive fraction."""
    table = patient_level.table
    true_fractions = table.positive / table.rows
    errors = abs(table.above - true_fractions)
    order = sorted(range(len(table.names)), key=lambda index: -errors[index])
    rows = [
        [
            names.patient(str(table.names[index])),
            f"{table.rows[index]:,}",
            f"{true_fractions[index]:.3f}",
            f"{table.above[index]:.3f}",
            f"{table.mean[index]:.3f}",
            f"{table.top[index]:.3f}",
            f"{table.confident[index]:,}",
        ]
        for index in order[:max_patients]
    ]
    num_hidden = max(len(table.names) - max_patients, 0)
    hidden = f" ({num_hidden:,} more are not shown)" if num_hidden else ""
    class_name = evaluation.class_names[1]
    columns = [
        "patient",
        evaluation.unit,
        f"true fraction of {class_name}",
        "predicted fraction",
        "mean probability",
        f"mean of the {TOP} highest",
        f"{evaluation.unit} from {CONFIDENT:g}",
    ]
    title = f"By patient, largest error of the predicted fraction of {class_name} first{hidden}"
    return Table(title, columns, rows)


def fold_table(evaluation: Evaluation) -> Table:
    """Return every metric of each fold, and of all folds pooled, a column for each of few folds."""
    unit = evaluation.unit
    title = f"By fold, and pooled: of the {unit} of all folds together, which is not the mean"
    metrics = list(evaluation.metrics)
    values = [
        [f"fold {fold}", *(number(values[name]) for name in metrics)]
        for fold, values in evaluation.folds.items()
    ]
    values.append(["pooled", *(number(evaluation.metrics[name].value) for name in metrics)])
    if len(evaluation.folds) > MAX_FOLD_COLUMNS:
        names = headline_metrics(evaluation)
        indices = [0, *(1 + metrics.index(name) for name in names)]
        return Table(title, ["", *names], [[row[index] for index in indices] for row in values])
    columns = zip(["metric", *metrics], *values, strict=True)
    header, *rows = (list(column) for column in columns)
    return Table(title, header, rows)


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with `digits` decimals; a dash if it is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"


def interval_text(interval: Interval, digits: int = 4) -> str:
    """Return the bounds of an interval; a dash if both are undefined."""
    if interval.low is None and interval.high is None:
        return "-"
    return f"{number(interval.low, digits)} to {number(interval.high, digits)}"


def _with_interval(interval: Interval, digits: int = 3) -> str:
    """Return value and bounds; a dash if the value is undefined."""
    if interval.value is None:
        return "-"
    return f"{number(interval.value, digits)} ({interval_text(interval, digits)})"


def hparams_summary(hparams: Hparams) -> str:
    """Return the hyperparameters of a trial in one line."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in hparams.items())
