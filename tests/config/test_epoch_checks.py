"""The hyperparameter `epochs` in place of the key `epochs` of a space file."""

from typing import Any

import pytest

from raysearch.config.report_interval import trial_epochs
from raysearch.config.space_file import parse_space
from support.spaces import HPARAMS, rejection

CHOICE = {"choice": [5, 10, 15]}


@pytest.mark.parametrize("rule", ["forest", "promotion", "asha", "none"])
def test_the_epochs_of_a_space_are_the_largest_of_its_trials(rule: str) -> None:
    tree = {"space": {**HPARAMS, "epochs": CHOICE}, "stopping": {"rule": rule}}
    space = parse_space(tree, "x")
    assert (space.epochs, space.epoch_values) == (15, (5, 10, 15))
    assert space.stopping.grace_period == 2  # of 5 epochs
    assert trial_epochs(space, {"epochs": 10}) == 10
    assert trial_epochs(space, {"architecture": "benchmark"}) == 15


def test_a_fixed_value_equals_the_key_of_the_file() -> None:
    space = parse_space({"space": {**HPARAMS, "epochs": 7}}, "x")
    assert (space.epochs, space.epoch_values) == (7, (7,))
    of_key = parse_space({"space": HPARAMS, "epochs": 7}, "x")
    assert (of_key.epochs, of_key.epoch_values) == (7, (7,))
    assert of_key.stopping == space.stopping


@pytest.mark.parametrize("rule", ["forest", "none"])
def test_a_range_of_epochs_needs_a_rule_that_does_not_compare_equal_ones(rule: str) -> None:
    tree = {"space": {**HPARAMS, "epochs": {"int": [3, 6]}}, "stopping": {"rule": rule}}
    assert parse_space(tree, "x").epoch_values == (3, 4, 5, 6)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"epochs": 10, "space": {"epochs": CHOICE}},
            "x: epochs: `space.epochs` has the epochs of each trial; remove one of them",
        ),
        (
            {"space": {"optimizer": "sgd", "epochs": {**CHOICE, "when": {"optimizer": "sgd"}}}},
            "space.epochs.when: every trial has `epochs`; remove the condition",
        ),
        (
            {"space": {"epochs": {"int": [3, 9]}}, "stopping": {"rule": "promotion"}},
            "space.epochs: `stopping: {rule: promotion}` compares trials with equal epochs, of"
            " which a range has too few; give a choice, or use the rule `forest` or `none`",
        ),
        (
            {"space": {"epochs": {"int": [3, 9]}}, "stopping": {"rule": "asha"}},
            "space.epochs: `stopping: {rule: asha}` compares trials with equal epochs",
        ),
        (
            {"space": {"epochs": CHOICE}, "stopping": {"grace_period": 6}},
            "stopping.grace_period: 6 is above the 5 epochs",
        ),
        (
            {"space": {"epochs": CHOICE, "head_epochs": 5}},
            "space.head_epochs: 5 of 5 epochs leave none for all layers; give 4 or fewer",
        ),
        ({"space": {"epochs": {"choice": [0, 5]}}}, "0 is outside 1 to"),
        ({"space": {"epochs": 2.5}}, "2.5 is not an integer"),
        (
            {
                "space": {
                    "architecture": "mobilenet_v2",
                    "weights": "imagenet",
                    "adaptation": "frozen",
                    "epochs": CHOICE,
                }
            },
            "space.epochs: `epochs` has no effect with classifiers that are fitted once",
        ),
    ],
)
def test_what_cannot_be_compared_is_rejected(sections: dict[str, Any], message: str) -> None:
    assert message in rejection(**sections)


IF_FROZEN = {"when": {"adaptation": "frozen"}}
FROZEN_OR_FULL: dict[str, Any] = {
    "architecture": "mobilenet_v2",
    "weights": "imagenet",
    "adaptation": {"choice": ["frozen", "full"]},
    "epochs": CHOICE,
}


@pytest.mark.parametrize(
    "classifier",
    [
        {},
        {
            "classifier": {
                "choice": ["linear", "logistic_regression"],
                "when": {"adaptation": "frozen"},
            }
        },
        {
            "classifier": {"choice": ["linear"], "when": {"adaptation": "frozen", "tta": "none"}},
            "tta": {"choice": ["none", "dihedral"]},
        },
    ],
)
def test_some_trials_with_a_fitted_classifier_are_enough(classifier: dict[str, Any]) -> None:
    space = {**FROZEN_OR_FULL, **classifier}
    expected = (
        "x: space.epochs: `epochs` has no effect with classifiers that are fitted once; give one"
        " value, or only the classifier linear or mlp"
    )
    assert expected in rejection(space=space)


def test_an_invalid_constraint_is_reported_beside_them() -> None:
    text = rejection(space=FROZEN_OR_FULL, constraints=["epochs !="])
    assert "`epochs` has no effect" in text
    assert "constraints.1: `epochs !=`: not an expression" in text


@pytest.mark.parametrize(
    ("space", "constraints"),
    [
        ({"classifier": {"choice": ["linear", "mlp"], **IF_FROZEN}}, []),
        (
            {
                "classifier": {
                    "choice": ["linear", "nearest_centroid"],
                    "when": {"adaptation": "frozen"},
                }
            },
            ["adaptation != 'frozen' or classifier == 'linear'"],
        ),
        ({}, ["adaptation != 'frozen' or epochs == 5"]),
    ],
)
def test_conditions_may_exclude_fitted_classifiers(
    space: dict[str, Any], constraints: list[str]
) -> None:
    parse_space({"space": {**FROZEN_OR_FULL, **space}, "constraints": constraints}, "x")
