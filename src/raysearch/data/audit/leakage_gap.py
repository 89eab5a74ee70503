"""Measures by how much a random split would overestimate the score of a color model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from raysearch.data.splits.folds import assign_folds
from raysearch.errors import DataError
from raysearch.metrics.classification import classification_metrics

MAX_ROWS = 20_000
# Minimum number of rows of a leaf. In small sets it is lower, so that a tree has about
# `MIN_LEAVES_PER_SET` leaves: with larger leaves the model would learn nothing.
MAX_MIN_SAMPLES_LEAF, MIN_LEAVES_PER_SET = 20, 20
# Numbers of folds to try, in this order.
FOLD_NUMBERS = (5, 4, 3, 2)


@dataclass(frozen=True)
class LeakageGap:
    """The mean AUROC over folds of a color model, with random folds and with patient-grouped folds.

    Attributes:
        num_rows: Number of rows that the model used.
        num_folds: Number of folds.
        random_auroc: AUROC if the folds mix the rows of a patient; None if undefined.
        grouped_auroc: AUROC if all rows of a patient are in one fold; None if undefined.
        single_row_patients: Whether no patient has two rows, so that both splits are random.
        reason: Reason why the AUROCs are undefined.
    """

    num_rows: int = 0
    num_folds: int = 0
    random_auroc: float | None = None
    grouped_auroc: float | None = None
    single_row_patients: bool = False
    reason: str = ""

    @property
    def gap(self) -> float | None:
        """The AUROC of the random split minus that of the grouped split."""
        if self.random_auroc is None or self.grouped_auroc is None:
            return None
        return self.random_auroc - self.grouped_auroc

    @property
    def undefined_reason(self) -> str:
        """Reason why there is no gap."""
        return self.reason or "a fold lacks a class"


@dataclass(frozen=True)
class ColorSamples:
    """Training rows of a color model.

    Attributes:
        color_statistics: Features, shape (N, F).
        labels: Class indices, shape (N,).
        patients: Patient of each row, shape (N,).
    """

    color_statistics: NDArray[np.float32]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]

    def subsample(self, mask: NDArray[np.bool_], seed: int) -> ColorSamples:
        """Draw at most `MAX_ROWS` rows of `mask`, and number their classes from 0 without gaps."""
        rows = np.flatnonzero(mask)
        if len(rows) > MAX_ROWS:
            rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_ROWS, replace=False))
        labels = np.unique(self.labels[rows], return_inverse=True)[1].astype(np.int64)
        return ColorSamples(self.color_statistics[rows], labels, self.patients[rows])


def measure_leakage_gap(samples: ColorSamples, mask: NDArray[np.bool_], seed: int) -> LeakageGap:
    """Cross-validate gradient-boosted trees on color statistics, with two kinds of folds.

    Trees can memorize the colors of a patient, as a network can. Logistic regression cannot, and
    its gap is close to zero. With more than two classes, the AUROC is one-vs-rest, averaged over
    classes.

    Args:
        samples: All rows.
        mask: Rows to use, shape (N,); rows of the held-out test set are excluded.
        seed: Seed of the subsample and the folds.
    """
    subsample = samples.subsample(mask, seed)
    num_rows = len(subsample.labels)
    if len(np.unique(subsample.labels)) < 2:
        return LeakageGap(num_rows, reason="fewer than two classes have rows")
    reason = ""
    for num_folds in FOLD_NUMBERS:
        try:
            assignment = assign_folds(subsample.patients, subsample.labels, num_folds, seed)
        except DataError as error:
            reason = str(error)
            continue
        names, patient_indices = np.unique(subsample.patients, return_inverse=True)
        patient_folds = np.array([assignment[name] for name in names.tolist()], np.int64)
        return LeakageGap(
            num_rows,
            num_folds,
            _mean_auroc(subsample, random_folds(subsample.labels, num_folds, seed)),
            _mean_auroc(subsample, patient_folds[patient_indices]),
            single_row_patients=len(names) == num_rows,
        )
    return LeakageGap(num_rows, reason=reason)


def random_folds(labels: NDArray[np.int64], num_folds: int, seed: int) -> NDArray[np.int64]:
    """Assign each row to a random fold, stratified by class and not grouped by patient.

    Returns:
        Fold numbers, shape (N,).
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % num_folds
    return folds


def _mean_auroc(samples: ColorSamples, folds: NDArray[np.int64]) -> float | None:
    """Return the mean validation AUROC over folds; None if it is undefined in a fold."""
    class_names = [str(label) for label in range(int(samples.labels.max()) + 1)]
    min_samples_leaf = max(2, min(MAX_MIN_SAMPLES_LEAF, len(folds) // MIN_LEAVES_PER_SET))
    aurocs = []
    for fold in range(int(folds.max()) + 1):
        validation = folds == fold
        model = HistGradientBoostingClassifier(random_state=0, min_samples_leaf=min_samples_leaf)
        model.fit(samples.color_statistics[~validation], samples.labels[~validation])
        probabilities = model.predict_proba(samples.color_statistics[validation])
        if probabilities.shape[1] < len(class_names):
            return None
        labels = samples.labels[validation]
        auroc = classification_metrics(labels, probabilities, class_names)["auroc"]
        if auroc is None:
            return None
        aurocs.append(auroc)
    return float(np.mean(aurocs))
