"""Values of an objective that is maximized or minimized."""

import pytest

from raysearch.metrics.objective import (
    best_value,
    is_better,
    objective_sign,
    optimization_direction,
    reaches,
    sort_key,
)


@pytest.mark.parametrize(("mode", "best", "worst"), [("max", 3.0, -1.0), ("min", -1.0, 3.0)])
def test_values_are_compared_by_the_mode(mode: str, best: float, worst: float) -> None:
    assert is_better(best, worst, mode)
    assert not is_better(worst, best, mode)
    assert not is_better(best, best, mode)
    assert reaches(best, best, mode)
    assert reaches(best, worst, mode)
    assert not reaches(worst, best, mode)
    assert best_value([worst, best, 0.5], mode) == best
    assert sorted([worst, 0.5, best], key=lambda value: sort_key(value, mode))[0] == best
    assert objective_sign(mode) * best > objective_sign(mode) * worst


def test_the_direction_is_named_as_by_optuna() -> None:
    assert optimization_direction("max") == "maximize"
    assert optimization_direction("min") == "minimize"
