"""Confusion matrices and their metrics, compared with scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from raysearch.metrics.confusion_matrix import (
    CLASS_METRICS,
    accuracy,
    class_metrics,
    confusion_matrix,
    matthews_corrcoef,
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_metrics_equal_those_of_scikit_learn(seed: int, num_classes: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), generator.integers(0, num_classes, 60)])
    predicted = np.concatenate([np.arange(num_classes), generator.integers(0, num_classes, 60)])
    confusion = confusion_matrix(labels, predicted, num_classes)
    assert confusion.tolist() == sk.confusion_matrix(labels, predicted).tolist()
    by_metric = class_metrics(confusion)
    assert tuple(by_metric) == CLASS_METRICS
    precision, recall, f1, _support = sk.precision_recall_fscore_support(labels, predicted)
    assert by_metric["precision"] == pytest.approx(precision, abs=1e-12)
    assert by_metric["recall"] == pytest.approx(recall, abs=1e-12)
    assert by_metric["f1"] == pytest.approx(f1, abs=1e-12)
    for number in range(num_classes):
        negative_recall = sk.recall_score(labels != number, predicted != number)
        assert by_metric["specificity"][number] == pytest.approx(negative_recall, abs=1e-12)
    assert float(accuracy(confusion)) == pytest.approx(sk.accuracy_score(labels, predicted))
    assert float(matthews_corrcoef(confusion)) == pytest.approx(
        sk.matthews_corrcoef(labels, predicted), abs=1e-12
    )


def test_a_stack_of_matrices_has_the_metrics_of_each() -> None:
    matrices = np.random.default_rng(0).integers(0, 9, (4, 3, 3)).astype(np.float64)
    for name, values in class_metrics(matrices).items():
        assert values.shape == (4, 3)
        for matrix, row in zip(matrices, values, strict=True):
            assert np.array_equal(class_metrics(matrix)[name], row, equal_nan=True)
    assert accuracy(matrices).tolist() == [float(accuracy(matrix)) for matrix in matrices]


def test_undefined_metrics_are_nan() -> None:
    by_metric = class_metrics(np.array([[3, 0], [0, 0]]))
    assert np.isnan([by_metric[name][1] for name in ("precision", "recall", "f1")]).all()
    assert by_metric["specificity"][1] == 1.0
    assert np.isnan(by_metric["specificity"][0])
    assert np.isnan(matthews_corrcoef(np.array([[3, 0], [2, 0]])))
    assert np.isnan(accuracy(np.zeros((2, 2))))
