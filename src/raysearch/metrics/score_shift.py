"""Whether the scores of new patches are distributed as those of the training set.

A calibrated model says how often it is right only for patches like those it was calibrated on. Of
the ways to detect other patches, a two-sample test of the model's outputs was among the best
(Rabanser et al., 2019, "Failing Loudly"). The statistic is that of Kolmogorov and Smirnov, the
largest distance of two distribution functions. Patches of one patient are correlated, so its
p-value comes from permuting whole patients between the two samples, and each patient counts
equally, however many patches it has. The largest statistic over the confidence and the classes is
permuted with them, which accounts for the several tests (Westfall and Young, 1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import (
    Floats,
    Ints,
    patient_weights,
    percentile_interval,
)
from raysearch.metrics.interval import Interval
from raysearch.metrics.row_units import PATCHES

NUM_PERMUTATIONS = 999
NUM_REPLICATES = 2000
# Of more patients, so many are drawn: the memory grows with permutations times patients.
MAX_PATIENTS = 2000
# Points at which two distribution functions are compared.
NUM_POINTS = 200
MAX_P_VALUE = 0.01
# The smallest distance that is reported: of many patients, a harmless one is significant, too.
MIN_DISTANCE = 0.15
# The smallest difference of mean confidence and accuracy that is reported.
MIN_CALIBRATION_GAP = 0.05
CALIBRATION_LEVEL = 0.99
HIGH_CONFIDENCE = 0.95
MIN_PATIENTS = 5
# A percentile interval over fewer patients is too narrow (Cameron, Gelbach and Miller, 2008).
MIN_PATIENTS_FOR_INTERVAL = 10
CONFIDENCE = "confidence"


@dataclass(frozen=True)
class PatientScores:
    """Scores of rows.

    Attributes:
        probabilities: Probability of each class, shape (N, C).
        patients: Patient of each row, shape (N,).
        labels: Class of each row, shape (N,); None if they are unknown.
        unit: What a row is: `PATCHES` or `SLIDES`.
    """

    probabilities: Floats
    patients: NDArray[np.str_]
    labels: Ints | None = None
    unit: str = PATCHES

    @property
    def num_patients(self) -> int:
        """The number of patients."""
        return len(np.unique(self.patients))

    def drawn(self, max_patients: int, seed: int) -> PatientScores:
        """Return the rows of at most `max_patients` patients, drawn at random."""
        names = np.unique(self.patients)
        if len(names) <= max_patients:
            return self
        drawn_names = np.random.default_rng(seed).choice(names, max_patients, replace=False)
        kept = np.isin(self.patients, drawn_names)
        labels = None if self.labels is None else self.labels[kept]
        return PatientScores(self.probabilities[kept], self.patients[kept], labels, self.unit)

    @property
    def confidence(self) -> Floats:
        """The highest probability of each row, (N,)."""
        highest: Floats = self.probabilities.max(axis=1)
        return highest

    @property
    def correct(self) -> Floats:
        """1 for each row whose most probable class is its label, (N,); ValueError without any."""
        if self.labels is None:
            raise ValueError("no labels")
        correct: Floats = (self.probabilities.argmax(axis=1) == self.labels).astype(np.float64)
        return correct


@dataclass(frozen=True)
class ScoreShift:
    """The result of the test.

    Attributes:
        quantity: What differs most: `confidence`, or the score of a class by its name.
        distance: The statistic of Kolmogorov and Smirnov of that quantity.
        p_value: The p-value of the largest distance.
        mean: The mean of the quantity over the new patients.
        reference_mean: Its mean over the patients of the training set.
        num_patients: Number of new patients, also if only some of them are compared.
    """

    quantity: str
    distance: float
    p_value: float
    mean: float
    reference_mean: float
    num_patients: int

    @property
    def is_notable(self) -> bool:
        """Whether the shift is significant, and large enough to matter."""
        return self.p_value <= MAX_P_VALUE and self.distance >= MIN_DISTANCE

    def __str__(self) -> str:
        name = "confidence" if self.quantity == CONFIDENCE else f"score of {self.quantity}"
        return (
            f"the scores are distributed unlike those of the training set: mean {name}"
            f" {self.mean:.3f}, out of fold {self.reference_mean:.3f} (Kolmogorov-Smirnov distance"
            f" {self.distance:.2f}, p {self.p_value:.3f}, {self.num_patients:,} patients); do not"
            " rely on the probabilities without labels of this source"
        )


def score_shift(
    reference: PatientScores, new: PatientScores, class_names: tuple[str, ...], seed: int = 0
) -> ScoreShift:
    """Compare the scores of new rows with the out-of-fold scores of the training set.

    Args:
        reference: The calibrated out-of-fold scores.
        new: The scores of the new rows.
        class_names: The classes in the order of the probabilities.
        seed: Seed of the permutations.
    """
    names, num_patients = (CONFIDENCE, *class_names), new.num_patients
    reference, new = (sample.drawn(MAX_PATIENTS, seed) for sample in (reference, new))
    columns = [
        np.column_stack([sample.confidence, sample.probabilities]) for sample in (reference, new)
    ]
    values = np.concatenate(columns)
    num_reference, num_new = reference.num_patients, new.num_patients
    reference_index = np.unique(reference.patients, return_inverse=True)[1]
    new_index = np.unique(new.patients, return_inverse=True)[1] + num_reference
    patient_index = np.concatenate([reference_index, new_index])
    is_new = _assignments(num_reference, num_new, seed)
    distances = np.array(
        [_distances(values[:, column], patient_index, is_new) for column in range(len(names))]
    )
    largest = int(distances[:, 0].argmax())
    permuted = distances.max(axis=0)
    # The first assignment is the real one.
    p_value = float((permuted >= permuted[0] - 1e-12).mean())
    reference_column, new_column = (sample[:, largest] for sample in columns)
    return ScoreShift(
        names[largest],
        float(distances[largest, 0]),
        p_value,
        _mean_over_patients(new_column, new_index - num_reference),
        _mean_over_patients(reference_column, reference_index),
        num_patients,
    )


def _assignments(num_reference: int, num_new: int, seed: int) -> Floats:
    """1 for each patient of the new sample: the real assignment, then permutations, (1 + R, P)."""
    real = np.repeat([0.0, 1.0], [num_reference, num_new])
    generator = np.random.default_rng(seed)
    permuted = generator.permuted(np.tile(real, (NUM_PERMUTATIONS, 1)), axis=1)
    assignments: Floats = np.concatenate([real[None], permuted])
    return assignments


def _distances(values: Floats, patient_index: Ints, is_new: Floats) -> Floats:
    """Compute the distance of the two distribution functions for each assignment, (1 + R,)."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, NUM_POINTS + 1)[1:-1]))
    bins = np.searchsorted(edges, values, side="left")
    num_patients, num_bins = is_new.shape[1], len(edges) + 1
    counts = np.bincount(patient_index * num_bins + bins, minlength=num_patients * num_bins)
    below = counts.reshape(num_patients, num_bins).cumsum(axis=1)
    functions = below / below[:, -1:]  # the distribution function of each patient
    new = is_new @ functions
    reference = functions.sum(axis=0) - new
    num_new = is_new[0].sum()
    distance: Floats = np.abs(new / num_new - reference / (num_patients - num_new)).max(axis=1)
    return distance


def _mean_over_patients(values: Floats, patient_index: Ints) -> float:
    """The mean of the means of the patients."""
    sums, counts = np.bincount(patient_index, values), np.bincount(patient_index)
    return float((sums / counts).mean())


@dataclass(frozen=True)
class ConfidenceCheck:
    """Mean confidence of rows, and their accuracy with its interval by patient."""

    num_rows: int
    confidence: float
    accuracy: Interval


@dataclass(frozen=True)
class CalibrationShift:
    """Whether the accuracy on new rows is what the confidence says.

    Attributes:
        gap: Mean confidence minus accuracy, less the same difference of the out-of-fold scores,
            with its interval by patient.
        all_rows: The check of all rows.
        confident_rows: The check of the rows with at least `HIGH_CONFIDENCE`; None without any.
        reference: The check of the out-of-fold scores; its accuracy has no bounds.
        unit: What a row is: `PATCHES` or `SLIDES`.
    """

    gap: Interval
    all_rows: ConfidenceCheck
    confident_rows: ConfidenceCheck | None
    reference: ConfidenceCheck
    unit: str = PATCHES

    @property
    def are_confident_rows_wrong(self) -> bool:
        """Whether the accuracy of the confident rows is below their confidence by its interval."""
        if self.confident_rows is None or self.confident_rows.accuracy.high is None:
            return False
        return self.confident_rows.accuracy.high < HIGH_CONFIDENCE - MIN_CALIBRATION_GAP

    @property
    def is_notable(self) -> bool:
        """Whether the gap of all or of the confident rows is significant, and large."""
        if self.are_confident_rows_wrong:
            return True
        low, value, high = self.gap.low, self.gap.value, self.gap.high
        if low is None or value is None or high is None:
            return False
        return abs(value) >= MIN_CALIBRATION_GAP and (low > 0 or high < 0)

    def __str__(self) -> str:
        is_over = self.are_confident_rows_wrong or (self.gap.value or 0) > 0
        direction = "overconfident" if is_over else "underconfident"
        confident = self.confident_rows
        high_text = (
            ""
            if confident is None
            else f"; accuracy {confident.accuracy} in the {confident.num_rows:,} {self.unit} with a"
            f" confidence of at least {HIGH_CONFIDENCE:g}"
        )
        return (
            f"the probabilities are {direction} here: accuracy {self.all_rows.accuracy} at a mean"
            f" confidence of {self.all_rows.confidence:.4f} (out of fold"
            f" {self.reference.accuracy.value:.4f} at {self.reference.confidence:.4f}){high_text}"
        )


def calibration_shift(
    reference: PatientScores, new: PatientScores, seed: int = 0
) -> CalibrationShift:
    """Compare the accuracy on new rows with the confidence, by a bootstrap of patients.

    Both the new patients and those of the training set are drawn: the calibration is as uncertain
    as the sample that it was fitted on.

    Args:
        reference: The calibrated out-of-fold scores, with labels.
        new: The scores of the new rows, with labels.
        seed: Seed of the bootstrap replicates.
    """
    names, patient_index = np.unique(new.patients, return_inverse=True)
    weights = _replicate_weights(len(names), seed)
    is_confident = new.confidence >= HIGH_CONFIDENCE
    gaps = _gaps(new, seed) - _gaps(reference, seed + 1)
    return CalibrationShift(
        _interval(gaps, len(names)),
        _check(new, np.ones_like(is_confident), patient_index, weights),
        _check(new, is_confident, patient_index, weights) if is_confident.any() else None,
        ConfidenceCheck(
            len(reference.patients),
            float(reference.confidence.mean()),
            Interval(None, float(reference.correct.mean()), None),
        ),
        new.unit,
    )


def _gaps(sample: PatientScores, seed: int) -> Floats:
    """Mean confidence minus accuracy: of all rows, then of each bootstrap replicate, (1 + R,)."""
    names, patient_index = np.unique(sample.patients, return_inverse=True)
    weights = _replicate_weights(len(names), seed)
    return _weighted_means(sample.confidence - sample.correct, patient_index, weights)


def _replicate_weights(num_patients: int, seed: int) -> Floats:
    """The weights of all patients once, then of the bootstrap replicates, (1 + R, patients)."""
    drawn = patient_weights(num_patients, NUM_REPLICATES, seed)
    weights: Floats = np.concatenate([np.ones((1, num_patients)), drawn])
    return weights


def _check(
    sample: PatientScores, selected: NDArray[np.bool_], patient_index: Ints, weights: Floats
) -> ConfidenceCheck:
    index = patient_index[selected]
    accuracies = _weighted_means(sample.correct[selected], index, weights)
    confidence = float(sample.confidence[selected].mean())
    return ConfidenceCheck(
        int(selected.sum()), confidence, _interval(accuracies, len(np.unique(index)))
    )


def _weighted_means(values: Floats, patient_index: Ints, weights: Floats) -> Floats:
    """Compute the mean over rows in each replicate, (R,); NaN in one without a row."""
    num_patients = weights.shape[1]
    sums = weights @ np.bincount(patient_index, values, num_patients)
    counts = weights @ np.bincount(patient_index, minlength=num_patients)
    with np.errstate(invalid="ignore"):
        means: Floats = sums / counts
    return means


def _interval(values: Floats, num_patients: int) -> Interval:
    """Return the interval of the first value; without bounds if there are few patients."""
    replicates = values[1:] if num_patients >= MIN_PATIENTS_FOR_INTERVAL else np.full(1, np.nan)
    return percentile_interval(float(values[0]), replicates, CALIBRATION_LEVEL)
