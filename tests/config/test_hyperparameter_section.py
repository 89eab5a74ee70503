"""Hyperparameters that are nested in a choice are hyperparameters with a condition."""

from typing import Any

import pytest

from raysearch.config.space_file import parse_space
from raysearch.errors import SpaceError
from support.spaces import rejection


def test_a_nested_hyperparameter_is_one_with_a_condition() -> None:
    flat = {
        "optimizer": {"choice": ["adamw", "sgd"]},
        "momentum": {"uniform": [0.5, 0.95], "when": {"optimizer": "sgd"}},
        "nesterov": {"choice": [True, False], "when": {"optimizer": "sgd"}},
        "head": {"choice": ["pooled", "flat"]},
        "hidden_units": {"logint": [16, 256], "when": {"head": "flat"}},
    }
    nested = {
        "optimizer": {
            "choice": {
                "adamw": {},
                "sgd": {
                    "momentum": {"uniform": [0.5, 0.95]},
                    "nesterov": {"choice": [True, False]},
                },
            }
        },
        "head": {"choice": {"pooled": None, "flat": {"hidden_units": {"logint": [16, 256]}}}},
    }
    by_name = {hparam.name: hparam for hparam in parse_space({"space": flat}, "x").hparams}
    nested_hparams = parse_space({"space": nested}, "x").hparams
    assert {hparam.name: hparam for hparam in nested_hparams} == by_name


def test_a_hyperparameter_that_is_the_same_in_two_choices_exists_with_both() -> None:
    dropout = {"dropout": {"uniform": [0.0, 0.5]}}
    choices = {"cnn": dropout, "vgg16": dropout, "resnet18": {}}
    space = parse_space({"space": {"architecture": {"choice": choices}}}, "x")
    assert space.hparams[1].when == (("architecture", ("cnn", "vgg16")),)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        (
            {"architecture": {"choice": {"cnn": {"dropout": 0.1}, "vgg16": {"dropout": 0.2}}}},
            "space.architecture.choice.vgg16.dropout: defined in `architecture: cnn` and in"
            " `architecture: vgg16`, differently; use the same definition",
        ),
        (
            {"dropout": 0.1, "architecture": {"choice": {"cnn": {"dropout": 0.1}, "vgg16": {}}}},
            "defined at the top and in `architecture: cnn`; define it once",
        ),
        (
            {"optimizer": {"choice": {"sgd": 3}}},
            "space.optimizer.choice.sgd: 3 is not a mapping of hyperparameters",
        ),
        ({"optimizer": {"choice": {"sdg": {}}}}, "'sdg' is unknown; did you mean `sgd`?"),
        ({"optimizer": {"choice": {"sgd": {"speed": 3}}}}, "unknown hyperparameter `speed`"),
        (
            {"optimizer": {"choice": {"sgd": {"momentum": 3}}}},
            "space.optimizer.choice.sgd.momentum: 3 is outside",
        ),
        (
            {"optimizer": {"choice": {"sgd": {"optimizer": {"choice": ["sgd"]}}}}},
            "defined at the top and in `optimizer: sgd`",
        ),
        (
            {
                "optimizer": {
                    "choice": {"sgd": {"momentum": {"value": 0.9, "when": {"optimizer": "sgd"}}}}
                }
            },
            "momentum.when: it is nested in `optimizer` already; remove this condition",
        ),
        (
            {"momentum": {"value": 0.9, "when": {"optimizer": []}}},
            "space.momentum.when: optimizer has no value",
        ),
    ],
)
def test_a_badly_nested_hyperparameter_is_rejected(hparams: dict[str, Any], message: str) -> None:
    assert message in rejection(space=hparams)


def test_conditions_that_depend_on_each_other_are_rejected() -> None:
    tree = {
        "space": {
            "optimizer": {"choice": ["sgd", "adamw"], "when": {"schedule": "constant"}},
            "schedule": {"choice": ["constant", "one_cycle"], "when": {"optimizer": "sgd"}},
        }
    }
    with pytest.raises(SpaceError, match="optimizer, schedule depend on each other"):
        parse_space(tree, "x")
