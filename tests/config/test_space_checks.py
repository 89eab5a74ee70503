"""Errors across the keys of a space file: contradictions, unused hyperparameters, constraints."""

from typing import Any

import pytest

from raysearch.config.space_file import parse_space
from support.spaces import HPARAMS, rejection


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"sampler": {"name": "tpe", "group": True, "multivariate": False}},
            "sampler.group: it needs `multivariate: true`",
        ),
        (
            {"objective": {"metric": "auroc", "mode": "min"}},
            "objective.mode: 'min' contradicts the metric: auroc is better if higher",
        ),
        ({"stopping": {"grace_period": 99}}, "stopping.grace_period: 99 is above the 10 epochs"),
        ({"budget": {"dollars": 5}}, "budget.dollars: no prices; give `resources: {prices:"),
        ({"budget": {"target": 95}}, "budget.target: 95 is never reached"),
        ({"repeats": 0, "champion": "ensemble"}, "champion: an ensemble needs `repeats: 1`"),
        (
            {"validation": "leave-one-out", "space": {"folds": 3}},
            "space.folds: `validation: leave-one-out` has its own folds",
        ),
        ({"constraints": ["speed < 3"]}, "constraints.1: `speed < 3`: speed is not in the space"),
        ({"constraints": ["widht < 3"]}, "widht is not in the space; did you mean `width`?"),
        ({"constraints": ["optimizer == 'sdg'"]}, "optimizer is never 'sdg'"),
        ({"constraints": ["width <"]}, "constraints.1: `width <`: not an expression"),
        (
            {"constraints": ["width < 10"], "points_to_evaluate": [{"width": 16}]},
            "`width < 10` excludes every point",
        ),
        (
            {"constraints": ["width < 100", "learning_rate > 1"]},
            "none of 1,000 random configurations satisfies them; `learning_rate > 1` excludes",
        ),
        ({"constraints": ["width / (width - width) > 1"]}, "excludes 1,000 of them"),
        (
            {"constraints": ["optimizer < 3 or width < 9"]},
            "`optimizer < 3 or width < 9`: 'adamw' is a text; a number is needed",
        ),
    ],
)
def test_contradicting_sections_are_rejected(sections: dict[str, Any], message: str) -> None:
    assert message in rejection(**sections)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        (
            {"dropout": {"uniform": [0, 0.5], "when": {"head": "flat"}}},
            "space.dropout.when: head is not in the space",
        ),
        (
            {
                "learning_rate": {"uniform": [0.1, 0.2]},
                "dropout": {"value": 0.1, "when": {"learning_rate": 0.1}},
            },
            "learning_rate is a range of numbers; conditions need a choice",
        ),
        (
            {"optimizer": "sgd", "momentum": {"value": 0.1, "when": {"optimizer": "adam"}}},
            "optimizer is never 'adam'",
        ),
        (
            {"head": "pooled", "folds": {"choice": [2, 3], "when": {"head": "pooled"}}},
            "`folds` is the same for the whole study",
        ),
        ({"momentum": 0.9}, "`momentum` has no effect with `optimizer: adamw`; remove it"),
        (
            {"architecture": {"choice": ["cnn", "p4m"]}, "stages": 3},
            "`stages` has no effect with `architecture: p4m`; remove it, or add"
            " `when: {architecture: cnn}`",
        ),
        (
            {"optimizer": {"choice": ["adamw", "sgd"]}, "momentum": {"uniform": [0.5, 0.9]}},
            "add `when: {optimizer: sgd}`",
        ),
        (
            {"architecture": {"choice": ["cnn", "vgg16"]}, "head": "flat"},
            "add `when: {architecture: cnn}`",
        ),
        (
            {"hidden_units": 64},
            "`hidden_units` has no effect unless head is flat; remove it, or add"
            " `when: {head: flat}`",
        ),
        (
            {"balanced_sampling": True, "class_weights": True},
            "`class_weights` has no effect unless balanced_sampling is false; remove it, or add"
            " `when: {balanced_sampling: false}`",
        ),
        (
            {"head": {"choice": ["flat", "pooled"]}, "hidden_units": 64},
            "`hidden_units` has no effect unless head is flat",
        ),
        ({"auxiliary_weight": 0.5}, "`auxiliary_weight` has no effect without `auxiliary`"),
        ({"head_epochs": 10}, "space.head_epochs: 10 of 10 epochs leave none for all layers"),
        ({"head_learning_rate": 0.1}, "`head_learning_rate` has no effect without `head_epochs`"),
        (
            {"head_hidden_layers": 2},
            "`head_hidden_layers` has no effect with `head_hidden_units: 0`; remove it, or give"
            " `head_hidden_units`, such as 64",
        ),
        (
            {"head_hidden_units": {"choice": [0, 64]}, "head_hidden_layers": {"choice": [1, 2]}},
            "remove it, or add `when: {head_hidden_units: [64]}`",
        ),
        (
            {"head_hidden_units": {"int": [0, 64]}, "head_hidden_layers": {"choice": [1, 2]}},
            "remove it, or begin the range of `head_hidden_units` at 1",
        ),
    ],
)
def test_a_hyperparameter_without_effect_is_rejected(hparams: dict[str, Any], message: str) -> None:
    assert message in rejection(space=hparams)


def test_a_condition_on_a_conditional_hyperparameter_is_followed() -> None:
    hparams: dict[str, Any] = {
        "architecture": {"choice": {"vgg16": {}, "cnn": {"head": {"choice": ["pooled", "flat"]}}}},
        "hidden_units": {"int": [8, 16], "when": {"head": "flat"}},
    }
    assert parse_space({"space": hparams}, "x").hparams[-1].name == "hidden_units"
    hparams["head"] = {"choice": ["pooled", "flat"], "when": {"architecture": "cnn"}}
    hparams["architecture"] = {"choice": ["cnn", "vgg16"]}
    point = {"architecture": "cnn", "hidden_units": 9}
    parse_space({"space": hparams, "points_to_evaluate": [point]}, "x")
    point = {"architecture": "vgg16", "hidden_units": 9}
    message = rejection(space=hparams, points_to_evaluate=[point])
    assert (
        "points_to_evaluate.1.hidden_units: exists only if head is flat, but head does not exist"
        in message
    )


@pytest.mark.parametrize(
    "hparams",
    [
        {"head_hidden_units": 64, "head_hidden_layers": 2},
        {"head_hidden_units": {"choice": [0, 64]}, "head_hidden_layers": 2},
        {
            "head_hidden_units": {"choice": [0, 32, 64]},
            "head_hidden_layers": {"choice": [1, 2], "when": {"head_hidden_units": [32, 64]}},
        },
    ],
)
def test_the_layers_of_a_head_with_hidden_units_are_accepted(hparams: dict[str, Any]) -> None:
    assert parse_space({"space": hparams}, "x").hyperparameter("head_hidden_layers") is not None


def test_a_constraint_may_exclude_some_points() -> None:
    points = [{"width": 16}, {"width": 8, "batch_size": 8}]
    constraints = ["width * batch_size < 200"]
    space = parse_space(
        {"space": HPARAMS, "points_to_evaluate": points, "constraints": constraints}, "x"
    )
    assert len(space.points_to_evaluate) == 2
