"""ROC and precision-recall curves, compared with scikit-learn."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from raysearch.metrics.curves import GRID, precision_recall_curve, roc_curve


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]:
    """Labels, scores with ties, and 20 patients."""
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=400)
    logits = 2 * labels - 1 + generator.normal(0, 1.5, 400)
    scores = np.round(1 / (1 + np.exp(-logits)), 2)
    return labels, scores, generator.integers(20, size=400).astype(np.str_)


def test_the_roc_curve_is_scikit_learns_and_lies_within_its_band(
    rows: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]],
) -> None:
    labels, scores, patients = rows
    curve = roc_curve(labels, scores, patients)
    false_positive_rate, true_positive_rate, _thresholds = sk.roc_curve(
        labels, scores, drop_intermediate=False
    )
    expected = np.interp(GRID, false_positive_rate, true_positive_rate)
    assert curve.value == pytest.approx(expected, abs=1e-9)
    area = float(np.trapezoid(curve.value, curve.x))
    assert area == pytest.approx(sk.roc_auc_score(labels, scores), abs=0.005)
    assert (curve.low <= curve.value + 1e-9).all()
    assert (curve.value <= curve.high + 1e-9).all()


def test_the_precision_is_that_of_the_highest_threshold_with_the_recall(
    rows: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]],
) -> None:
    labels, scores, patients = rows
    curve = precision_recall_curve(labels, scores, patients)
    lowest_positive = scores[labels == 1].min()
    assert curve.value[-1] == pytest.approx(labels.sum() / (scores >= lowest_positive).sum())
    positive_scores = np.sort(scores[labels == 1])[::-1]
    for percent in (30, 60, 90):
        threshold = positive_scores[int(np.ceil(percent / 100 * labels.sum())) - 1]
        assert curve.value[percent] == pytest.approx(labels[scores >= threshold].mean())


def test_one_class_has_no_curve_and_one_patient_no_band(
    rows: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]],
) -> None:
    labels, scores, patients = rows
    for curve_of in (roc_curve, precision_recall_curve):
        with pytest.raises(ValueError, match="both classes"):
            curve_of(np.zeros(4, np.int64), scores[:4], patients[:4])
        assert np.isnan(curve_of(labels, scores, np.full(400, "a")).low).all()
