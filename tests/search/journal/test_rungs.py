from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from raysearch.search.journal.rungs import (
    Mode,
    Rung,
    cannot_catch_up,
    even_levels,
    keeps_on,
    out_of_patience,
    rung_levels,
)

MODES: list[Mode] = ["max", "min"]


def test_rungs_lie_inside_the_first_fold_and_at_fold_ends() -> None:
    assert rung_levels(epochs=10, folds=3, grace=1, reduction=3) == (1, 3, 9, 10, 20)
    assert rung_levels(epochs=8, folds=2, grace=2, reduction=2) == (2, 4, 8)
    assert rung_levels(epochs=1, folds=3, grace=1, reduction=3) == (1, 2)
    assert even_levels(epochs=10, folds=3, grace=2, step=3) == (2, 5, 8, 10, 20)
    assert even_levels(epochs=1, folds=2, grace=1, step=1) == (1,)


def test_the_first_at_a_rung_goes_on() -> None:
    assert keeps_on([], 0.1, 3, "max")


@pytest.mark.parametrize("mode", MODES)
def test_the_best_third_goes_on(mode: Mode) -> None:
    sign = 1 if mode == "max" else -1
    earlier = [sign * one / 10 for one in range(10)]
    assert keeps_on(earlier, sign * 0.65, 3, mode)
    assert not keeps_on(earlier, sign * 0.55, 3, mode)


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    st.floats(-1, 1),
    st.sampled_from([2, 3, 4]),
    st.sampled_from(MODES),
)
def test_a_decision_is_that_of_rays_asha(
    earlier: list[float], value: float, reduction: int, mode: Mode
) -> None:
    from ray.tune.schedulers.async_hyperband import _Bracket

    bracket = _Bracket(min_t=1, max_t=100, reduction_factor=reduction, s=0)
    sign = 1 if mode == "max" else -1
    recorded = {str(number): sign * one for number, one in enumerate(earlier)}
    cutoff = bracket.cutoff(recorded)
    assert keeps_on(earlier, value, reduction, mode) == (not sign * value < cutoff)
    assert np.isfinite(cutoff)


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=30),
    st.sampled_from([2, 3]),
    st.sampled_from(MODES),
)
def test_a_rung_decides_the_same_when_a_trial_comes_and_ever_after(
    values: list[float], reduction: int, mode: Mode
) -> None:
    rung, then = Rung(), {}
    for number, value in enumerate(values):
        rung.add(str(number), value)
        then[str(number)] = rung.is_promotable(str(number), reduction, mode)
        assert then[str(number)] == keeps_on(values[:number], value, reduction, mode)
    assert {one: rung.is_promotable(one, reduction, mode) for one in then} == then


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    st.sampled_from([2, 3]),
    st.sampled_from(MODES),
)
def test_a_rung_promotes_the_best_share_and_nobody_twice(
    values: list[float], reduction: int, mode: Mode
) -> None:
    rung = Rung()
    for number, value in enumerate(values):
        rung.add(str(number), value)
        rung.wait(str(number))
    promoted = []
    while (one := rung.promotable(reduction, mode)) is not None:
        promoted.append(rung.values[one])
        rung.leave(one)
    sign = 1 if mode == "max" else -1
    ranked = sorted(values, key=lambda value: -sign * value)
    fraction = len(values) // reduction
    assert promoted[:fraction] == ranked[:fraction]
    assert len(promoted) == fraction or ranked[fraction] == ranked[fraction - 1]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=10),
    st.integers(0, 3),
    st.sampled_from(MODES),
    st.sampled_from([0.05, 0.1, 0.3]),
)
def test_the_paired_test_is_optunas(
    pairs: list[tuple[float, float]], more: int, mode: Mode, threshold: float
) -> None:
    mine = [one for one, _other in pairs]
    theirs = [other for _one, other in pairs] + [0.5] * more
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    steps = dict(enumerate(theirs))
    study.add_trial(create_trial(state=TrialState.COMPLETE, value=0.5, intermediate_values=steps))
    pruner = optuna.pruners.WilcoxonPruner(p_threshold=threshold)
    asked = SimpleNamespace(number=1, intermediate_values=dict(enumerate(mine)))
    expected = pruner.prune(study, asked)  # type: ignore[arg-type]
    assert cannot_catch_up(mine, theirs, mode, threshold) == expected


def test_one_fold_alone_tells_nothing_in_a_paired_test() -> None:
    assert not cannot_catch_up([0.1], [0.9, 0.9], "max", 0.6)


def test_patience_ends_after_so_many_epochs_without_a_better_one() -> None:
    assert not out_of_patience([0.5, 0.4], 0, "max")
    assert not out_of_patience([0.5, 0.4], 2, "max")
    assert out_of_patience([0.5, 0.4, 0.5], 2, "max")
    assert not out_of_patience([0.5, 0.4, 0.6], 2, "max")
    assert out_of_patience([0.4, 0.5, 0.6], 2, "min")
