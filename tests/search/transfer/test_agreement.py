"""How well forecasts order trials."""

import numpy as np
import pytest

from raysearch.search.transfer.agreement import (
    PRIOR_PROBABILITY,
    Agreement,
    agreements,
    validity,
)

NAN = float("nan")
FRACTIONS = np.array([0.25, 0.5, 1.0])
END = np.array([1.0])
# The third trial has no report at the first rung, and the last none at the second.
OBJECTIVES = np.array([[0.5, 0.6, 0.7], [0.4, NAN, NAN], [NAN, 0.65, NAN], [0.3, NAN, 0.9]])


def test_an_order_agrees_with_itself_and_disagrees_with_its_reverse() -> None:
    objectives = np.array([[0.1], [0.5], [0.2], [0.9]])
    order = np.array([1.0, 3, 2, 4])
    forecasts = np.column_stack([order, -order, np.zeros(4)])
    agreement = agreements(END, objectives, forecasts)
    assert agreement.values == pytest.approx([1, -1, 0])
    assert agreement.num_trials == 4


def test_trials_are_compared_where_the_shorter_curve_ends() -> None:
    forecasts = np.array([[2.0], [1.0], [3.0], [4.0]])
    last = 0.3 + (0.9 - 0.3) / 3  # of the last trial at .5, between its reports
    differences = {
        (0, 1): 0.5 - 0.4,
        (0, 2): 0.6 - 0.65,
        (0, 3): 0.7 - 0.9,
        (1, 3): 0.4 - 0.3,
        (2, 3): 0.65 - last,
    }  # the second trial has ended before the third has its first report
    limit = np.quantile(np.abs(list(differences.values())), 0.95)
    weighted = [
        np.clip(difference, -limit, limit) * (forecasts[first, 0] - forecasts[second, 0])
        for (first, second), difference in differences.items()
    ]
    agreement = agreements(FRACTIONS, OBJECTIVES, forecasts)
    assert agreement.values == pytest.approx([np.sum(weighted) / np.sum(np.abs(weighted))])
    assert agreement.num_trials == 4


def test_trials_that_are_compared_with_none_do_not_count() -> None:
    objectives = np.array([[0.5, 0.6], [0.4, NAN], [NAN, NAN]])
    objectives[2] = [NAN, 0.6]  # equal to the first, and begun after the end of the second
    agreement = agreements(FRACTIONS[:2], objectives, np.array([[1.0], [0.0], [2.0]]))
    assert agreement.values == pytest.approx([1])
    assert agreement.num_trials == 2


def test_pairs_that_hardly_differ_hardly_count() -> None:
    objectives = np.array([[0.50], [0.51], [0.9], [0.91]])
    forecasts = np.array([[0.02], [0.01], [1.02], [1.01]])  # each of two close pairs is reversed
    assert agreements(END, objectives, forecasts).values[0] > 0.99


def test_without_two_different_trials_there_is_no_agreement() -> None:
    for objectives in (np.array([[0.5], [0.5]]), np.array([[0.5]])):
        agreement = agreements(END, objectives, np.arange(len(objectives), dtype=float)[:, None])
        assert (agreement.values.tolist(), agreement.num_trials) == ([0], 0)
        assert validity(agreement) == pytest.approx([PRIOR_PROBABILITY])


def test_few_trials_prove_little_and_many_prove_much() -> None:
    def valid(agreement: float, num_trials: int) -> float:
        return float(validity(Agreement(np.array([agreement]), num_trials))[0])

    assert PRIOR_PROBABILITY < valid(0.95, 3) < valid(0.95, 8) < valid(0.95, 30)
    assert valid(0.1, 3) > valid(0.1, 8) > valid(0.1, 30)
    assert valid(0.95, 30) > 0.999
    assert valid(0.1, 30) < 0.01
    assert valid(-0.5, 8) < 1e-6
