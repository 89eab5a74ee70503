"""What users expect of hyperparameters: the section `prior`, its errors, and its densities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raysearch.config import component_section
from raysearch.config.prior_section import prior_errors
from raysearch.config.space import Prior, Space
from raysearch.config.space_file import parse_space
from raysearch.config.space_prior import SpacePrior
from raysearch.errors import SpaceError

HPARAMS: dict[str, Any] = {
    "folds": 3,
    "optimizer": {"choice": ["adamw", "sgd"]},
    "momentum": {"uniform": [0.5, 0.9], "when": {"optimizer": "sgd"}},
    "learning_rate": {"loguniform": [1e-4, 1e-1]},
    "dropout": {"uniform": [0, 0.5]},
    "width": {"int": [4, 64]},
    "batch_size": {"choice": [16, 32, 64]},
}
PRIOR: dict[str, Any] = {
    "learning_rate": {"around": 1e-3, "factor": 3},
    "dropout": {"around": 0.2, "deviation": 0.05},
    "optimizer": {"adamw": 3},
    "width": {"around": 16, "factor": 2},
    "batch_size": {"around": 32, "factor": 1.5},
}


def parsed(prior: object, **settings: Any) -> Space:
    """The space with this prior."""
    return parse_space({"space": HPARAMS, "prior": prior} | settings, "x")


@pytest.mark.parametrize(
    ("name", "entry", "error"),
    [
        ("learning_rat", {"around": 1e-3, "factor": 3}, "not in this space; did you mean"),
        ("folds", {3: 2}, "a single value in this space; remove its prior"),
        ("learning_rate", {"around": 1.0, "factor": 3}, "1 is outside 0.0001 to 0.1"),
        ("learning_rate", {"around": 1e-3, "factor": 0.5}, "0.5 is not a factor; give a number"),
        ("learning_rate", {"around": 1e-3, "factor": 1}, "1 is not a factor; give a number above"),
        ("learning_rate", {"around": 1e-3, "deviation": 1e-4}, "is logarithmic; give `factor`"),
        ("learning_rate", {"around": 1e-3}, "give `around`, and either `factor` or `deviation`"),
        ("learning_rate", {"factor": 3}, "give `around`, and either `factor` or `deviation`"),
        ("learning_rate", {"around": 1e-3, "facto": 3}, "unknown key; did you mean `factor`?"),
        ("learning_rate", {"around": "small", "factor": 3}, "'small' is not a number"),
        ("learning_rate", 0.001, "0.001 is not a mapping"),
        ("dropout", {"around": 0.2, "factor": 3}, "not all positive; give `deviation`"),
        ("dropout", {"around": 0.2, "deviation": 0}, "0 is not a standard deviation"),
        ("optimizer", {"adam": 3}, "'adam' is not one of adamw, sgd"),
        ("optimizer", {"adamw": 0}, "0 is no weight; give a positive number"),
        ("optimizer", {"adamw": "much"}, "'much' is no weight"),
        ("optimizer", {"around": 3, "factor": 2}, "its values are no numbers; give a weight"),
        ("optimizer", {}, "it is empty; give a weight for some"),
    ],
)
def test_a_wrong_prior_is_an_error_in_one_line(name: str, entry: object, error: str) -> None:
    with pytest.raises(SpaceError) as rejected:
        parsed({name: entry})
    assert error in str(rejected.value)
    assert str(rejected.value).startswith(f"x: prior.{name}")
    assert "\n" not in str(rejected.value)


def test_a_sampler_without_priors_is_named() -> None:
    with pytest.raises(SpaceError, match="prior: the sampler tpe has none; use forest or random"):
        parsed(PRIOR, sampler="tpe")


def test_densities_are_one_in_the_mean_and_largest_at_the_expected_values() -> None:
    space = parsed(PRIOR)
    prior = SpacePrior(space)
    generator = np.random.default_rng(0)
    points = generator.random((20_000, len(space.hparams)))
    assert np.exp(prior.log_density(points)).mean() == pytest.approx(1, abs=0.1)
    drawn = prior.points(2_000, generator)
    assert prior.log_density(drawn).mean() > 1
    assert np.isfinite(prior.log_density(points)).all()
    samples = [prior.sample(generator) for _number in range(2_000)]
    rates = np.array([float(each["learning_rate"]) for each in samples])
    assert np.exp(np.median(np.log(rates))) == pytest.approx(1e-3, rel=0.15)
    within = np.mean((rates > 1e-3 / 3) & (rates < 3e-3))
    assert within == pytest.approx(0.95 * 0.683 + 0.05 * 2 * np.log(3) / np.log(1000), abs=0.04)
    assert np.mean([each["optimizer"] == "adamw" for each in samples]) == pytest.approx(
        0.75, abs=0.04
    )
    assert {each["batch_size"] for each in samples} == {16, 32, 64}
    assert np.std([float(each["dropout"]) for each in samples]) < 0.1


def test_a_hyperparameter_that_does_not_exist_at_a_point_does_not_count() -> None:
    prior = SpacePrior(parsed({"momentum": {"around": 0.9, "deviation": 0.01}}))
    column = [hparam.name for hparam in prior_space().hparams].index("optimizer")
    points = np.full((2, len(prior_space().hparams)), 0.1)
    points[:, column] = [0.2, 0.8]
    adamw, sgd = prior.log_density(points)
    assert adamw == 0
    assert sgd < -1


def prior_space() -> Space:
    """The space of the tests, without a prior."""
    return parsed({})


def test_a_forged_prior_of_a_plan_is_rejected() -> None:
    space = parsed(PRIOR)
    assert not list(prior_errors(space))
    for forged in (
        Prior("nowhere", 1.0, 2.0),
        Prior("learning_rate", 1e-3, 0.0),
        Prior("dropout", float("nan"), None, 1.0),
        Prior("optimizer", weights=(("adamw", -1.0),)),
        Prior("dropout", weights=(("around", 0.2), ("deviation", 0.1))),
    ):
        assert list(prior_errors(replace(space, prior=(forged,))))


@pytest.mark.parametrize("deviation", [1e-18, 1e-200, 1e12])
def test_absurd_deviations_are_computed_with(deviation: float) -> None:
    entries = {"dropout": 0.2, "width": 16, "batch_size": 32}
    space = parsed({name: {"around": at, "deviation": deviation} for name, at in entries.items()})
    prior, generator = SpacePrior(space), np.random.default_rng(0)
    assert np.isfinite(prior.log_density(prior.points(50, generator))).all()
    assert np.isfinite(prior.log_density(generator.random((50, len(space.hparams))))).all()


def test_a_plugin_has_its_name_in_a_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    def paths(part: str) -> dict[str, str]:
        return {"tiny": "mynets:build"} if part == "architecture" else {}

    monkeypatch.setattr(component_section, "plugin_import_paths", paths)
    section: dict[object, object] = {"architecture": {"tiny": 3, "cnn": 1}, "optimizer": {"sgd": 2}}
    assert component_section.prior_with_import_paths(section) == {
        "architecture": {"mynets:build": 3, "cnn": 1},
        "optimizer": {"sgd": 2},
    }
