"""The patient-cluster bootstrap of the AUROC, compared with resampling of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from raysearch.metrics.bootstrap import (
    auroc_interval,
    auroc_replicates,
    count_concordant_pairs,
    patient_weights,
)
from raysearch.metrics.interval import Interval


def random_rows(
    seed: int, size: int, num_patients: int, decimals: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]:
    """Draw labels, scores and patients; few decimals make ties."""
    generator = np.random.default_rng(seed)
    patients = generator.integers(0, num_patients, size)
    labels = generator.integers(0, 2, size)
    scores = np.round(generator.normal(labels + 0.3 * patients / num_patients), decimals)
    return labels, scores, np.array([f"p{patient}" for patient in patients])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 200), st.integers(2, 9), st.integers(0, 3))
def test_a_replicate_equals_naive_resampling_of_all_rows_of_patients(
    seed: int, size: int, num_patients: int, decimals: int
) -> None:
    labels, scores, patients = random_rows(seed, size, num_patients, decimals)
    names = np.unique(patients)
    pairs = count_concordant_pairs(labels, scores, patients)
    weights = patient_weights(len(names), 20, seed)
    for replicate, auroc in zip(weights, auroc_replicates(pairs, weights), strict=True):
        rows = np.concatenate(
            [
                np.flatnonzero(patients == name)
                for name, times in zip(names, replicate.astype(int), strict=True)
                for _ in range(times)
            ]
        )
        if len(np.unique(labels[rows])) < 2:
            assert np.isnan(auroc)
        else:
            assert abs(auroc - roc_auc_score(labels[rows], scores[rows])) < 1e-12


def bounds(interval: Interval) -> tuple[float, float, float]:
    """Return the defined bounds and value."""
    assert interval.low is not None
    assert interval.value is not None
    assert interval.high is not None
    return interval.low, interval.value, interval.high


def test_an_interval_by_patient_contains_the_estimate_and_is_wider_than_by_patch() -> None:
    generator = np.random.default_rng(0)
    effect = generator.normal(0, 1.5, 20)
    patients = np.repeat(np.arange(20), 100)
    labels = (generator.random(2000) < 1 / (1 + np.exp(-effect[patients]))).astype(int)
    scores = generator.normal(labels + effect[patients])
    by_patient = auroc_interval(labels, scores, patients.astype(str))
    by_patch = auroc_interval(labels, scores, np.arange(2000).astype(str))
    assert by_patient.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    low, value, high = bounds(by_patient)
    assert low < value < high
    patch_low, _value, patch_high = bounds(by_patch)
    assert high - low > 1.5 * (patch_high - patch_low)


def test_undefined_values_are_none() -> None:
    one_class = np.zeros(4, np.int64)
    patients = np.array(["a", "a", "b", "b"])
    assert auroc_interval(one_class, np.arange(4.0), patients) == Interval(None, None, None)
    one_row_each = np.array(["a", "b"])
    intervals = {
        auroc_interval(np.array([0, 1]), np.arange(2.0), one_row_each, num_replicates=1, seed=seed)
        for seed in range(20)
    }
    assert intervals == {Interval(None, 1.0, None), Interval(1.0, 1.0, 1.0)}
    labels, one_patient = np.array([0, 1, 0, 1]), np.array(["a"] * 4)
    assert auroc_interval(labels, np.arange(4.0), one_patient) == Interval(None, 0.75, None)


def test_many_patients_give_the_same_interval_by_weighted_rows() -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 400)
    scores = np.round(generator.normal(labels, 2.0), 1)  # with ties
    patients = generator.integers(0, 37, 400).astype(np.str_)
    by_pairs = auroc_interval(labels, scores, patients, num_replicates=200, seed=5)
    by_rows = auroc_interval(
        labels, scores, patients, num_replicates=200, seed=5, max_patients_for_pairs=0
    )
    assert bounds(by_rows) == pytest.approx(bounds(by_pairs), abs=1e-12)
