import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.search.rungs import keeps_on, rung_levels


def test_rungs_lie_inside_the_first_fold_and_at_fold_ends() -> None:
    assert rung_levels(epochs=10, folds=3, grace=1, reduction=3) == (1, 3, 9, 10, 20)
    assert rung_levels(epochs=8, folds=2, grace=2, reduction=2) == (2, 4, 8)
    assert rung_levels(epochs=1, folds=3, grace=1, reduction=3) == (1, 2)


def test_the_first_at_a_rung_goes_on() -> None:
    assert keeps_on([], 0.1, 3, "max")


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_best_third_goes_on(mode: str) -> None:
    sign = 1 if mode == "max" else -1
    earlier = [sign * one / 10 for one in range(10)]
    assert keeps_on(earlier, sign * 0.65, 3, mode)
    assert not keeps_on(earlier, sign * 0.55, 3, mode)


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    st.floats(-1, 1),
    st.sampled_from([2, 3, 4]),
    st.sampled_from(["max", "min"]),
)
def test_a_decision_is_that_of_rays_asha(
    earlier: list[float], value: float, reduction: int, mode: str
) -> None:
    from ray.tune.schedulers.async_hyperband import _Bracket

    bracket = _Bracket(min_t=1, max_t=100, reduction_factor=reduction, s=0)
    sign = 1 if mode == "max" else -1
    recorded = {str(number): sign * one for number, one in enumerate(earlier)}
    cutoff = bracket.cutoff(recorded)
    assert keeps_on(earlier, value, reduction, mode) == (not sign * value < cutoff)
    assert np.isfinite(cutoff)
