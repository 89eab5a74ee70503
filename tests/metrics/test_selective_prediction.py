"""Deciding only where the net is sure: tables, curves and exact intervals."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import beta
from sklearn.metrics import accuracy_score, precision_score, recall_score

from raysearch.metrics.selective_prediction import (
    CONFIDENCES,
    coverage_table,
    exact,
    risk_coverage,
    triage_table,
)

Drawn = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]


def drawn(classes: int, rows: int = 400, seed: int = 0) -> Drawn:
    """Labels, probabilities that follow them, and ten patients."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(classes, size=rows)
    logits = 4 * np.eye(classes)[labels] + draw.normal(0, 2.5, (rows, classes))
    return labels, softmax(logits, axis=1), draw.integers(10, size=rows).astype(np.str_)


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_the_table_has_what_scikit_learn_says_of_the_rows_that_are_kept(classes: int) -> None:
    labels, probabilities, patients = drawn(classes)
    table = coverage_table(labels, probabilities, patients, (0.0, 0.6, *CONFIDENCES))
    assert table[0].coverage == 1.0
    assert [one.rows for one in table] == sorted((one.rows for one in table), reverse=True)
    for line in table[:3]:
        kept = probabilities.max(axis=1) >= line.confidence
        said = probabilities.argmax(axis=1)[kept]
        assert (line.rows, line.of) == (kept.sum(), len(labels))
        assert line.patients == len(set(patients[kept]))
        assert line.accuracy == pytest.approx(accuracy_score(labels[kept], said), abs=1e-12)
        assert sum(one.of for one in line.classes) == len(labels)
        assert sum(one.rows for one in line.classes) == line.rows
        for number, one in enumerate(line.classes):
            true, given = labels[kept] == number, said == number
            assert one.precision == pytest.approx(precision_score(true, given), abs=1e-12)
            assert one.recall == pytest.approx(recall_score(true, given), abs=1e-12)


def test_where_nothing_is_sure_enough_nothing_is_known() -> None:
    labels, probabilities, patients = drawn(2)
    [line] = coverage_table(labels, probabilities, patients, (1.1,))
    assert (line.rows, line.patients, line.coverage, line.accuracy) == (0, 0, 0.0, None)
    assert {(one.precision, one.recall) for one in line.classes} == {(None, None)}


def test_the_area_under_the_generalised_risk_is_that_of_its_definition() -> None:
    labels, probabilities, _patients = drawn(2, 50)
    wrong = (probabilities.argmax(axis=1) != labels)[np.argsort(-probabilities.max(axis=1))]
    area = sum((wrong[:k].sum() + wrong[: k + 1].sum()) / 2 for k in range(50)) / 50**2
    curve = risk_coverage(labels, probabilities)
    assert curve.augrc == pytest.approx(area, abs=1e-12)
    assert curve.coverage[-1] == 1
    assert curve.risk[-1] == curve.generalised[-1] == wrong.mean()
    assert (np.diff(curve.confidence) < 0).all()


def test_the_area_knows_a_net_that_knows_its_errors_from_one_that_does_not() -> None:
    labels = np.zeros(100, np.int64)
    sure = np.linspace(0.51, 0.99, 100)
    right = np.column_stack([sure, 1 - sure])
    knows, proud = right.copy(), right.copy()
    knows[:20] = knows[:20, ::-1]
    proud[-20:] = proud[-20:, ::-1]
    # All errors last: a triangle of a fifth by a fifth. All first: it, and a strip for the rest.
    assert risk_coverage(labels, knows).augrc == pytest.approx(0.2 * 0.2 / 2)
    assert risk_coverage(labels, proud).augrc == pytest.approx(0.2 * 0.2 / 2 + 0.8 * 0.2)


def test_rows_that_are_equally_sure_come_together_in_any_order() -> None:
    labels = np.array([0, 1, 0, 1])
    even = np.full((4, 2), 0.5)
    assert risk_coverage(labels, even).augrc == risk_coverage(labels[::-1], even).augrc == 0.25
    none = risk_coverage(labels[:0], even[:0])
    assert none.augrc is None


@pytest.mark.parametrize(("count", "of"), [(0, 24), (1, 24), (24, 24), (85, 86), (12, 100)])
def test_exact_intervals_are_the_quantiles_of_beta(count: int, of: int) -> None:
    found = exact(count, of)
    low = beta.ppf(0.025, count, of - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, of - count) if count < of else 1.0
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.value == count / of
    assert found.high == pytest.approx(high, abs=1e-9)
    assert exact(0, 0).value is None


def test_triage_counts_what_is_cleared_and_missed() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    fine = np.array([0.99, 0.9, 0.3, 0.95, 0.1, 0.0])
    probabilities = np.column_stack([fine, 1 - fine, np.zeros(6)])
    high, low = triage_table(labels, probabilities, (0.99, 0.8))
    assert (high.rows, high.missed, high.positives, high.fraction) == (1, 0, 3, 1 / 6)
    assert (low.rows, low.missed, low.of) == (3, 1, 6)
    assert low.npv.value == pytest.approx(2 / 3)
    assert low.missed_fraction.value == pytest.approx(1 / 3)
    [both] = triage_table(labels, probabilities, (0.99,), fine=(0, 1))
    assert (both.rows, both.missed, both.positives) == (6, 1, 1)
