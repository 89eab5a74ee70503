"""Rungs compare trials as ASHA does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.search.journal.rungs import (
    Mode,
    Rung,
    even_levels,
    is_among_best,
    rung_levels,
)

MODES: list[Mode] = ["max", "min"]


def test_rungs_lie_inside_the_first_fold_and_at_fold_ends() -> None:
    assert rung_levels(epochs=10, folds=3, grace_period=1, reduction_factor=3) == (1, 3, 9, 10, 20)
    assert rung_levels(epochs=8, folds=2, grace_period=2, reduction_factor=2) == (2, 4, 8)
    assert rung_levels(epochs=1, folds=3, grace_period=1, reduction_factor=3) == (1, 2)
    assert even_levels(epochs=10, folds=3, grace_period=2, step=3) == (2, 5, 8, 10, 20)
    assert even_levels(epochs=1, folds=2, grace_period=1, step=1) == (1,)


def test_the_first_trial_at_a_rung_continues() -> None:
    assert is_among_best([], 0.1, 3, "max")


@pytest.mark.parametrize("mode", MODES)
def test_the_best_third_continues(mode: Mode) -> None:
    sign = 1 if mode == "max" else -1
    earlier = [sign * step / 10 for step in range(10)]
    assert is_among_best(earlier, sign * 0.65, 3, mode)
    assert not is_among_best(earlier, sign * 0.55, 3, mode)


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    st.floats(-1, 1),
    st.sampled_from([2, 3, 4]),
    st.sampled_from(MODES),
)
def test_a_decision_equals_that_of_ray_tunes_asha(
    earlier: list[float], value: float, reduction_factor: int, mode: Mode
) -> None:
    from ray.tune.schedulers.async_hyperband import _Bracket

    bracket = _Bracket(min_t=1, max_t=100, reduction_factor=reduction_factor, s=0)
    sign = 1 if mode == "max" else -1
    recorded = {str(number): sign * earlier_value for number, earlier_value in enumerate(earlier)}
    cutoff = bracket.cutoff(recorded)
    assert is_among_best(earlier, value, reduction_factor, mode) == (not sign * value < cutoff)
    assert np.isfinite(cutoff)


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=30),
    st.sampled_from([2, 3]),
    st.sampled_from(MODES),
)
def test_a_rung_decides_the_same_when_a_trial_reaches_it_and_later(
    values: list[float], reduction_factor: int, mode: Mode
) -> None:
    rung, decisions = Rung(), {}
    for number, value in enumerate(values):
        rung.add(str(number), value)
        decisions[str(number)] = rung.is_promotable(str(number), reduction_factor, mode)
        assert decisions[str(number)] == is_among_best(
            values[:number], value, reduction_factor, mode
        )
    assert {
        name: rung.is_promotable(name, reduction_factor, mode) for name in decisions
    } == decisions


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    st.sampled_from([2, 3]),
    st.sampled_from(MODES),
)
def test_a_rung_promotes_the_best_fraction_and_no_trial_twice(
    values: list[float], reduction_factor: int, mode: Mode
) -> None:
    rung = Rung()
    for number, value in enumerate(values):
        rung.add(str(number), value)
        rung.wait(str(number))
    promoted = []
    while (name := rung.promotable(reduction_factor, mode)) is not None:
        promoted.append(rung.values[name])
        rung.leave(name)
    sign = 1 if mode == "max" else -1
    ranked = sorted(values, key=lambda value: -sign * value)
    num_best = len(values) // reduction_factor
    assert promoted[:num_best] == ranked[:num_best]
    assert len(promoted) == num_best or ranked[num_best] == ranked[num_best - 1]
