"""By how much a random split would flatter: colours learned with patients mixed, and apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from raysearch.data.splits.folds import assign_folds
from raysearch.errors import DataError
from raysearch.metrics.classification import score

MAX_ROWS = 20_000
# The rows of a leaf; fewer where there are few, of which nothing would be learned else.
LEAF, LEAVES = 20, 20
FOLDS = (5, 4, 3, 2)


@dataclass(frozen=True)
class LeakageGap:
    """The mean AUROC over folds of a colour model, by random rows and by patient.

    None, and the `reason`, where it cannot be told. `rows` were used, in `folds` folds; `alone`
    says that no patient has two of them, so that both ways are one.
    """

    rows: int = 0
    folds: int = 0
    random: float | None = None
    grouped: float | None = None
    alone: bool = False
    reason: str = ""

    @property
    def gap(self) -> float | None:
        """How much higher the random split scores."""
        if self.random is None or self.grouped is None:
            return None
        return self.random - self.grouped


@dataclass(frozen=True)
class Sample:
    """Rows to learn from: colour statistics (N, F), labels and patients (N,)."""

    colours: NDArray[np.float32]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]

    def draw(self, usable: NDArray[np.bool_], seed: int) -> Sample:
        """At most 20,000 of the `usable` (N,) rows, with the classes that they have numbered on."""
        rows = np.flatnonzero(usable)
        if len(rows) > MAX_ROWS:
            rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_ROWS, replace=False))
        labels = np.unique(self.labels[rows], return_inverse=True)[1].astype(np.int64)
        return Sample(self.colours[rows], labels, self.patients[rows])


def measure_leakage_gap(whole: Sample, usable: NDArray[np.bool_], seed: int) -> LeakageGap:
    """Boosted trees on the colours of the `usable` (N,) rows, in as many as 5 folds.

    Trees, since they can learn by heart what a patient looks like, as a network can; logistic
    regression cannot, and is hardly flattered.
    AUROC is one-against-the-rest, mean over the classes, where there are more than two.
    """
    some = whole.draw(usable, seed)
    size = len(some.labels)
    if len(np.unique(some.labels)) < 2:
        return LeakageGap(size, reason="fewer than two classes have rows")
    reason = ""
    for folds in FOLDS:
        try:
            assignment = assign_folds(some.patients, some.labels, folds, seed)
        except DataError as error:
            reason = str(error)
            continue
        names, owner = np.unique(some.patients, return_inverse=True)
        grouped = np.array([assignment[name] for name in names.tolist()], np.int64)[owner]
        return LeakageGap(
            size,
            folds,
            _auroc(some, random_folds(some.labels, folds, seed)),
            _auroc(some, grouped),
            alone=len(names) == size,
        )
    return LeakageGap(size, reason=reason)


def random_folds(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """A fold (N,) for each row, drawn without regard to patients, each class dealt out evenly."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    dealt = np.empty(len(labels), np.int64)
    dealt[order] = np.arange(len(labels)) % folds
    return dealt


def _auroc(some: Sample, fold_of: NDArray[np.int64]) -> float | None:
    classes = [str(one) for one in range(int(some.labels.max()) + 1)]
    found = []
    for fold in range(int(fold_of.max()) + 1):
        judged = fold_of == fold
        leaf = max(2, min(LEAF, len(fold_of) // LEAVES))
        model = HistGradientBoostingClassifier(random_state=0, min_samples_leaf=leaf)
        model.fit(some.colours[~judged], some.labels[~judged])
        probabilities = model.predict_proba(some.colours[judged])
        if probabilities.shape[1] < len(classes):
            return None
        value = score(some.labels[judged], probabilities, classes)["auroc"]
        if value is None:
            return None
        found.append(value)
    return float(np.mean(found))
