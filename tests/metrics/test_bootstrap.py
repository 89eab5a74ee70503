import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from raysearch.metrics.bootstrap import (
    Interval,
    auroc_interval,
    auroc_pairs,
    patient_weights,
    replicates,
)


def draw(
    seed: int, size: int, patients: int, decimals: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]:
    random = np.random.default_rng(seed)
    owner = random.integers(0, patients, size)
    labels = random.integers(0, 2, size)
    scores = np.round(random.normal(labels + 0.3 * owner / patients), decimals)
    return labels, scores, np.array([f"p{one}" for one in owner])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 200), st.integers(2, 9), st.integers(0, 3))
def test_a_replicate_is_naive_resampling_of_whole_patients(
    seed: int, size: int, patients: int, decimals: int
) -> None:
    labels, scores, owner = draw(seed, size, patients, decimals)
    names = np.unique(owner)
    pairs = auroc_pairs(labels, scores, owner)
    weights = patient_weights(len(names), 20, seed)
    for one, fast in zip(weights, replicates(pairs, weights), strict=True):
        rows = np.concatenate(
            [
                np.flatnonzero(owner == name)
                for name, times in zip(names, one.astype(int), strict=True)
                for _ in range(times)
            ]
        )
        if len(np.unique(labels[rows])) < 2:
            assert np.isnan(fast)
        else:
            assert abs(fast - roc_auc_score(labels[rows], scores[rows])) < 1e-12


def bounds(interval: Interval) -> tuple[float, float, float]:
    assert interval.low is not None
    assert interval.value is not None
    assert interval.high is not None
    return interval.low, interval.value, interval.high


def test_an_interval_by_patient_holds_the_estimate_and_is_wider_than_by_patch() -> None:
    random = np.random.default_rng(0)
    effect = random.normal(0, 1.5, 20)
    owner = np.repeat(np.arange(20), 100)
    labels = (random.random(2000) < 1 / (1 + np.exp(-effect[owner]))).astype(int)
    scores = random.normal(labels + effect[owner])
    by_patient = auroc_interval(labels, scores, owner.astype(str))
    by_patch = auroc_interval(labels, scores, np.arange(2000).astype(str))
    assert by_patient.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    low, value, high = bounds(by_patient)
    assert low < value < high
    patch_low, _value, patch_high = bounds(by_patch)
    assert high - low > 1.5 * (patch_high - patch_low)


def test_what_is_undefined_is_none() -> None:
    one_class = np.zeros(4, np.int64)
    patients = np.array(["a", "a", "b", "b"])
    assert auroc_interval(one_class, np.arange(4.0), patients) == Interval(None, None, None)
    labels = np.array([0, 1, 0, 1])
    apart = np.array(["a", "b"])
    never = [
        auroc_interval(np.array([0, 1]), np.arange(2.0), apart, count=1, seed=seed)
        for seed in range(20)
    ]
    assert set(never) == {Interval(None, 1.0, None), Interval(1.0, 1.0, 1.0)}
    same = np.array(["a"] * 4)
    assert auroc_interval(labels, np.arange(4.0), same) == Interval(None, 0.75, None)


def test_many_patients_give_the_same_interval_row_by_row() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 400)
    scores = np.round(random.normal(labels, 2.0), 1)  # with ties
    patients = random.integers(0, 37, 400).astype(np.str_)
    by_pairs = auroc_interval(labels, scores, patients, count=200, seed=5)
    by_rows = auroc_interval(labels, scores, patients, count=200, seed=5, max_paired=0)
    for one in ("low", "value", "high"):
        assert getattr(by_rows, one) == pytest.approx(getattr(by_pairs, one), abs=1e-12)
