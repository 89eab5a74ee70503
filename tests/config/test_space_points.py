"""Points to evaluate are checked against their space."""

from typing import Any

import pytest

from raysearch.config.space_points import completed_point
from support.spaces import full_space, rejection


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([{"speed": 8}], "points_to_evaluate.1.speed: not in this space"),
        ([{"widht": 8}], "not in this space; did you mean `width`?"),
        ([{"width": 8}, {"width": 9}], "points_to_evaluate.2.width: 9 is not one of 8, 16"),
        ([{"width": 8}, {"width": 8}], "points_to_evaluate: two points are the same"),
        ([{"width": True}], "points_to_evaluate.1.width: True is not an integer"),
        ([{"learning_rate": 1.0}], "points_to_evaluate.1.learning_rate: 1.0 is outside 0.0001"),
        ([{"batch_size": 8.5}], "points_to_evaluate.1.batch_size: 8.5 is not an integer"),
        (
            [{"optimizer": "adamw", "momentum": 0.6}],
            "points_to_evaluate.1.momentum: exists only if optimizer is sgd, but optimizer is"
            " adamw here",
        ),
    ],
)
def test_a_bad_point_is_rejected(points: list[dict[str, Any]], message: str) -> None:
    assert message in rejection(points_to_evaluate=points)


def test_a_point_is_completed_with_fixed_hyperparameters() -> None:
    space = full_space()
    assert completed_point(space, space.points_to_evaluate[0]) == {
        "folds": 3,
        "learning_rate": 0.001,
        "architecture": "cnn",
    }
