"""Temperature, reliability and threshold, compared with their definitions."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from raysearch.metrics.calibration import (
    CRITERIA,
    apply_temperature,
    fit_temperature,
    fit_threshold,
    reliability,
)


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_of_miscalibrated_scores_is_recovered(
    num_classes: int, temperature: float
) -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 2, (20_000, num_classes))
    calibrated = softmax(logits, axis=1)
    labels = np.array([generator.choice(num_classes, p=row) for row in calibrated])
    probabilities = softmax(logits * temperature, axis=1)
    fitted = fit_temperature(labels, probabilities)
    assert fitted == pytest.approx(temperature, rel=0.05)
    corrected = apply_temperature(probabilities, fitted)
    assert log_loss(labels, corrected) <= log_loss(labels, probabilities) + 1e-12
    for factor in (0.98, 1.02):
        other = apply_temperature(probabilities, fitted * factor)
        assert log_loss(labels, corrected) <= log_loss(labels, other)
    assert (corrected.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    error_before = reliability(labels, probabilities).error
    error = reliability(labels, corrected).error
    assert error_before is not None
    assert error is not None
    assert error < 0.02
    if temperature > 1:
        assert error_before > error + 0.05


def test_probabilities_of_zero_and_one_are_accepted() -> None:
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    temperature = fit_temperature(np.array([0, 1, 1, 1]), probabilities)
    assert np.isfinite(apply_temperature(probabilities, temperature)).all()
    with pytest.raises(ValueError, match="no rows"):
        fit_temperature(np.array([], np.int64), probabilities[:0])


def test_reliability_is_scikit_learns_curve_and_its_mean_distance() -> None:
    generator = np.random.default_rng(2)
    positive = generator.uniform(0.5, 1, 3000)
    labels = (generator.random(3000) < positive**2).astype(np.int64)
    diagram = reliability(labels, np.column_stack([1 - positive, positive]), num_bins=10)
    accuracy, confidence = calibration_curve(labels, positive, n_bins=10)
    full = diagram.rows > 0
    assert full.sum() == len(accuracy)
    assert diagram.accuracy[full] == pytest.approx(accuracy, abs=1e-12)
    assert diagram.confidence[full] == pytest.approx(confidence, abs=1e-12)
    expected_error = np.abs(accuracy - confidence) @ diagram.rows[full] / 3000
    assert diagram.error == pytest.approx(expected_error, abs=1e-12)
    assert reliability(labels[:0], np.empty((0, 2))).error is None


@pytest.mark.parametrize("criterion", list(CRITERIA))
def test_no_threshold_is_better_than_the_fitted_one(criterion: str) -> None:
    generator = np.random.default_rng(3)
    labels = (generator.random(300) < 0.2).astype(np.int64)
    logits = generator.normal(2 * labels - 1.5, 1)
    scores = np.round(1 / (1 + np.exp(-logits)), 2)  # with ties

    def criterion_value(threshold: float) -> float:
        predicted = (scores >= threshold).astype(np.int64)
        if criterion == "accuracy":
            return float((predicted == labels).mean())
        metric = {"f1": f1_score, "balanced_accuracy": balanced_accuracy_score}[criterion]
        return float(metric(labels, predicted))

    fitted = fit_threshold(labels, scores, criterion)
    thresholds = [*np.arange(0, 1.01, 0.005), 2.0]
    assert criterion_value(fitted) >= max(map(criterion_value, thresholds)) - 1e-12
    assert fitted not in scores


def test_of_equally_good_thresholds_the_one_closest_to_a_half_is_fitted() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.9, 0.95])
    assert fit_threshold(labels, scores) == pytest.approx(0.55)
    with pytest.raises(ValueError, match="both classes"):
        fit_threshold(np.zeros(4, np.int64), scores)
