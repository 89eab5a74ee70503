"""Selective prediction and rule-out: which rows a model can decide without a person.

The confidence of a row is its highest probability. Probabilities must be calibrated for confidence
levels to have a meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from raysearch.metrics.bootstrap import Floats, Ints
from raysearch.metrics.confusion_matrix import (
    accuracy,
    class_metrics,
    confusion_matrix,
)
from raysearch.metrics.interval import UNDEFINED, Interval

CONFIDENCES = (0.8, 0.95, 0.99, 0.999, 0.9999)


@dataclass(frozen=True)
class ClassSelectiveAccuracy:
    """One class among the selected rows; undefined values are None.

    Attributes:
        rows: Selected rows of the class.
        total_rows: All rows of the class.
        precision: Precision among the selected rows.
        recall: Recall among the selected rows.
    """

    rows: int
    total_rows: int
    precision: float | None
    recall: float | None

    @property
    def coverage(self) -> float | None:
        """The fraction of the class's rows that are selected."""
        return _fraction(self.rows, self.total_rows)


@dataclass(frozen=True)
class SelectiveAccuracy:
    """The accuracy at a coverage: of the rows with at least `confidence`, which are selected.

    Attributes:
        confidence: The lowest confidence of a selected row.
        rows: Selected rows.
        total_rows: All rows.
        patients: Patients with a selected row.
        total_patients: All patients.
        accuracy: Accuracy among the selected rows; None if there are none.
        classes: The same for each class.
    """

    confidence: float
    rows: int
    total_rows: int
    patients: int
    total_patients: int
    accuracy: float | None
    classes: tuple[ClassSelectiveAccuracy, ...]

    @property
    def coverage(self) -> float | None:
        """The fraction of all rows that are selected."""
        return _fraction(self.rows, self.total_rows)


def selective_accuracy_table(
    labels: Ints,
    probabilities: Floats,
    patients: NDArray[np.str_],
    confidences: Sequence[float] = CONFIDENCES,
) -> list[SelectiveAccuracy]:
    """Compute the selective accuracy at each confidence.

    Args:
        labels: Class of each row, shape (N,).
        probabilities: Probability of each class, shape (N, C).
        patients: Patient of each row, shape (N,).
        confidences: The lowest confidences of selected rows.
    """
    row_confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    num_classes, total_patients = probabilities.shape[1], len(np.unique(patients))
    class_rows = np.bincount(labels, minlength=num_classes)
    table = []
    for confidence in confidences:
        selected = row_confidence >= confidence
        confusion = confusion_matrix(labels[selected], predicted[selected], num_classes)
        by_metric = class_metrics(confusion)
        classes = tuple(
            ClassSelectiveAccuracy(
                rows=int(confusion[number].sum()),
                total_rows=int(class_rows[number]),
                precision=_defined(by_metric["precision"][number]),
                recall=_defined(by_metric["recall"][number]),
            )
            for number in range(num_classes)
        )
        table.append(
            SelectiveAccuracy(
                confidence,
                rows=int(selected.sum()),
                total_rows=len(labels),
                patients=len(np.unique(patients[selected])),
                total_patients=total_patients,
                accuracy=_defined(accuracy(confusion)),
                classes=classes,
            )
        )
    return table


@dataclass(frozen=True)
class RiskCoverage:
    """The risk-coverage curve by falling confidence, each array (K,).

    Attributes:
        confidence: The distinct confidences.
        coverage: Fraction of rows with at least this confidence.
        risk: Fraction of errors among those rows.
        generalized_risk: Those errors as a fraction of all rows.
        augrc: Area under the generalized risk over the coverage: the mean risk of an undetected
            error. None without rows.
    """

    confidence: Floats
    coverage: Floats
    risk: Floats
    generalized_risk: Floats
    augrc: float | None


def risk_coverage(labels: Ints, probabilities: Floats) -> RiskCoverage:
    """Compute the risk-coverage curve and its AUGRC.

    Rows of equal confidence are selected together. Source: Traub et al., 2024, "Overcoming Common
    Flaws in the Evaluation of Selective Classification Systems".

    Args:
        labels: Class of each row, shape (N,).
        probabilities: Probability of each class, shape (N, C).
    """
    negated, value_index = np.unique(-probabilities.max(axis=1), return_inverse=True)
    is_error = (probabilities.argmax(axis=1) != labels).astype(np.float64)
    rows = np.cumsum(np.bincount(value_index, minlength=len(negated))).astype(np.float64)
    errors = np.cumsum(np.bincount(value_index, is_error, len(negated)))
    total_rows = max(len(labels), 1)
    coverage, generalized_risk = rows / total_rows, errors / total_rows
    area = float(np.trapezoid(np.append(0.0, generalized_risk), np.append(0.0, coverage)))
    return RiskCoverage(
        -negated, coverage, errors / rows, generalized_risk, area if len(rows) else None
    )


@dataclass(frozen=True)
class RuleOut:
    """Units that are ruled out without a person: negative with at least `confidence`.

    The intervals are exact (Clopper and Pearson, 1934) for independent units, such as patients.
    Patches of one patient are not independent: their intervals are too narrow.

    Attributes:
        confidence: The lowest probability of a negative.
        ruled_out: Units that are ruled out.
        total: All units.
        missed: Positive units that are ruled out by mistake.
        positives: All positive units.
    """

    confidence: float
    ruled_out: int
    total: int
    missed: int
    positives: int

    @property
    def fraction(self) -> float | None:
        """The fraction of all units that are ruled out."""
        return _fraction(self.ruled_out, self.total)

    @property
    def missed_fraction(self) -> Interval:
        """The fraction of positives that are ruled out by mistake."""
        return clopper_pearson_interval(self.missed, self.positives)

    @property
    def npv(self) -> Interval:
        """The negative predictive value: the fraction of ruled-out units that are negative."""
        return clopper_pearson_interval(self.ruled_out - self.missed, self.ruled_out)


def rule_out_table(
    labels: Ints,
    probabilities: Floats,
    confidences: Sequence[float] = CONFIDENCES,
    negative_classes: Sequence[int] = (0,),
) -> list[RuleOut]:
    """Count the units that are ruled out at each confidence.

    Args:
        labels: Class of each unit, shape (N,).
        probabilities: Probability of each class, shape (N, C).
        confidences: The lowest probabilities of a negative.
        negative_classes: The classes that are negative; all others are positive.
    """
    positive = ~np.isin(labels, negative_classes)
    negative_probability = probabilities[:, list(negative_classes)].sum(axis=1)
    table = []
    for confidence in confidences:
        ruled_out = negative_probability >= confidence
        table.append(
            RuleOut(
                confidence,
                ruled_out=int(ruled_out.sum()),
                total=len(labels),
                missed=int((ruled_out & positive).sum()),
                positives=int(positive.sum()),
            )
        )
    return table


def clopper_pearson_interval(count: int, total: int, level: float = 0.95) -> Interval:
    """Compute a proportion and its exact interval (Clopper and Pearson, 1934).

    The interval is undefined if `total` is 0.
    """
    if not total:
        return UNDEFINED
    interval = binomtest(count, total).proportion_ci(level, method="exact")
    return Interval(float(interval.low), count / total, float(interval.high))


def _fraction(count: int, total: int) -> float | None:
    return count / total if total else None


def _defined(value: float | np.float64 | Floats) -> float | None:
    return None if np.isnan(value) else float(value)
