"""How well forecasts order trials."""

import numpy as np
import pytest

from raysearch.search.transfer.agreement import PRIOR_PROBABILITY, agreements, validity

NAN = float("nan")
OBJECTIVES = np.array([[0.5, 0.6, 0.7], [0.4, NAN, NAN], [0.6, 0.65, NAN], [0.3, 0.31, 0.9]])


def test_an_order_agrees_with_itself_and_disagrees_with_its_reverse() -> None:
    objectives = np.array([[0.1], [0.5], [0.2], [0.9]])
    order = np.array([1.0, 3, 2, 4])
    forecasts = np.column_stack([order, -order, np.zeros(4)])
    assert agreements(objectives, forecasts) == pytest.approx([1, -1, 0])


def test_trials_are_compared_at_the_last_rung_that_both_reached() -> None:
    # The last trial is the best at the end, and the worst where the second and the third ended.
    forecasts = np.array([[2.0], [1.0], [3.0], [4.0]])
    pairs = [(0, 1, 0), (0, 2, 1), (0, 3, 2), (1, 2, 0), (1, 3, 0), (2, 3, 1)]
    differences = [OBJECTIVES[i, rung] - OBJECTIVES[j, rung] for i, j, rung in pairs]
    limit = np.quantile(np.abs(differences), 0.95)
    weighted = [
        np.clip(difference, -limit, limit) * (forecasts[i, 0] - forecasts[j, 0])
        for difference, (i, j, _rung) in zip(differences, pairs, strict=True)
    ]
    expected = np.sum(weighted) / np.sum(np.abs(weighted))
    assert agreements(OBJECTIVES, forecasts) == pytest.approx([expected])
    assert -1 < expected < 1


def test_pairs_that_hardly_differ_hardly_count() -> None:
    objectives = np.array([[0.50], [0.51], [0.9], [0.91]])
    forecasts = np.array([[0.02], [0.01], [1.02], [1.01]])  # each of two close pairs is reversed
    assert agreements(objectives, forecasts)[0] > 0.99


def test_without_two_different_trials_there_is_no_agreement() -> None:
    assert np.isnan(agreements(np.array([[0.5], [0.5]]), np.array([[1.0], [2.0]]))).all()
    assert np.isnan(agreements(np.array([[0.5]]), np.array([[1.0]]))).all()


def test_few_trials_prove_little_and_many_prove_much() -> None:
    good, useless = np.array([0.95]), np.array([0.1])
    assert validity(good, 1) == pytest.approx([PRIOR_PROBABILITY])
    assert PRIOR_PROBABILITY < validity(good, 3)[0] < validity(good, 8)[0] < validity(good, 30)[0]
    assert validity(useless, 3)[0] > validity(useless, 8)[0] > validity(useless, 30)[0]
    assert validity(good, 30)[0] > 0.999
    assert validity(useless, 30)[0] < 0.01
    assert validity(np.array([-0.5, NAN]), 8) == pytest.approx([0, PRIOR_PROBABILITY], abs=1e-6)
