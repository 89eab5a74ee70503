"""Scores unlike those of the training set are reported, those of the same source are not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from raysearch.metrics import score_shift as module
from raysearch.metrics.row_units import SLIDES
from raysearch.metrics.score_shift import (
    CalibrationShift,
    PatientScores,
    calibration_shift,
    score_shift,
)

NAMES = ("no", "yes")


def sample(
    seed: int, patients: int, sharpness: float = 1.0, overconfidence: float = 1.0, rows: int = 40
) -> PatientScores:
    """Rows of patients with an effect of their own, scored by a model of which one is calibrated.

    `sharpness` is the spread of the true logits, `overconfidence` the factor of the predicted ones.
    """
    generator = np.random.default_rng(seed)
    effect = np.repeat(generator.normal(0, 1, patients), rows)
    logits = effect + generator.normal(0, 1.5 * sharpness, patients * rows)
    labels = (generator.random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    scores = 1 / (1 + np.exp(-overconfidence * logits))
    names = np.repeat([f"{seed}-{number}" for number in range(patients)], rows)
    return PatientScores(np.column_stack([1 - scores, scores]), names, labels)


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    reference, new = sample(0, 30), sample(1, 10, overconfidence=3)
    shift = score_shift(reference, new, NAMES)
    expected = ks_2samp(reference.confidence, new.confidence).statistic
    assert shift.quantity == "confidence"
    assert shift.distance == pytest.approx(expected, abs=0.02)
    assert shift.mean == pytest.approx(new.confidence.mean())
    assert shift.reference_mean == pytest.approx(reference.confidence.mean())


def test_the_same_source_is_significant_as_seldom_as_the_level_says() -> None:
    """Patients differ; a test that counted patches as independent would reject nearly always."""
    p_values = [
        score_shift(sample(seed, 25), sample(seed + 1000, 12), NAMES).p_value for seed in range(60)
    ]
    assert np.mean(np.array(p_values) <= 0.1) <= 0.25
    assert min(p_values) >= 0.001
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.15)


def test_other_scores_are_reported_in_one_line_with_their_figures() -> None:
    shift = score_shift(sample(0, 40), sample(1, 15, overconfidence=6), NAMES)
    assert shift.is_notable
    assert shift.p_value == pytest.approx(0.001)
    text = str(shift)
    assert f"mean confidence {shift.mean:.3f}, out of fold {shift.reference_mean:.3f}" in text
    assert f"distance {shift.distance:.2f}, p 0.001, 15 patients" in text
    assert "\n" not in text


def test_a_significant_but_small_shift_is_not_reported() -> None:
    shift = score_shift(sample(0, 800, rows=20), sample(1, 800, 1.15, rows=20), NAMES)
    assert shift.distance < module.MIN_DISTANCE
    assert not shift.is_notable


def test_another_class_frequency_is_found_in_the_score_of_a_class() -> None:
    reference, new = sample(0, 40), sample(0, 40)
    flipped = PatientScores(new.probabilities[:, ::-1], new.patients, new.labels)
    is_low = flipped.probabilities[:, 1] < 0.5
    new = PatientScores(flipped.probabilities[is_low], flipped.patients[is_low])
    shift = score_shift(reference, new, NAMES)
    assert shift.quantity in NAMES
    assert f"mean score of {shift.quantity}" in str(shift)


def test_of_very_many_patients_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PATIENTS", 20)
    shift = score_shift(sample(0, 30), sample(1, 50, overconfidence=6), NAMES)
    assert shift.num_patients == 50
    assert shift.is_notable
    assert "50 patients" in str(shift)


def check(new: PatientScores) -> CalibrationShift:
    return calibration_shift(sample(0, 40), new)


def test_overconfident_probabilities_are_reported_with_the_accuracy_of_confident_rows() -> None:
    new = sample(1, 20, sharpness=0.5, overconfidence=8)
    shift = check(new)
    assert shift.is_notable
    confident = new.confidence >= 0.95
    assert shift.confident_rows is not None
    assert shift.confident_rows.accuracy.value == pytest.approx(new.correct[confident].mean())
    text = str(shift)
    assert text.startswith("the probabilities are overconfident here: accuracy ")
    assert f"in the {int(confident.sum()):,} patches with a confidence of at least 0.95" in text
    of_slides = str(check(replace(new, unit=SLIDES)))
    assert of_slides == text.replace("patches", "slides")
    assert replace(new, unit=SLIDES).drawn(5, 0).unit == SLIDES
    assert "\n" not in text


def test_wrong_confident_rows_are_reported_although_all_rows_are_calibrated_on_average() -> None:
    new = sample(1, 40)
    assert new.labels is not None
    is_confident = new.confidence >= 0.95
    labels = np.where(is_confident, 1 - new.labels, new.labels)
    shift = check(PatientScores(new.probabilities, new.patients, labels))
    assert shift.are_confident_rows_wrong
    assert shift.is_notable
    assert "overconfident" in str(shift)


def test_underconfident_probabilities_are_reported() -> None:
    shift = check(sample(1, 30, sharpness=3, overconfidence=0.2))
    assert shift.is_notable
    assert "underconfident" in str(shift)


def test_calibrated_probabilities_are_reported_seldom() -> None:
    notable = [check(sample(seed, 12)).is_notable for seed in range(1, 41)]
    assert np.mean(notable) <= 0.05


def test_few_patients_have_no_interval_and_no_report() -> None:
    shift = check(sample(1, 9, sharpness=0.5, overconfidence=8))
    assert (shift.gap.low, shift.gap.high) == (None, None)
    assert not shift.is_notable
