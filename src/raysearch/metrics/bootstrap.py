"""The patient-cluster bootstrap of the AUROC: confidence intervals that resample whole patients.

Patches of one patient are correlated, so a replicate resamples patients, not patches. The AUROC of
a replicate does not need the rows again. Let U[i, j] be the number of concordant pairs (a positive
of patient i ranked above a negative of patient j; a tie counts one half), and P, N the numbers of
positives and negatives of each patient. A replicate that contains patient i w[i] times has the
AUROC (w'Uw) / ((w'P)(w'N)). The pairs are counted once; each replicate costs three products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.confusion_matrix import safe_divide
from raysearch.metrics.interval import UNDEFINED, Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# The matrix of pairs grows with the square of the patients. Up to this number, 2,000 replicates
# take milliseconds.
MAX_PATIENTS_FOR_PAIRS = 4000


@dataclass(frozen=True)
class ConcordantPairs:
    """The pairs of positives and negatives that are ranked correctly, by patient.

    Attributes:
        concordant: U of the module's formula, shape (patients, patients).
        positives: Positive rows of each patient, shape (patients,).
        negatives: Negative rows of each patient, shape (patients,).
    """

    concordant: Floats
    positives: Floats
    negatives: Floats


def count_concordant_pairs(
    labels: Ints, scores: Floats, patients: NDArray[np.str_] | Ints
) -> ConcordantPairs:
    """Count the concordant pairs of each two patients.

    The positives are sorted by score before they are searched, which is five times as fast.

    Args:
        labels: 1 for a positive row, shape (N,).
        scores: Scores that rise with the probability of a positive, shape (N,).
        patients: Patient of each row, shape (N,).
    """
    names, patient_index = np.unique(patients, return_inverse=True)
    num_patients = len(names)
    positive, negative = labels == 1, labels != 1
    order = np.argsort(scores[positive])
    positive_scores = scores[positive][order]
    positive_patients = patient_index[positive][order]
    concordant = np.zeros((num_patients, num_patients))
    for patient in range(num_patients):
        negative_scores = np.sort(scores[negative & (patient_index == patient)])
        if not len(negative_scores):
            continue
        wins = np.searchsorted(negative_scores, positive_scores, "left")
        ties = np.searchsorted(negative_scores, positive_scores, "right") - wins
        concordant[:, patient] = np.bincount(
            positive_patients, wins + 0.5 * ties, minlength=num_patients
        )
    positives = np.bincount(patient_index[positive], minlength=num_patients).astype(np.float64)
    negatives = np.bincount(patient_index[negative], minlength=num_patients).astype(np.float64)
    return ConcordantPairs(concordant, positives, negatives)


def auroc_replicates(pairs: ConcordantPairs, weights: Floats) -> Floats:
    """Compute the AUROC of each bootstrap replicate.

    Args:
        pairs: The counted pairs.
        weights: How often each replicate contains each patient, shape (R, patients).

    Returns:
        The AUROC, shape (R,); NaN if a replicate has no positive or no negative row.
    """
    concordant = np.einsum("ri,ri->r", weights @ pairs.concordant, weights)
    return safe_divide(concordant, (weights @ pairs.positives) * (weights @ pairs.negatives))


def patient_weights(num_patients: int, num_replicates: int, seed: int) -> Floats:
    """Draw how often each bootstrap replicate contains each patient, shape (R, patients)."""
    generator = np.random.default_rng(seed)
    probabilities = np.full(num_patients, 1 / num_patients)
    return generator.multinomial(num_patients, probabilities, num_replicates).astype(np.float64)


@dataclass(frozen=True)
class RankedRows:
    """Rows sorted by score; needs memory for N rows, not for the square of the patients.

    Attributes:
        patient_index: Patient of each row, shape (N,).
        positive: 1 for a positive row, shape (N,).
        starts: Position at which each distinct score starts.
    """

    patient_index: Ints
    positive: Floats
    starts: Ints

    def weighted_counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """Count the positives and negatives at each distinct score, in score order.

        Args:
            weights: How often the replicate contains each patient, shape (patients,).
        """
        row_weights = weights[self.patient_index]
        positives = np.add.reduceat(row_weights * self.positive, self.starts)
        negatives = np.add.reduceat(row_weights * (1 - self.positive), self.starts)
        return positives, negatives


def rank_rows(labels: Ints, scores: Floats, patient_index: Ints) -> RankedRows:
    """Sort rows by score, the lowest first; `patient_index` (N,) numbers each row's patient."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    return RankedRows(patient_index[order], (labels[order] == 1).astype(np.float64), starts)


def weighted_auroc(rows: RankedRows, weights: Floats) -> float:
    """Compute the AUROC of the replicate with the patient `weights` (patients,), or NaN."""
    positives, negatives = rows.weighted_counts(weights)
    num_pairs = positives.sum() * negatives.sum()
    negatives_below = np.cumsum(negatives) - negatives / 2
    return float(positives @ negatives_below / num_pairs) if num_pairs > 0 else float("nan")


def percentile_interval(estimate: float, replicates: Floats, level: float = 0.95) -> Interval:
    """Return `estimate` with the percentile interval of its bootstrap replicates.

    Args:
        estimate: The value on the original sample; NaN if it is undefined.
        replicates: The value in each replicate, shape (R,); NaN ones are ignored.
        level: The confidence level.

    Returns:
        The interval; bounds are None if no replicate is defined.
    """
    if np.isnan(estimate):
        return UNDEFINED
    if np.isnan(replicates).all():
        return Interval(None, estimate, None)
    tail = (1 - level) / 2
    low, high = np.nanquantile(replicates, (tail, 1 - tail))
    return Interval(float(low), estimate, float(high))


def auroc_interval(
    labels: Ints,
    scores: Floats,
    patients: NDArray[np.str_],
    *,
    num_replicates: int = 2000,
    seed: int = 0,
    max_patients_for_pairs: int = MAX_PATIENTS_FOR_PAIRS,
) -> Interval:
    """Compute the AUROC and its 95 % percentile interval over bootstrap replicates of patients.

    Args:
        labels: 1 for a positive row, shape (N,).
        scores: Scores that rise with the probability of a positive, shape (N,).
        patients: Patient of each row, shape (N,).
        num_replicates: The number of replicates.
        seed: Seed of the replicates.
        max_patients_for_pairs: With more patients, rows are weighted one by one instead of counting
            pairs; the values are equal.

    Returns:
        The interval; its bounds are None if there are fewer than two patients, or if no replicate
        has both classes.
    """
    names, patient_index = np.unique(patients, return_inverse=True)
    num_patients = len(names)
    if not len(labels):
        return UNDEFINED
    if num_patients <= max_patients_for_pairs:
        pairs = count_concordant_pairs(labels, scores, patients)
        estimate = float(auroc_replicates(pairs, np.ones((1, num_patients)))[0])
        replicates = auroc_replicates(pairs, patient_weights(num_patients, num_replicates, seed))
    else:
        rows = rank_rows(labels, scores, patient_index)
        estimate = weighted_auroc(rows, np.ones(num_patients))
        generator = np.random.default_rng(seed)
        probabilities = np.full(num_patients, 1 / num_patients)
        # One replicate at a time: all weights at once would need (R, patients) floats.
        weights_by_replicate = (
            generator.multinomial(num_patients, probabilities).astype(np.float64)
            for _ in range(num_replicates)
        )
        replicates = np.array([weighted_auroc(rows, weights) for weights in weights_by_replicate])
    return percentile_interval(estimate, replicates if num_patients > 1 else np.full(1, np.nan))
