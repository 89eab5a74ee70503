"""Metrics of the user's have values and bootstrap replicates."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from raysearch.errors import SpaceError
from raysearch.metrics.bootstrap import patient_weights
from raysearch.metrics.bootstrap_metrics import metric_replicates
from raysearch.metrics.classification import classification_metrics
from raysearch.metrics.custom_metric import Floats, Ints, custom_metric, custom_replicates
from raysearch.metrics.evaluation import ScoredRows, evaluate_predictions

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 2, 200)
SCORES = np.clip(LABELS * 0.2 + GENERATOR.random(200) * 0.8, 0, 1)
PROBABILITIES = np.column_stack([1 - SCORES, SCORES])
PATIENT_INDEX = np.arange(200) % 17
WEIGHTS = patient_weights(17, 40, 0)


def accuracy(labels: Ints, probabilities: Floats) -> float:
    return float(np.mean(probabilities.argmax(1) == labels))


def weighted_accuracy(
    labels: Ints, probabilities: Floats, sample_weight: Floats | None = None
) -> float:
    return float(np.average(probabilities.argmax(1) == labels, weights=sample_weight))


def kappa(labels: Ints, probabilities: Floats) -> float:
    return float(cohen_kappa_score(labels, probabilities.argmax(1)))


def of_two_classes(labels: Ints, _probabilities: Floats) -> float:
    if len(set(labels.tolist())) < 2:
        raise ValueError("one class")
    return 1.0


@pytest.mark.parametrize("function", [accuracy, weighted_accuracy])
def test_replicates_are_those_of_the_same_built_in_metric(function: object) -> None:
    assert callable(function)
    own = custom_replicates(function, LABELS, PROBABILITIES, PATIENT_INDEX, WEIGHTS)
    built_in = metric_replicates("accuracy", LABELS, PROBABILITIES, PATIENT_INDEX, WEIGHTS)
    np.testing.assert_allclose(own, built_in, rtol=1e-12)


def test_an_undefined_metric_is_none_and_nan() -> None:
    rows = np.zeros(4, np.int64)
    assert custom_metric(of_two_classes, rows, PROBABILITIES[:4]) is None
    assert custom_metric(lambda _labels, _scores: float("nan"), rows, PROBABILITIES[:4]) is None
    values = custom_replicates(
        of_two_classes,
        np.array([0, 1]),
        PROBABILITIES[:2],
        np.array([0, 1]),
        np.array([[1.0, 1.0], [2.0, 0.0]]),
    )
    np.testing.assert_array_equal(values, [1.0, np.nan])


def test_an_evaluation_has_further_metrics_with_intervals_and_by_fold() -> None:
    custom = {"own:kappa": kappa}
    assert classification_metrics(LABELS, PROBABILITIES, ["a", "b"], custom)["own:kappa"] == kappa(
        LABELS, PROBABILITIES
    )
    patients = np.array([f"p{number}" for number in PATIENT_INDEX])
    scored = ScoredRows(LABELS, PROBABILITIES, patients, ("a", "b"))
    folds = (PATIENT_INDEX % 2).astype(np.int64)
    evaluation = evaluate_predictions(scored, folds, num_replicates=30, custom=custom)
    interval = evaluation.metrics["own:kappa"]
    assert interval.value == pytest.approx(kappa(LABELS, PROBABILITIES))
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < kappa(LABELS, PROBABILITIES) < interval.high
    assert evaluation.baseline["own:kappa"] == 0.0
    in_fold = folds == 1
    assert evaluation.folds[1]["own:kappa"] == kappa(LABELS[in_fold], PROBABILITIES[in_fold])


def failing(_labels: Ints, _probabilities: Floats) -> float:
    raise IndexError("no such class")


def failing_with_weights(
    labels: Ints, probabilities: Floats, sample_weight: Floats | None = None
) -> float:
    if sample_weight is not None:
        raise KeyError("weigths")
    return accuracy(labels, probabilities)


def needs_both_classes(labels: Ints, _probabilities: Floats) -> float:
    positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    return float(labels[positives[0]] + labels[negatives[0]])


def test_an_exception_of_a_metric_is_one_line_and_never_undefined() -> None:
    with pytest.raises(SpaceError, match=r"test_custom_metric:failing: IndexError: no such class"):
        custom_metric(failing, LABELS, PROBABILITIES)
    for function, name in ((failing, "IndexError"), (failing_with_weights, "KeyError")):
        with pytest.raises(SpaceError, match=name):
            custom_replicates(function, LABELS, PROBABILITIES, PATIENT_INDEX, WEIGHTS)


def test_an_exception_in_a_replicate_without_a_class_is_undefined() -> None:
    labels, patients = np.array([0, 1]), np.array([0, 1])
    weights = np.array([[1.0, 1.0], [2.0, 0.0]])
    values = custom_replicates(needs_both_classes, labels, PROBABILITIES[:2], patients, weights)
    np.testing.assert_array_equal(values, [1.0, np.nan])
