"""All that is said of one set of scored rows: by patch, by class, by fold, by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import Interval, auroc_interval, patient_weights, percentiles
from raysearch.metrics.bootstrap_metrics import (
    LOSSES,
    RANKINGS,
    class_replicates,
    metric_replicates,
)
from raysearch.metrics.by_patient import ByPatient, Diagnosed, by_patient, diagnosed
from raysearch.metrics.calibration import Reliability, reliability
from raysearch.metrics.classification import METRICS, score
from raysearch.metrics.selective_prediction import (
    RiskCoverage,
    RuleOut,
    SelectiveAccuracy,
    coverage_table,
    risk_coverage,
    triage_table,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Texts = NDArray[np.str_]

DRAWS = 2000


@dataclass(frozen=True)
class Scored:
    """Rows with what a model gave them, (N,) each.

    `labels` are numbers of `class_names`, `probabilities` (N, C) calibrated ones; `threshold`, from
    which on the second of two classes is decided, is None where the likeliest class is.
    """

    labels: Ints
    probabilities: Floats
    patients: Texts
    class_names: tuple[str, ...]
    threshold: float | None = None

    @property
    def decided(self) -> Ints:
        """The class that is decided on, (N,)."""
        if self.threshold is None:
            likeliest: Ints = self.probabilities.argmax(axis=1)
            return likeliest
        return (self.probabilities[:, 1] >= self.threshold).astype(np.int64)


@dataclass(frozen=True)
class ClassReport:
    """A class against the rest, with intervals by patient, and how many rows have it."""

    name: str
    support: int
    precision: Interval
    recall: Interval
    f1: Interval
    specificity: Interval


@dataclass(frozen=True)
class Patients:
    """What the rows say of their patients, where there are two classes.

    `auroc` is by each of `table.scores`, of whether a patient has a row of the second class; it is
    undefined where all have one, or none. `diagnosed` calls patients ill by their confident rows,
    `triage` clears them by their highest ones.
    """

    table: ByPatient
    auroc: dict[str, Interval]
    diagnosed: tuple[Diagnosed, ...]
    triage: tuple[RuleOut, ...]


@dataclass(frozen=True)
class Assessment:
    """The whole of it; `metrics` have intervals by patient, `baseline` is who guesses the shares.

    `confusion` (C, C) counts rows by their true class, then by the decided one; `folds` has the
    metrics of each fold alone.
    """

    class_names: tuple[str, ...]
    threshold: float | None
    rows: int
    patients: int
    metrics: dict[str, Interval]
    baseline: dict[str, float | None]
    classes: tuple[ClassReport, ...]
    confusion: Ints
    reliability: Reliability
    coverage: tuple[SelectiveAccuracy, ...]
    risk: RiskCoverage
    triage: tuple[RuleOut, ...]
    by_patient: Patients | None
    folds: dict[int, dict[str, float | None]]


def assess(
    scored: Scored, folds: Ints | None = None, draws: int = DRAWS, seed: int = 0
) -> Assessment:
    """All that can be said of `scored`; `folds` (N,) tells which fold's model scored each row.

    Intervals are percentiles of `draws` draws of patients. ValueError where there are no rows, or
    probabilities are not finite, or do not sum to 1.
    """
    if not len(scored.labels):
        raise ValueError("no rows to assess")
    if not np.isfinite(scored.probabilities).all():
        raise ValueError("probabilities that are not finite")
    names, owner = np.unique(scored.patients, return_inverse=True)
    everyone, drawn = np.ones((1, len(names))), patient_weights(len(names), draws, seed)
    # Of one patient there is nothing to draw.
    weights = np.concatenate([everyone, drawn]) if len(names) > 1 else everyone
    labels, probabilities, classes = scored.labels, scored.probabilities, len(scored.class_names)
    two = classes == 2
    return Assessment(
        class_names=scored.class_names,
        threshold=scored.threshold,
        rows=len(labels),
        patients=len(names),
        metrics={name: _interval(_replicates(name, scored, owner, weights)) for name in METRICS},
        baseline=_baseline(scored),
        classes=_classes(scored, owner, weights),
        confusion=confusion(labels, scored.decided, classes),
        reliability=reliability(labels, probabilities),
        coverage=tuple(coverage_table(labels, probabilities, scored.patients)),
        risk=risk_coverage(labels, probabilities),
        triage=tuple(triage_table(labels, probabilities)) if two else (),
        by_patient=_patients(scored, draws, seed) if two else None,
        folds={} if folds is None else _by_fold(scored, folds),
    )


def confusion(labels: Ints, decided: Ints, classes: int) -> Ints:
    """How many rows of each class (the row) are decided as each (the column), (C, C)."""
    counts = np.bincount(labels * classes + decided, minlength=classes**2)
    return counts.reshape(classes, classes).astype(np.int64)


def _replicates(name: str, scored: Scored, owner: Ints, weights: Floats) -> Floats:
    """The metric `name` (R,): of the probabilities, or of what is decided by them."""
    given = scored.probabilities
    if name not in RANKINGS and name not in LOSSES:
        given = np.eye(len(scored.class_names))[scored.decided]
    return metric_replicates(name, scored.labels, given, owner, weights)


def _interval(values: Floats) -> Interval:
    """Of everyone's value, which is the first, and those of the draws."""
    return percentiles(float(values[0]), values[1:] if len(values) > 1 else np.array([np.nan]))


def _baseline(scored: Scored) -> dict[str, float | None]:
    """Who gives every row the shares of the classes, and so decides on the most frequent one."""
    fractions = np.bincount(scored.labels, minlength=len(scored.class_names)) / len(scored.labels)
    given = np.tile(fractions, (len(scored.labels), 1))
    return _known(score(scored.labels, given, scored.class_names))


def _known(found: dict[str, float | None]) -> dict[str, float | None]:
    return {name: found[name] for name in METRICS}


def _classes(scored: Scored, owner: Ints, weights: Floats) -> tuple[ClassReport, ...]:
    count = len(scored.class_names)
    found = class_replicates(scored.labels, scored.decided, owner, weights, count)
    return tuple(
        ClassReport(
            name,
            int((scored.labels == number).sum()),
            **{metric: _interval(values[:, number]) for metric, values in found.items()},
        )
        for number, name in enumerate(scored.class_names)
    )


def _by_fold(scored: Scored, folds: Ints) -> dict[int, dict[str, float | None]]:
    found = {}
    for fold in np.unique(folds).tolist():
        own = folds == fold
        everyone = np.ones((1, 1))
        some = Scored(
            *(scored.labels[own], scored.probabilities[own], scored.patients[own]),
            *(scored.class_names, scored.threshold),
        )
        owner = np.zeros(len(some.labels), np.int64)
        values = {name: _replicates(name, some, owner, everyone)[0] for name in METRICS}
        found[int(fold)] = {
            name: float(value) if np.isfinite(value) else None for name, value in values.items()
        }
    return found


def _patients(scored: Scored, draws: int, seed: int) -> Patients:
    threshold = 0.5 if scored.threshold is None else scored.threshold
    table = by_patient(scored.labels, scored.probabilities[:, 1], scored.patients, threshold)
    auroc = {
        name: auroc_interval(table.labels, values, table.names, count=draws, seed=seed)
        for name, values in table.scores.items()
    }
    highest = np.column_stack([1 - table.top, table.top])
    return Patients(table, auroc, diagnosed(table), tuple(triage_table(table.labels, highest)))


def metrics_told(found: Assessment) -> dict[str, float]:
    """Its defined metrics by their names, as a tracking store takes them."""
    return {name: one.value for name, one in found.metrics.items() if one.value is not None}
