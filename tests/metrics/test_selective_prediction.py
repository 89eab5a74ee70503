"""Selective accuracy, risk-coverage curves, rule-out and exact intervals."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import beta
from sklearn.metrics import accuracy_score, precision_score, recall_score

from raysearch.metrics.selective_prediction import (
    CONFIDENCES,
    clopper_pearson_interval,
    risk_coverage,
    rule_out_table,
    selective_accuracy_table,
)

RandomRows = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]


def random_rows(num_classes: int, num_rows: int = 400, seed: int = 0) -> RandomRows:
    """Labels, probabilities that follow them, and ten patients."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(num_classes, size=num_rows)
    logits = 4 * np.eye(num_classes)[labels] + generator.normal(0, 2.5, (num_rows, num_classes))
    return labels, softmax(logits, axis=1), generator.integers(10, size=num_rows).astype(np.str_)


@pytest.mark.parametrize("num_classes", [2, 3, 8])
def test_the_table_has_scikit_learns_metrics_of_the_selected_rows(num_classes: int) -> None:
    labels, probabilities, patients = random_rows(num_classes)
    table = selective_accuracy_table(labels, probabilities, patients, (0.0, 0.6, *CONFIDENCES))
    assert table[0].coverage == 1.0
    assert [row.rows for row in table] == sorted((row.rows for row in table), reverse=True)
    for row in table[:3]:
        selected = probabilities.max(axis=1) >= row.confidence
        predicted = probabilities.argmax(axis=1)[selected]
        assert (row.rows, row.total_rows) == (selected.sum(), len(labels))
        assert row.patients == len(set(patients[selected]))
        assert row.accuracy == pytest.approx(accuracy_score(labels[selected], predicted), abs=1e-12)
        assert sum(by_class.total_rows for by_class in row.classes) == len(labels)
        assert sum(by_class.rows for by_class in row.classes) == row.rows
        for number, by_class in enumerate(row.classes):
            actual, positive = labels[selected] == number, predicted == number
            assert by_class.precision == pytest.approx(precision_score(actual, positive), abs=1e-12)
            assert by_class.recall == pytest.approx(recall_score(actual, positive), abs=1e-12)


def test_without_selected_rows_metrics_are_undefined() -> None:
    labels, probabilities, patients = random_rows(2)
    [row] = selective_accuracy_table(labels, probabilities, patients, (1.1,))
    assert (row.rows, row.patients, row.coverage, row.accuracy) == (0, 0, 0.0, None)
    assert {(by_class.precision, by_class.recall) for by_class in row.classes} == {(None, None)}


def test_the_augrc_is_that_of_its_definition() -> None:
    labels, probabilities, _patients = random_rows(2, 50)
    errors = (probabilities.argmax(axis=1) != labels)[np.argsort(-probabilities.max(axis=1))]
    area = sum((errors[:k].sum() + errors[: k + 1].sum()) / 2 for k in range(50)) / 50**2
    curve = risk_coverage(labels, probabilities)
    assert curve.augrc == pytest.approx(area, abs=1e-12)
    assert curve.coverage[-1] == 1
    assert curve.risk[-1] == curve.generalized_risk[-1] == errors.mean()
    assert (np.diff(curve.confidence) < 0).all()


def test_the_augrc_is_lower_if_errors_have_low_confidence() -> None:
    labels = np.zeros(100, np.int64)
    confidence = np.linspace(0.51, 0.99, 100)
    correct = np.column_stack([confidence, 1 - confidence])
    calibrated, overconfident = correct.copy(), correct.copy()
    calibrated[:20] = calibrated[:20, ::-1]
    overconfident[-20:] = overconfident[-20:, ::-1]
    # All errors last: a triangle of 0.2 by 0.2. All errors first: that, and a strip of 0.8 by 0.2.
    assert risk_coverage(labels, calibrated).augrc == pytest.approx(0.2 * 0.2 / 2)
    assert risk_coverage(labels, overconfident).augrc == pytest.approx(0.2 * 0.2 / 2 + 0.8 * 0.2)


def test_the_order_of_rows_of_equal_confidence_has_no_effect() -> None:
    labels = np.array([0, 1, 0, 1])
    even = np.full((4, 2), 0.5)
    assert risk_coverage(labels, even).augrc == risk_coverage(labels[::-1], even).augrc == 0.25
    empty = risk_coverage(labels[:0], even[:0])
    assert empty.augrc is None


@pytest.mark.parametrize(("count", "total"), [(0, 24), (1, 24), (24, 24), (85, 86), (12, 100)])
def test_exact_intervals_are_the_quantiles_of_beta(count: int, total: int) -> None:
    interval = clopper_pearson_interval(count, total)
    low = beta.ppf(0.025, count, total - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, total - count) if count < total else 1.0
    assert interval.low == pytest.approx(low, abs=1e-9)
    assert interval.value == count / total
    assert interval.high == pytest.approx(high, abs=1e-9)
    assert clopper_pearson_interval(0, 0).value is None


def test_ruled_out_and_missed_units_are_counted() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    negative_probability = np.array([0.99, 0.9, 0.3, 0.95, 0.1, 0.0])
    probabilities = np.column_stack([negative_probability, 1 - negative_probability, np.zeros(6)])
    high, low = rule_out_table(labels, probabilities, (0.99, 0.8))
    assert (high.ruled_out, high.missed, high.positives, high.fraction) == (1, 0, 3, 1 / 6)
    assert (low.ruled_out, low.missed, low.total) == (3, 1, 6)
    assert low.npv.value == pytest.approx(2 / 3)
    assert low.missed_fraction.value == pytest.approx(1 / 3)
    [both] = rule_out_table(labels, probabilities, (0.99,), negative_classes=(0, 1))
    assert (both.ruled_out, both.missed, both.positives) == (6, 1, 1)
