"""Bootstrap replicates of patients that all trials of a study share, so that trials are paired."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raysearch.config.custom_code import load_function
from raysearch.config.hyperparameter_spec import is_import_path
from raysearch.metrics.bootstrap import Floats, patient_weights
from raysearch.metrics.bootstrap_metrics import metric_replicates
from raysearch.metrics.custom_metric import custom_replicates
from raysearch.search.study.fold_scores import OutOfFold


@dataclass(frozen=True)
class PatientReplicates:
    """Bootstrap replicates of patients; the first one is the original sample.

    Attributes:
        patients: Sorted names of the patients, shape (P,).
        weights: How often each replicate contains each patient, shape (1 + R, P).
    """

    patients: NDArray[np.str_]
    weights: Floats

    @classmethod
    def sample(
        cls, patients: NDArray[np.str_], num_replicates: int, seed: int
    ) -> PatientReplicates:
        """Draw replicates of the patients of rows.

        Args:
            patients: Patient of each row, shape (N,).
            num_replicates: The number of replicates, R.
            seed: Seed of the replicates.
        """
        names = np.unique(patients)
        drawn_weights = patient_weights(len(names), num_replicates, seed)
        return cls(names, np.concatenate([np.ones((1, len(names))), drawn_weights]))

    def first(self, num_replicates: int) -> PatientReplicates:
        """Return the original sample and the first replicates."""
        return replace(self, weights=self.weights[: num_replicates + 1])

    def out_of_bag(self) -> PatientReplicates:
        """Return replicates of the patients that each replicate leaves out, once each."""
        return replace(self, weights=(self.weights == 0).astype(np.float64))

    def metric(self, name: str, scores: OutOfFold) -> Floats:
        """Compute a metric of `scores` in each replicate, shape (1 + R,); NaN if undefined."""
        names, patient_index = np.unique(scores.patients, return_inverse=True)
        weights = self.weights[:, np.searchsorted(self.patients, names)]
        if is_import_path(name):
            function = load_function(name)
            return custom_replicates(
                function, scores.labels, scores.probabilities, patient_index, weights
            )
        return metric_replicates(name, scores.labels, scores.probabilities, patient_index, weights)
