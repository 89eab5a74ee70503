"""Patient-level evaluation: aggregates the scores of a patient's patches and detects patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import Floats, Ints
from raysearch.metrics.interval import Interval
from raysearch.metrics.selective_prediction import clopper_pearson_interval

# One score of a patient is the mean of this many highest probabilities.
TOP = 10
# A patch is confidently positive from this probability on.
CONFIDENT = 0.95
# The detection rules: at least this number, or this fraction, of confident positives.
MIN_COUNTS, MIN_FRACTIONS = (1, 3, 10), (0.01, 0.05, 0.2)


@dataclass(frozen=True)
class PatientTable:
    """The rows of each patient and their aggregated scores, each array (patients,).

    Attributes:
        names: Names of the patients, sorted.
        rows: The number of rows.
        positive: The number of truly positive rows.
        mean: Mean probability of the positive class.
        top: Mean of the `TOP` highest probabilities, or of all if there are fewer.
        above: Fraction of rows at or above the threshold.
        confident: The number of confidently positive rows.
    """

    names: NDArray[np.str_]
    rows: Ints
    positive: Ints
    mean: Floats
    top: Floats
    above: Floats
    confident: Ints

    @property
    def labels(self) -> Ints:
        """1 for a patient with a positive row, (patients,)."""
        return (self.positive > 0).astype(np.int64)

    @property
    def scores(self) -> dict[str, Floats]:
        """The scores by which patients can be ranked, by name."""
        return {
            "mean": self.mean,
            f"mean of the {TOP} highest": self.top,
            "fraction above the threshold": self.above,
            "fraction of confident positives": self.confident / self.rows,
            "number of confident positives": self.confident.astype(np.float64),
        }

    def positive_fraction_error(self) -> float | None:
        """Return the mean absolute error of `above` as an estimate of the positive fraction.

        It is None without patients.
        """
        if not len(self.rows):
            return None
        return float(np.abs(self.above - self.positive / self.rows).mean())


def aggregate_by_patient(
    labels: Ints,
    scores: Floats,
    patients: NDArray[np.str_],
    threshold: float = 0.5,
    *,
    confident: float = CONFIDENT,
    top: int = TOP,
) -> PatientTable:
    """Aggregate the scores of each patient's rows.

    Args:
        labels: 1 for a positive row, shape (N,).
        scores: Probability of the positive class, shape (N,).
        patients: Patient of each row, shape (N,).
        threshold: The classification threshold.
        confident: Probability from which on a row is confidently positive.
        top: The number of highest probabilities in `PatientTable.top`.
    """
    names, patient_index, rows = np.unique(patients, return_inverse=True, return_counts=True)

    def count_rows(mask: NDArray[np.bool_]) -> Ints:
        return np.bincount(patient_index[mask], minlength=len(names)).astype(np.int64)

    order = np.lexsort((-scores, patient_index))
    starts = np.cumsum(rows) - rows
    rank = np.arange(len(scores)) - np.repeat(starts, rows)
    highest = order[rank < top]
    top_sums = np.bincount(patient_index[highest], scores[highest], len(names))
    return PatientTable(
        names=names,
        rows=rows.astype(np.int64),
        positive=count_rows(labels == 1),
        mean=np.bincount(patient_index, scores, len(names)) / rows,
        top=top_sums / np.minimum(rows, top),
        above=count_rows(scores >= threshold) / rows,
        confident=count_rows(scores >= confident),
    )


@dataclass(frozen=True)
class PatientDetection:
    """The patients that a `rule` detects: correct decisions on positive and negative patients."""

    rule: str
    true_positives: int
    positives: int
    true_negatives: int
    negatives: int

    @property
    def sensitivity(self) -> Interval:
        """The fraction of positive patients that are detected, with its exact interval."""
        return clopper_pearson_interval(self.true_positives, self.positives)

    @property
    def specificity(self) -> Interval:
        """The fraction of negative patients that are not detected, with its exact interval."""
        return clopper_pearson_interval(self.true_negatives, self.negatives)


def detect_patients(table: PatientTable) -> tuple[PatientDetection, ...]:
    """Detect positive patients by the number, and by the fraction, of confident positives.

    A patient is truly positive if one of its rows is. The rules are fixed, not fitted to these
    patients.
    """
    fraction = table.confident / table.rows
    rules = {f"{count} or more": table.confident >= count for count in MIN_COUNTS}
    rules |= {f"{minimum:.0%} or more": fraction >= minimum for minimum in MIN_FRACTIONS}
    positive = table.labels == 1
    return tuple(
        PatientDetection(
            rule,
            true_positives=int((detected & positive).sum()),
            positives=int(positive.sum()),
            true_negatives=int((~detected & ~positive).sum()),
            negatives=int((~positive).sum()),
        )
        for rule, detected in rules.items()
    )
