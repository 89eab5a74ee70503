"""Checks of evaluations for impossible and for implausible results."""

import numpy as np
import pytest

from raysearch.metrics.evaluation import ScoredRows, evaluate_predictions
from raysearch.metrics.plausibility import (
    check_baseline,
    check_coverage,
    check_reference_result,
    check_row_counts,
)

CLASSES = ("no", "yes")


@pytest.fixture(scope="module")
def scored() -> ScoredRows:
    """Rows of 20 patients, scored by a fair model."""
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=400)
    logits = 2 * labels - 1 + generator.normal(0, 1.5, 400)
    scores = np.round(1 / (1 + np.exp(-logits)), 2)
    patients = generator.integers(20, size=400).astype(np.str_)
    return ScoredRows(labels, np.column_stack([1 - scores, scores]), patients, CLASSES, 0.5)


def test_a_plausible_evaluation_has_no_note(scored: ScoredRows) -> None:
    evaluation = evaluate_predictions(scored, num_replicates=100)
    assert check_row_counts(evaluation) == []
    assert check_baseline(evaluation) == []
    assert check_reference_result("idc", evaluation) == []


def test_coverage_that_rises_with_confidence_is_an_error() -> None:
    (note,) = check_coverage([(0.8, 0.4), (0.95, 0.5), (0.99, 0.1)])
    assert note.is_error
    assert "coverage rises from 0.400 at confidence 0.8 to 0.500 at 0.95" in note.text


def test_a_result_above_the_best_known_one_suggests_leakage(scored: ScoredRows) -> None:
    probabilities = np.column_stack([1 - scored.labels, scored.labels]) * 1.0
    perfect = ScoredRows(scored.labels, probabilities, scored.patients, CLASSES)
    evaluation = evaluate_predictions(perfect, num_replicates=100)
    (note,) = check_reference_result("idc", evaluation)
    assert "look for leakage" in note.text
    assert not note.is_error
    assert check_reference_result("unknown", evaluation) == []


def test_a_model_like_the_baseline_is_noted(scored: ScoredRows) -> None:
    constant = ScoredRows(scored.labels, np.full((400, 2), 0.5), scored.patients, CLASSES)
    assert len(check_baseline(evaluate_predictions(constant, num_replicates=100))) >= 1
