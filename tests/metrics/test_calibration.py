"""Temperature, reliability and threshold, against their definitions."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from raysearch.metrics.calibration import (
    CRITERIA,
    fit_temperature,
    fit_threshold,
    reliability,
    tempered,
)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("heat", [0.4, 1.0, 3.0])
def test_the_temperature_of_scores_that_were_heated_is_found(classes: int, heat: float) -> None:
    draw = np.random.default_rng(1)
    logits = draw.normal(0, 2, (20_000, classes))
    honest = softmax(logits, axis=1)
    labels = np.array([draw.choice(classes, p=one) for one in honest])
    given = softmax(logits * heat, axis=1)
    found = fit_temperature(labels, given)
    assert found == pytest.approx(heat, rel=0.05)
    after = tempered(given, found)
    assert log_loss(labels, after) <= log_loss(labels, given) + 1e-12
    for other in (0.98, 1.02):
        assert log_loss(labels, after) <= log_loss(labels, tempered(given, found * other))
    assert (after.argmax(axis=1) == given.argmax(axis=1)).all()
    before, now = (reliability(labels, one).error for one in (given, after))
    assert before is not None
    assert now is not None
    assert now < 0.02
    if heat > 1:
        assert before > now + 0.05


def test_probabilities_of_nought_and_one_are_taken() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    found = fit_temperature(np.array([0, 1, 1, 1]), sure)
    assert np.isfinite(tempered(sure, found)).all()
    with pytest.raises(ValueError, match="no rows"):
        fit_temperature(np.array([], np.int64), sure[:0])


def test_reliability_is_scikit_learns_curve_and_its_mean_distance() -> None:
    draw = np.random.default_rng(2)
    positive = draw.uniform(0.5, 1, 3000)
    labels = (draw.random(3000) < positive**2).astype(np.int64)
    found = reliability(labels, np.column_stack([1 - positive, positive]), bins=10)
    right, sure = calibration_curve(labels, positive, n_bins=10)
    known = found.rows > 0
    assert known.sum() == len(right)
    assert found.accuracy[known] == pytest.approx(right, abs=1e-12)
    assert found.confidence[known] == pytest.approx(sure, abs=1e-12)
    assert found.error == pytest.approx(np.abs(right - sure) @ found.rows[known] / 3000, abs=1e-12)
    assert reliability(labels[:0], np.empty((0, 2))).error is None


@pytest.mark.parametrize("criterion", list(CRITERIA))
def test_no_threshold_is_better_than_the_one_that_was_fitted(criterion: str) -> None:
    draw = np.random.default_rng(3)
    labels = (draw.random(300) < 0.2).astype(np.int64)
    scores = np.round(1 / (1 + np.exp(-draw.normal(2 * labels - 1.5, 1))), 2)  # with ties

    def gain(threshold: float) -> float:
        said = (scores >= threshold).astype(np.int64)
        if criterion == "accuracy":
            return float((said == labels).mean())
        judge = {"f1": f1_score, "balanced_accuracy": balanced_accuracy_score}[criterion]
        return float(judge(labels, said))

    found = fit_threshold(labels, scores, criterion)
    assert gain(found) >= max(map(gain, [*np.arange(0, 1.01, 0.005), 2.0])) - 1e-12
    assert found not in scores


def test_of_equally_good_thresholds_the_one_nearest_a_half_is_taken() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.9, 0.95])
    assert fit_threshold(labels, scores) == pytest.approx(0.55)
    with pytest.raises(ValueError, match="both classes"):
        fit_threshold(np.zeros(4, np.int64), scores)
