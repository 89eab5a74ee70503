"""The complete evaluation of one set of predictions: by row, by class, by fold and by patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import (
    Floats,
    Ints,
    auroc_interval,
    patient_weights,
    percentile_interval,
)
from raysearch.metrics.bootstrap_metrics import (
    LOSS_METRICS,
    RANKING_METRICS,
    class_replicates,
    metric_replicates,
)
from raysearch.metrics.calibration import Reliability, reliability
from raysearch.metrics.classification import (
    METRICS,
    NO_METRICS,
    MetricValues,
    classification_metrics,
    defined_or_none,
)
from raysearch.metrics.confusion_matrix import confusion_matrix
from raysearch.metrics.custom_metric import MetricFunction, custom_metric, custom_replicates
from raysearch.metrics.interval import Interval
from raysearch.metrics.patient_level import (
    PatientDetection,
    PatientTable,
    aggregate_by_patient,
    detect_patients,
)
from raysearch.metrics.row_units import PATCHES
from raysearch.metrics.selective_prediction import (
    RiskCoverage,
    RuleOut,
    SelectiveAccuracy,
    risk_coverage,
    rule_out_table,
    selective_accuracy_table,
)

NUM_REPLICATES = 2000


@dataclass(frozen=True)
class ScoredRows:
    """Rows with labels and the probabilities that a model predicts.

    Attributes:
        labels: Class of each row, shape (N,).
        probabilities: Calibrated probability of each class, shape (N, C).
        patients: Patient of each row, shape (N,).
        class_names: Names of the C classes.
        threshold: Probability from which on the second of two classes is predicted; if it is None,
            the class with the highest probability is predicted.
        unit: What a row is: `PATCHES` or `SLIDES`.
    """

    labels: Ints
    probabilities: Floats
    patients: NDArray[np.str_]
    class_names: tuple[str, ...]
    threshold: float | None = None
    unit: str = PATCHES

    @property
    def predicted(self) -> Ints:
        """The predicted class of each row, (N,)."""
        if self.threshold is None:
            most_probable: Ints = self.probabilities.argmax(axis=1)
            return most_probable
        return (self.probabilities[:, 1] >= self.threshold).astype(np.int64)


@dataclass(frozen=True)
class ClassReport:
    """The metrics of a class against the others, with intervals by patient, and its row count."""

    name: str
    support: int
    precision: Interval
    recall: Interval
    f1: Interval
    specificity: Interval


@dataclass(frozen=True)
class PatientLevelEvaluation:
    """The evaluation by patient, for two classes.

    Attributes:
        table: The aggregated scores of each patient.
        auroc: The AUROC of each of `table.scores` for whether a patient has a row of the second
            class; undefined if all patients have one, or none has.
        detection: Patients that are detected by their confident rows.
        rule_out: Patients that are ruled out by their highest rows.
    """

    table: PatientTable
    auroc: dict[str, Interval]
    detection: tuple[PatientDetection, ...]
    rule_out: tuple[RuleOut, ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything that is evaluated on one set of predictions.

    Attributes:
        class_names: Names of the C classes.
        threshold: The classification threshold, or None.
        rows: The number of rows.
        patients: The number of patients.
        metrics: Every metric with its 95 % interval by patient.
        baseline: The metrics of the class-prior baseline, as `sklearn.dummy.DummyClassifier` with
            `strategy="prior"` has them.
        classes: The report of each class.
        confusion: Confusion matrix (C, C); rows are true classes, columns predicted ones.
        reliability: The reliability diagram.
        coverage: The selective accuracy at each confidence.
        risk: The risk-coverage curve.
        rule_out: Rows that are ruled out at each confidence; empty for more than two classes.
        patient_level: The evaluation by patient; None for more than two classes.
        folds: The metrics of each fold.
        unit: What a row is: `PATCHES` or `SLIDES`.
    """

    class_names: tuple[str, ...]
    threshold: float | None
    rows: int
    patients: int
    metrics: dict[str, Interval]
    baseline: MetricValues
    classes: tuple[ClassReport, ...]
    confusion: Ints
    reliability: Reliability
    coverage: tuple[SelectiveAccuracy, ...]
    risk: RiskCoverage
    rule_out: tuple[RuleOut, ...]
    patient_level: PatientLevelEvaluation | None
    folds: dict[int, MetricValues]
    unit: str = PATCHES


def evaluate_predictions(
    scored: ScoredRows,
    folds: Ints | None = None,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
    custom: Mapping[str, MetricFunction] = NO_METRICS,
) -> Evaluation:
    """Evaluate predictions.

    Args:
        scored: Rows with labels and probabilities.
        folds: Fold of the model that scored each row, shape (N,), if there are several.
        num_replicates: Bootstrap replicates of patients for the intervals.
        seed: Seed of the replicates.
        custom: Further metrics of the probabilities, by name.

    Raises:
        ValueError: If there are no rows, or if probabilities are not finite or do not sum to 1.
    """
    if not len(scored.labels):
        raise ValueError("no rows to evaluate")
    if not np.isfinite(scored.probabilities).all():
        raise ValueError("probabilities are not finite")
    names, patient_index = np.unique(scored.patients, return_inverse=True)
    weights = np.ones((1, len(names)))
    # Replicates of a single patient are all equal, and so tell nothing of the variance.
    if len(names) > 1:
        drawn_weights = patient_weights(len(names), num_replicates, seed)
        weights = np.concatenate([weights, drawn_weights])
    labels, probabilities = scored.labels, scored.probabilities
    num_classes = len(scored.class_names)
    is_binary = num_classes == 2
    return Evaluation(
        class_names=scored.class_names,
        threshold=scored.threshold,
        rows=len(labels),
        patients=len(names),
        metrics={
            name: _interval(_replicates(name, scored, patient_index, weights)) for name in METRICS
        }
        | {
            name: _interval(
                custom_replicates(function, labels, probabilities, patient_index, weights)
            )
            for name, function in custom.items()
        },
        baseline=_baseline(scored, custom),
        classes=_class_reports(scored, patient_index, weights),
        confusion=confusion_matrix(labels, scored.predicted, num_classes),
        reliability=reliability(labels, probabilities),
        coverage=tuple(selective_accuracy_table(labels, probabilities, scored.patients)),
        risk=risk_coverage(labels, probabilities),
        rule_out=tuple(rule_out_table(labels, probabilities)) if is_binary else (),
        patient_level=_evaluate_patients(scored, num_replicates, seed) if is_binary else None,
        folds={} if folds is None else _metrics_by_fold(scored, folds, custom),
        unit=scored.unit,
    )


def _replicates(name: str, scored: ScoredRows, patient_index: Ints, weights: Floats) -> Floats:
    """Compute a metric (R,) of the probabilities, or of the predicted classes."""
    probabilities = scored.probabilities
    if name not in RANKING_METRICS and name not in LOSS_METRICS:
        probabilities = np.eye(len(scored.class_names))[scored.predicted]
    return metric_replicates(name, scored.labels, probabilities, patient_index, weights)


def _interval(values: Floats) -> Interval:
    """Return the interval of a metric; the first of `values` is of the original sample."""
    replicates = values[1:] if len(values) > 1 else np.array([np.nan])
    return percentile_interval(float(values[0]), replicates)


def _baseline(scored: ScoredRows, custom: Mapping[str, MetricFunction]) -> MetricValues:
    """Compute the metrics of the class-prior baseline: every row has the class frequencies."""
    num_rows = len(scored.labels)
    priors = np.bincount(scored.labels, minlength=len(scored.class_names)) / num_rows
    probabilities = np.tile(priors, (num_rows, 1))
    values = classification_metrics(scored.labels, probabilities, scored.class_names, custom)
    return {name: values[name] for name in (*METRICS, *custom)}


def _class_reports(
    scored: ScoredRows, patient_index: Ints, weights: Floats
) -> tuple[ClassReport, ...]:
    num_classes = len(scored.class_names)
    replicates = class_replicates(
        scored.labels, scored.predicted, patient_index, weights, num_classes
    )
    return tuple(
        ClassReport(
            name,
            int((scored.labels == number).sum()),
            **{metric: _interval(values[:, number]) for metric, values in replicates.items()},
        )
        for number, name in enumerate(scored.class_names)
    )


def _metrics_by_fold(
    scored: ScoredRows, folds: Ints, custom: Mapping[str, MetricFunction]
) -> dict[int, MetricValues]:
    by_fold: dict[int, MetricValues] = {}
    for fold in np.unique(folds).tolist():
        in_fold = folds == fold
        rows = ScoredRows(
            scored.labels[in_fold],
            scored.probabilities[in_fold],
            scored.patients[in_fold],
            scored.class_names,
            scored.threshold,
            scored.unit,
        )
        # All rows count once: a single replicate with a single group.
        patient_index, weights = np.zeros(len(rows.labels), np.int64), np.ones((1, 1))
        by_fold[int(fold)] = {
            name: defined_or_none(float(_replicates(name, rows, patient_index, weights)[0]))
            for name in METRICS
        } | {
            name: custom_metric(function, rows.labels, rows.probabilities)
            for name, function in custom.items()
        }
    return by_fold


def _evaluate_patients(
    scored: ScoredRows, num_replicates: int, seed: int
) -> PatientLevelEvaluation:
    threshold = 0.5 if scored.threshold is None else scored.threshold
    table = aggregate_by_patient(
        scored.labels, scored.probabilities[:, 1], scored.patients, threshold
    )
    auroc = {
        name: auroc_interval(
            table.labels, values, table.names, num_replicates=num_replicates, seed=seed
        )
        for name, values in table.scores.items()
    }
    highest = np.column_stack([1 - table.top, table.top])
    rule_out = tuple(rule_out_table(table.labels, highest))
    return PatientLevelEvaluation(table, auroc, detect_patients(table), rule_out)
