"""From patches to patients: what all patches of a patient say together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import Interval
from raysearch.metrics.selective_prediction import exact

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Of the patches of a patient, the mean of this many highest is one of its scores.
TOP = 10
# From this probability on, a patch is confidently positive.
CONFIDENT = 0.95
# From so many confident positives on, or such a share of them, a patient may be called ill.
COUNTS, FRACTIONS = (1, 3, 10), (0.01, 0.05, 0.2)


@dataclass(frozen=True)
class ByPatient:
    """Patients, (P,) each: `names`, `rows`, truly `positive` rows, and what was said of them.

    `mean` and `top` are means of the probability of all and of the highest rows, `above` the share
    of rows at or above the threshold, `confident` the number of confidently positive ones.
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
        """1 for a patient with a positive row."""
        return (self.positive > 0).astype(np.int64)

    @property
    def scores(self) -> dict[str, Floats]:
        """By what a patient can be ranked."""
        confident = self.confident / self.rows
        return {
            "mean": self.mean,
            f"mean of the {TOP} highest": self.top,
            "share above the threshold": self.above,
            "share of confident positives": confident,
            "number of confident positives": self.confident.astype(np.float64),
        }

    def fraction_error(self) -> float | None:
        """How far `above` is from the true share of positive rows, in the mean over patients."""
        if not len(self.rows):
            return None
        return float(np.abs(self.above - self.positive / self.rows).mean())


def by_patient(
    labels: Ints,
    scores: Floats,
    patients: NDArray[np.str_],
    threshold: float = 0.5,
    *,
    confident: float = CONFIDENT,
    top: int = TOP,
) -> ByPatient:
    """What the rows `labels` (N,), 1 for positive, and `scores` (N,) say of their `patients` (N,).

    A patient with fewer than `top` rows has the mean of them all.
    """
    names, owner, rows = np.unique(patients, return_inverse=True, return_counts=True)

    def counted(mask: NDArray[np.bool_]) -> Ints:
        return np.bincount(owner[mask], minlength=len(names)).astype(np.int64)

    order = np.lexsort((-scores, owner))
    begins = np.cumsum(rows) - rows
    place = np.arange(len(scores)) - np.repeat(begins, rows)
    highest = order[place < top]
    return ByPatient(
        names,
        rows.astype(np.int64),
        counted(labels == 1),
        np.bincount(owner, scores, len(names)) / rows,
        np.bincount(owner[highest], scores[highest], len(names)) / np.minimum(rows, top),
        counted(scores >= threshold) / rows,
        counted(scores >= confident),
    )


@dataclass(frozen=True)
class Diagnosed:
    """Who is called ill by a `rule`: `found` of the `ill`, `cleared` of the `well`."""

    rule: str
    found: int
    ill: int
    cleared: int
    well: int

    @property
    def sensitivity(self) -> Interval:
        """The share of the ill that is found, with its exact interval."""
        return exact(self.found, self.ill)

    @property
    def specificity(self) -> Interval:
        """The share of the well that is cleared, with its exact interval."""
        return exact(self.cleared, self.well)


def diagnosed(table: ByPatient) -> tuple[Diagnosed, ...]:
    """The patients of `table` diagnosed by the number, and by the share, of confident positives.

    Truly ill is who has a positive row. The rules are given, not fitted to these patients.
    """
    fraction = table.confident / table.rows
    rules = {f"{count} or more": table.confident >= count for count in COUNTS}
    rules |= {f"{least:.0%} or more": fraction >= least for least in FRACTIONS}
    ill = table.labels == 1
    return tuple(
        Diagnosed(
            rule,
            int((called & ill).sum()),
            int(ill.sum()),
            int((~called & ~ill).sum()),
            int((~ill).sum()),
        )
        for rule, called in rules.items()
    )
