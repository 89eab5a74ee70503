"""The options of a selection, and the decision rule that is fitted on out-of-fold scores."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.special import expit

from raysearch.config.space_file import parse_space
from raysearch.metrics.calibration import fit_threshold
from raysearch.search.journal.events import ChampionDecision
from raysearch.search.study.fold_scores import OutOfFold
from raysearch.selection.decision_rule import SelectionOptions, fit_decision_rule

TREE = {"epochs": 1, "trials": 1, "space": {"width": 4}}


@pytest.fixture
def scores() -> OutOfFold:
    """Overconfident scores of 400 patches in two folds."""
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=400)
    logits = 4 * (2.0 * labels - 1 + generator.normal(0, 1.5, 400))
    positive, rows = expit(logits), np.arange(400)
    patients = np.array([f"p{number % 20}" for number in rows])
    return OutOfFold(labels, np.column_stack([1 - positive, positive]), patients, rows % 2, rows)


def test_temperature_and_threshold_are_fitted_on_all_folds_together(scores: OutOfFold) -> None:
    rule = fit_decision_rule(scores, "f1")
    assert rule.temperature > 1.5
    assert rule.error is not None
    assert rule.error_before is not None
    assert rule.error < rule.error_before
    logits = np.log(scores.probabilities[:, 1] / scores.probabilities[:, 0])
    calibrated = expit(logits / rule.temperature)
    assert rule.threshold == pytest.approx(fit_threshold(scores.labels, calibrated, "f1"))


def test_more_than_two_classes_have_no_threshold(scores: OutOfFold) -> None:
    probabilities = np.column_stack([scores.probabilities * 0.9, np.full(400, 0.1)])
    assert fit_decision_rule(replace(scores, probabilities=probabilities)).threshold is None


def test_the_options_are_those_of_the_last_selection_or_of_the_space(scores: OutOfFold) -> None:
    space = parse_space(TREE, "x")
    assert SelectionOptions.of(None, space) == SelectionOptions()
    rule = fit_decision_rule(scores, "accuracy")
    decision = ChampionDecision(margin=0.02, kind="ensemble", repeats=3, **asdict(rule))
    assert SelectionOptions.of(decision, space) == SelectionOptions(0.02, "accuracy", 3, "ensemble")
