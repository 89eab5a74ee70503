"""Bootstrap replicates of patients that trials share."""

import numpy as np
import pytest

from raysearch.metrics.classification import classification_metrics
from raysearch.search.study.fold_scores import OutOfFold
from raysearch.selection.paired_bootstrap import PatientReplicates


@pytest.fixture
def scores() -> OutOfFold:
    """Scores of 60 patches of six patients."""
    generator = np.random.default_rng(0)
    positive = generator.random(60)
    patients = np.array([f"p{number % 6}" for number in range(60)])
    probabilities = np.column_stack([1 - positive, positive])
    labels, rows = generator.integers(2, size=60), np.arange(60)
    return OutOfFold(labels, probabilities, patients, rows % 2, rows)


def metric_of_repeated_rows(scores: OutOfFold, times: np.ndarray) -> float:
    rows = np.repeat(scores.rows, times)
    values = classification_metrics(scores.labels[rows], scores.probabilities[rows], ("a", "b"))
    value = values["auroc"]
    return np.nan if value is None else value


def test_the_first_replicate_is_the_original_sample(scores: OutOfFold) -> None:
    replicates = PatientReplicates.sample(scores.patients, 5, 1)
    assert replicates.patients.tolist() == [f"p{number}" for number in range(6)]
    assert replicates.weights.shape == (6, 6)
    assert replicates.weights[0].tolist() == [1.0] * 6
    assert (replicates.weights.sum(axis=1) == 6).all()
    assert replicates.first(2).weights.tolist() == replicates.weights[:3].tolist()


def test_a_metric_is_that_of_repeated_and_of_left_out_patients(scores: OutOfFold) -> None:
    replicates = PatientReplicates.sample(scores.patients, 5, 1)
    patient_index = scores.rows % 6
    for selected in (replicates, replicates.out_of_bag()):
        expected = [
            metric_of_repeated_rows(scores, weights[patient_index].astype(int))
            for weights in selected.weights
        ]
        assert selected.metric("auroc", scores) == pytest.approx(expected, abs=1e-12, nan_ok=True)
