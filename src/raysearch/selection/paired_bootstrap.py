"""The same draws of patients for every trial of a study, so that their differences are paired."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import patient_weights
from raysearch.metrics.bootstrap_metrics import metric_replicates
from raysearch.search.study.fold_scores import OutOfFold

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """How often each draw holds each patient: `patients` in their order (P,), `weights` (R, P).

    The first draw holds everyone once.
    """

    patients: NDArray[np.str_]
    weights: Floats

    @classmethod
    def of_patients(cls, patients: NDArray[np.str_], count: int, seed: int) -> Draws:
        """Everyone once, and `count` draws of as many of `patients` (N,), which may repeat."""
        names = np.unique(patients)
        drawn = patient_weights(len(names), count, seed)
        return cls(names, np.concatenate([np.ones((1, len(names))), drawn]))

    def first(self, count: int) -> Draws:
        """Everyone once, and the first `count` draws."""
        return replace(self, weights=self.weights[: count + 1])

    def left_out(self) -> Draws:
        """The patients that each draw does not hold, once each."""
        return replace(self, weights=(self.weights == 0).astype(np.float64))

    def metric(self, name: str, rows: OutOfFold) -> Floats:
        """The metric `name` of `rows` in each draw (R,); NaN where it is undefined."""
        own, owner = np.unique(rows.patients, return_inverse=True)
        weights = self.weights[:, np.searchsorted(self.patients, own)]
        return metric_replicates(name, rows.labels, rows.probabilities, owner, weights)
