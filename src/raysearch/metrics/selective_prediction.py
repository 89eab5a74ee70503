"""What is left to a person: deciding only where the net is sure, and clearing what is surely fine.

Confidence is the largest probability of a row; it has to be calibrated first to mean something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from raysearch.metrics.bootstrap import Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONFIDENCES = (0.8, 0.95, 0.99, 0.999, 0.9999)


@dataclass(frozen=True)
class ClassSelectiveAccuracy:
    """Of one class: its rows that are decided on, of all of them, and how well; None undefined."""

    rows: int
    of: int
    precision: float | None
    recall: float | None

    @property
    def coverage(self) -> float | None:
        """The share of the class that is decided on."""
        return _fraction(self.rows, self.of)


@dataclass(frozen=True)
class SelectiveAccuracy:
    """What is decided on at `confidence` or more: rows and patients of all, and how well."""

    confidence: float
    rows: int
    of: int
    patients: int
    of_patients: int
    accuracy: float | None
    classes: tuple[ClassSelectiveAccuracy, ...]

    @property
    def coverage(self) -> float | None:
        """The share of all rows that is decided on."""
        return _fraction(self.rows, self.of)


def coverage_table(
    labels: Ints,
    probabilities: Floats,
    patients: NDArray[np.str_],
    confidences: Sequence[float] = CONFIDENCES,
) -> list[SelectiveAccuracy]:
    """What is left at each of `confidences` of `labels` (N,), `probabilities` (N, C), `patients`.

    Precision and recall are among the rows that are decided on; a patient counts with one of them.
    """
    sure, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    everyone = len(np.unique(patients))
    found = []
    for confidence in confidences:
        kept = sure >= confidence
        own, said = labels[kept], predicted[kept]
        by_class = [
            ClassSelectiveAccuracy(
                rows=int((own == one).sum()),
                of=int((labels == one).sum()),
                precision=_fraction(((own == one) & (said == one)).sum(), (said == one).sum()),
                recall=_fraction(((own == one) & (said == one)).sum(), (own == one).sum()),
            )
            for one in range(probabilities.shape[1])
        ]
        found.append(
            SelectiveAccuracy(
                confidence,
                rows=int(kept.sum()),
                of=len(labels),
                patients=len(np.unique(patients[kept])),
                of_patients=everyone,
                accuracy=_fraction((own == said).sum(), kept.sum()),
                classes=tuple(by_class),
            )
        )
    return found


@dataclass(frozen=True)
class RiskCoverage:
    """By falling confidence, (K,) each: the share decided on, its errors, and errors of all rows.

    `risk` is the share of errors among those decided on, `generalised` that among all rows; `augrc`
    the area under `generalised` over the coverage: the mean risk of an error that nobody sees.
    """

    confidence: Floats
    coverage: Floats
    risk: Floats
    generalised: Floats
    augrc: float | None


def risk_coverage(labels: Ints, probabilities: Floats) -> RiskCoverage:
    """The risk-coverage curve of `probabilities` (N, C) for `labels` (N,), and its AUGRC.

    Traub et al., 2024, "Overcoming Common Flaws in the Evaluation of Selective Classification
    Systems". Rows that are equally sure come together.
    """
    values, place = np.unique(-probabilities.max(axis=1), return_inverse=True)
    wrong = (probabilities.argmax(axis=1) != labels).astype(np.float64)
    rows = np.cumsum(np.bincount(place, minlength=len(values))).astype(np.float64)
    errors = np.cumsum(np.bincount(place, wrong, len(values)))
    every = max(len(labels), 1)
    coverage, generalised = rows / every, errors / every
    area = float(np.trapezoid(np.append(0.0, generalised), np.append(0.0, coverage)))
    return RiskCoverage(-values, coverage, errors / rows, generalised, area if len(rows) else None)


@dataclass(frozen=True)
class RuleOut:
    """What is cleared without a person where it is fine with at least `confidence`.

    `rows` of `of` are cleared, `missed` of `positives` among them. The intervals are exact
    (Clopper and Pearson, 1934) for units that are drawn apart from each other: of patches, which
    are not, they are too narrow.
    """

    confidence: float
    rows: int
    of: int
    missed: int
    positives: int

    @property
    def fraction(self) -> float | None:
        """The share of all that is cleared."""
        return _fraction(self.rows, self.of)

    @property
    def missed_fraction(self) -> Interval:
        """The share of positives that is cleared by mistake."""
        return exact(self.missed, self.positives)

    @property
    def npv(self) -> Interval:
        """The negative predictive value: the share of what is cleared that is negative."""
        return exact(self.rows - self.missed, self.rows)


def triage_table(
    labels: Ints,
    probabilities: Floats,
    confidences: Sequence[float] = CONFIDENCES,
    fine: Sequence[int] = (0,),
) -> list[RuleOut]:
    """What would be cleared at each of `confidences`; classes that are not `fine` are positive."""
    positive = ~np.isin(labels, fine)
    safe = probabilities[:, list(fine)].sum(axis=1)
    clear = [(one, safe >= one) for one in confidences]
    return [
        RuleOut(
            one,
            rows=int(cleared.sum()),
            of=len(labels),
            missed=int((cleared & positive).sum()),
            positives=int(positive.sum()),
        )
        for one, cleared in clear
    ]


def exact(count: int, of: int, level: float = 0.95) -> Interval:
    """The share `count` of `of`, and its interval by Clopper and Pearson; undefined of none."""
    if not of:
        return Interval(None, None, None)
    found = binomtest(count, of).proportion_ci(level, method="exact")
    return Interval(float(found.low), count / of, float(found.high))


def _fraction(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
