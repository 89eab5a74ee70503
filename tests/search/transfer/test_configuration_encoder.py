"""Configurations of several spaces as the features of one model."""

import numpy as np
import pytest

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.space_file import parse_space
from raysearch.search.transfer.configuration_encoder import (
    ConfigurationEncoder,
    nearest_configuration,
    values_with_defaults,
)

SPACE = parse_space(
    {
        "epochs": 2,
        "space": {
            "folds": 2,
            "optimizer": {"choice": {"adamw": {}, "sgd": {"momentum": {"uniform": [0.5, 0.9]}}}},
            "learning_rate": {"loguniform": [1e-4, 1e-2]},
            "width": {"int": [4, 16]},
            "batch_size": {"choice": [16, 32]},
        },
    },
    "x",
)


def test_a_hyperparameter_that_a_study_lacks_has_its_default() -> None:
    names = ("optimizer", "learning_rate", "width", "another")
    assert values_with_defaults({"optimizer": "sgd"}, names) == ["sgd", 1e-2, 32, None]
    assert values_with_defaults({"folds": 1, "optimizer": "sgd"}, names)[:3] == ["sgd", 1e-2, 32]
    assert values_with_defaults({"another": 1.5, "width": 8}, names) == ["adamw", 1e-3, 8, 1.5]


def test_only_what_varies_is_a_feature() -> None:
    configurations: list[Hparams] = [
        {"optimizer": "adamw", "width": 8, "batch_size": 32},
        {"optimizer": "sgd", "width": 16, "batch_size": 32, "nesterov": True},
        {"optimizer": "adamw"},
    ]
    rows = ConfigurationEncoder(configurations).rows(configurations)
    # Two optimizers, the width (32 by default), the batch size (64), and two values of `nesterov`.
    assert rows.tolist() == [
        [1, 0, 8, 32, 1, 0],
        [0, 1, 16, 32, 0, 1],
        [1, 0, 32, 64, 1, 0],
    ]


def test_an_unknown_choice_has_none_of_the_values() -> None:
    encoder = ConfigurationEncoder([{"optimizer": "adamw"}, {"optimizer": "sgd"}])
    assert encoder.rows([{"optimizer": "adam"}]).tolist() == [[0, 0]]
    assert encoder.rows([]).shape == (0, 2)
    alike = ConfigurationEncoder([{"width": 8}, {"width": 8}])
    assert alike.rows([{"width": 4}, {"width": 8}]).shape == (2, 0)


def test_the_nearest_configuration_is_in_the_space() -> None:
    nearest = nearest_configuration(
        SPACE, {"optimizer": "sgd", "momentum": 0.99, "learning_rate": 0.5, "batch_size": 16}
    )
    assert nearest == {
        "folds": 2,
        "optimizer": "sgd",
        "momentum": 0.9,
        "learning_rate": 1e-2,
        "width": 16,
        "batch_size": 16,
    }
    adamw = nearest_configuration(SPACE, {"momentum": 0.7, "width": 5, "batch_size": 32})
    assert adamw == {
        "folds": 2,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "width": 5,
        "batch_size": 32,
    }


@pytest.mark.parametrize(
    "hparams", [{"optimizer": "adam", "batch_size": 16}, {"optimizer": 1}, {"width": "wide"}]
)
def test_a_choice_that_the_space_lacks_has_no_nearest_configuration(hparams: Hparams) -> None:
    assert nearest_configuration(SPACE, hparams) is None


def test_a_number_is_the_nearest_of_a_choice_and_folds_are_no_feature() -> None:
    tree = {"space": {"folds": {"choice": [2, 3]}, "epochs": {"choice": [5, 10]}}}
    space = parse_space(tree, "x")
    assert nearest_configuration(space, {"folds": 5, "epochs": 8}) == {"folds": 3, "epochs": 10}
    nearest = nearest_configuration(SPACE, {"batch_size": 48})
    assert nearest is not None
    assert nearest["batch_size"] == 32
    encoder = ConfigurationEncoder([{"folds": 2, "epochs": 4}, {"folds": 5, "epochs": 8}])
    assert encoder.rows([{"folds": 3, "epochs": 6}]).tolist() == [[6]]


def test_numbers_keep_their_order() -> None:
    encoder = ConfigurationEncoder([{"learning_rate": 1e-4}, {"learning_rate": 1e-1}])
    rows = encoder.rows([{"learning_rate": rate} for rate in (1e-4, 1e-3, 1e-2)])
    assert np.all(np.diff(rows[:, 0]) > 0)
