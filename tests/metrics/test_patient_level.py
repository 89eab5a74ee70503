"""Scores and detection of patients, aggregated from their patches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.metrics.patient_level import aggregate_by_patient, detect_patients


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 8), st.integers(1, 12))
def test_each_patient_aggregates_its_rows(
    seed: int, num_rows: int, num_patients: int, top: int
) -> None:
    generator = np.random.default_rng(seed)
    patients = generator.integers(num_patients, size=num_rows).astype(np.str_)
    labels = generator.integers(2, size=num_rows)
    scores = np.round(generator.random(num_rows), 2)
    table = aggregate_by_patient(labels, scores, patients, 0.4, confident=0.8, top=top)
    assert table.names.tolist() == sorted(set(patients.tolist()))
    for index, name in enumerate(table.names):
        rows = patients == name
        patient_scores = scores[rows]
        assert table.rows[index] == rows.sum()
        assert table.positive[index] == labels[rows].sum()
        assert table.labels[index] == labels[rows].max()
        assert table.mean[index] == pytest.approx(patient_scores.mean())
        assert table.top[index] == pytest.approx(np.sort(patient_scores)[::-1][:top].mean())
        assert table.above[index] == pytest.approx((patient_scores >= 0.4).mean())
        assert table.confident[index] == (patient_scores >= 0.8).sum()
    assert all(len(values) == len(table.names) for values in table.scores.values())
    true_fraction = table.positive / table.rows
    assert table.positive_fraction_error() == pytest.approx(
        np.abs(table.above - true_fraction).mean()
    )


def test_without_rows_there_are_no_patients() -> None:
    table = aggregate_by_patient(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.str_))
    assert len(table.names) == 0
    assert table.positive_fraction_error() is None


def test_patients_are_detected_by_the_number_or_the_fraction_of_confident_patches() -> None:
    """Four positive patients of 100 rows with 0, 1, 4, 30 confident ones; a negative one with 2."""
    num_confident = {"a": 0, "b": 1, "c": 4, "d": 30, "negative": 2}
    patients = np.repeat(list(num_confident), 100)
    scores = np.concatenate(
        [np.r_[np.full(number, 0.96), np.zeros(100 - number)] for number in num_confident.values()]
    )
    labels = np.where(patients == "negative", 0, 1)
    table = aggregate_by_patient(labels, scores.ravel(), patients)
    detections = {detection.rule: detection for detection in detect_patients(table)}
    counts = {
        rule: (
            detection.true_positives,
            detection.positives,
            detection.true_negatives,
            detection.negatives,
        )
        for rule, detection in detections.items()
    }
    assert counts == {
        "1 or more": (3, 4, 0, 1),
        "3 or more": (2, 4, 1, 1),
        "10 or more": (1, 4, 1, 1),
        "1% or more": (3, 4, 0, 1),
        "5% or more": (1, 4, 1, 1),
        "20% or more": (1, 4, 1, 1),
    }
    interval = detections["3 or more"].sensitivity
    assert (interval.low, interval.value, interval.high) == pytest.approx(
        (0.0676, 0.5, 0.9324), abs=1e-4
    )
    all_positive = aggregate_by_patient(np.ones(3, np.int64), np.ones(3), np.full(3, "a"))
    assert detect_patients(all_positive)[0].specificity.value is None
