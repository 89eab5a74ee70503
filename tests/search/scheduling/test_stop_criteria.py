"""A trial stops by its own curve, or by a paired comparison with the best trial."""

from types import SimpleNamespace

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from raysearch.search.journal.rungs import Mode
from raysearch.search.scheduling.stop_criteria import cannot_catch_up, out_of_patience

MODES: list[Mode] = ["max", "min"]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=10),
    st.integers(0, 3),
    st.sampled_from(MODES),
    st.sampled_from([0.05, 0.1, 0.3]),
)
def test_the_paired_test_equals_optunas(
    pairs: list[tuple[float, float]], num_more: int, mode: Mode, alpha: float
) -> None:
    values = [value for value, _best_value in pairs]
    best_values = [best_value for _value, best_value in pairs] + [0.5] * num_more
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    steps = dict(enumerate(best_values))
    study.add_trial(create_trial(state=TrialState.COMPLETE, value=0.5, intermediate_values=steps))
    pruner = optuna.pruners.WilcoxonPruner(p_threshold=alpha)
    trial = SimpleNamespace(number=1, intermediate_values=dict(enumerate(values)))
    expected = pruner.prune(study, trial)  # type: ignore[arg-type]
    assert cannot_catch_up(values, best_values, mode, alpha) == expected


def test_a_paired_test_of_one_fold_rejects_nothing() -> None:
    assert not cannot_catch_up([0.1], [0.9, 0.9], "max", 0.6)


def test_patience_ends_after_so_many_epochs_without_improvement() -> None:
    assert not out_of_patience([0.5, 0.4], 0, "max")
    assert not out_of_patience([0.5, 0.4], 2, "max")
    assert out_of_patience([0.5, 0.4, 0.5], 2, "max")
    assert not out_of_patience([0.5, 0.4, 0.6], 2, "max")
    assert out_of_patience([0.4, 0.5, 0.6], 2, "min")
