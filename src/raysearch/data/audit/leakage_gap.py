"""Measures by how much a random split would overestimate the score of a color model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier

from raysearch.data.splits.folds import assign_folds
from raysearch.errors import DataError
from raysearch.metrics.classification import classification_metrics

MAX_ROWS = 20_000
# Minimum number of rows of a leaf. In small sets it is lower, so that a tree has about
# `MIN_LEAVES_PER_SET` leaves: with larger leaves the model would learn nothing.
MAX_MIN_SAMPLES_LEAF, MIN_LEAVES_PER_SET = 20, 20
# Boosting trains a tree per class in each iteration, so that its time grows with the number of
# classes. One randomized tree predicts all classes, and is used for more than two.
MAX_BOOSTED_CLASSES = 2
NUM_RANDOMIZED_TREES = 20
BOOSTED_TREES, RANDOMIZED_TREES = "gradient-boosted trees", "extremely randomized trees"
# Called with the number of trained models, and of all models.
ModelCallback = Callable[[int, int], None]
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
        model: The kind of model.
    """

    num_rows: int = 0
    num_folds: int = 0
    random_auroc: float | None = None
    grouped_auroc: float | None = None
    single_row_patients: bool = False
    reason: str = ""
    model: str = BOOSTED_TREES

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


def measure_leakage_gap(
    samples: ColorSamples,
    mask: NDArray[np.bool_],
    seed: int,
    on_model: ModelCallback = lambda _done, _total: None,
) -> LeakageGap:
    """Cross-validate trees on color statistics, with two kinds of folds.

    Trees can memorize the colors of a patient, as a network can. Logistic regression cannot, and
    its gap is close to zero. The trees are gradient-boosted for two classes, and extremely
    randomized (Geurts, Ernst and Wehenkel, 2006) for more, for which the AUROC is one-vs-rest,
    averaged over classes.

    Args:
        samples: All rows.
        mask: Rows to use, shape (N,); rows of the held-out test set are excluded.
        seed: Seed of the subsample and the folds.
        on_model: Called after each trained model.
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
        return _measure(subsample, assignment, num_folds, seed, on_model)
    return LeakageGap(num_rows, reason=reason)


def _measure(
    samples: ColorSamples,
    patient_folds: Mapping[str, int],
    num_folds: int,
    seed: int,
    on_model: ModelCallback,
) -> LeakageGap:
    """Cross-validate with random folds, then with the `patient_folds` of each patient."""
    num_rows, num_classes = len(samples.labels), int(samples.labels.max()) + 1
    names, patient_indices = np.unique(samples.patients, return_inverse=True)
    grouped_folds = np.array([patient_folds[name] for name in names.tolist()], np.int64)
    row_folds = random_folds(samples.labels, num_folds, seed)
    num_models = 2 * num_folds
    return LeakageGap(
        num_rows,
        num_folds,
        _mean_auroc(samples, row_folds, lambda done: on_model(done, num_models)),
        _mean_auroc(
            samples,
            grouped_folds[patient_indices],
            lambda done: on_model(num_folds + done, num_models),
        ),
        single_row_patients=len(names) == num_rows,
        model=BOOSTED_TREES if num_classes <= MAX_BOOSTED_CLASSES else RANDOMIZED_TREES,
    )


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


def _color_model(
    num_classes: int, num_rows: int
) -> ExtraTreesClassifier | HistGradientBoostingClassifier:
    """Return an untrained model for `num_rows` rows of `num_classes` classes."""
    min_samples_leaf = max(2, min(MAX_MIN_SAMPLES_LEAF, num_rows // MIN_LEAVES_PER_SET))
    if num_classes <= MAX_BOOSTED_CLASSES:
        return HistGradientBoostingClassifier(random_state=0, min_samples_leaf=min_samples_leaf)
    return ExtraTreesClassifier(
        NUM_RANDOMIZED_TREES, random_state=0, min_samples_leaf=max(2, min_samples_leaf // 4)
    )


def _mean_auroc(
    samples: ColorSamples, folds: NDArray[np.int64], on_model: Callable[[int], None]
) -> float | None:
    """Return the mean validation AUROC over folds; None if it is undefined in a fold."""
    class_names = [str(label) for label in range(int(samples.labels.max()) + 1)]
    aurocs = []
    for fold in range(int(folds.max()) + 1):
        validation = folds == fold
        model = _color_model(len(class_names), len(folds))
        model.fit(samples.color_statistics[~validation], samples.labels[~validation])
        probabilities = model.predict_proba(samples.color_statistics[validation])
        on_model(fold + 1)
        if probabilities.shape[1] < len(class_names):
            return None
        labels = samples.labels[validation]
        auroc = classification_metrics(labels, probabilities, class_names)["auroc"]
        if auroc is None:
            return None
        aurocs.append(auroc)
    return float(np.mean(aurocs))
