"""A random split overestimates a model that can recognize patients."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raysearch.data.audit.leakage_gap import ColorSamples, measure_leakage_gap, random_folds


def test_a_model_that_recognizes_patients_has_a_leakage_gap() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.array([f"p{number}" for number in range(12)]), 60)
    patient_colors = np.repeat(np.eye(12), 60, axis=0)
    labels = (rng.random(720) < np.repeat(rng.random(12), 60)).astype(np.int64)
    colors = (patient_colors + rng.normal(0, 0.1, patient_colors.shape)).astype(np.float32)
    samples, all_rows = ColorSamples(colors, labels, patients), np.ones(720, np.bool_)
    result = measure_leakage_gap(samples, all_rows, 0)
    assert result == measure_leakage_gap(samples, all_rows, 0)
    assert result.num_folds == 5
    assert result.gap is not None
    assert result.gap > 0.1
    single_patient = measure_leakage_gap(samples, patients == "p0", 0)
    assert single_patient.gap is None
    assert single_patient.reason


@given(st.lists(st.integers(0, 2), min_size=6, max_size=60), st.integers(2, 5))
def test_random_folds_are_stratified(labels: list[int], num_folds: int) -> None:
    array = np.array(labels)
    folds = random_folds(array, num_folds, 0)
    for label in set(labels):
        counts = np.bincount(folds[array == label], minlength=num_folds)
        assert counts.max() - counts.min() <= 1


def test_one_tree_predicts_all_of_many_classes() -> None:
    """Boosting would train a tree per class, iteration and fold: 50,000 of them."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(50), 20)
    patients = np.array([f"p{number}" for number in rng.integers(0, 5, 1000) + 5 * labels])
    colors = np.eye(15)[labels % 15] + rng.normal(0, 0.3, (1000, 15))
    samples = ColorSamples(colors.astype(np.float32), labels, patients)
    steps: list[tuple[int, int]] = []
    result = measure_leakage_gap(
        samples, np.ones(1000, np.bool_), 0, lambda done, total: steps.append((done, total))
    )
    assert result.model == "extremely randomized trees"
    assert result.random_auroc is not None
    assert result.random_auroc > 0.8
    total = 2 * result.num_folds
    assert steps == [(done, total) for done in range(1, total + 1)]
