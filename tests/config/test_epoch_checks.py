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
