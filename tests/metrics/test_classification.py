"""Metrics of probabilities, compared with scikit-learn and with counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from raysearch.metrics.classification import METRICS, classification_metrics

NAMES = ("negative", "positive")


def two_classes(positive: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    scores = np.array(positive)
    return np.stack([1 - scores, scores], axis=1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(10, 300))
def test_binary_metrics_agree_with_counts_by_hand(seed: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, size)
    labels[:2] = 0, 1
    scores = generator.random(size)
    scores[:2] = 0.1, 0.9
    values = classification_metrics(labels, two_classes(scores.tolist()), NAMES)
    predicted = scores > 0.5
    true_positives = int((predicted & (labels == 1)).sum())
    assert values["precision"] == pytest.approx(true_positives / predicted.sum(), abs=1e-12)
    assert values["recall"] == pytest.approx(true_positives / labels.sum(), abs=1e-12)
    assert values["accuracy"] == pytest.approx((predicted == labels).mean(), abs=1e-12)
    assert values["brier"] == pytest.approx(((scores - labels) ** 2).mean(), abs=1e-12)
    assert values["auroc"] == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    specificity = (~predicted & (labels == 0)).sum() / (labels == 0).sum()
    assert (
        values["specificity"] == values["recall_negative"] == pytest.approx(specificity, abs=1e-12)
    )
    assert values["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, predicted), abs=1e-12)
    mean = (specificity + true_positives / labels.sum()) / 2
    assert values["balanced_accuracy"] == pytest.approx(mean, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_metrics_of_several_classes_agree_with_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(4), generator.integers(0, 4, 96)])
    probabilities = generator.dirichlet(np.ones(4), 100)
    probabilities[:4] = np.eye(4)
    values = classification_metrics(labels, probabilities, ("a", "b", "c", "d"))
    predicted = probabilities.argmax(axis=1)
    assert values["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    auroc = sk.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert values["auroc"] == pytest.approx(auroc, abs=1e-12)
    assert values["f1_c"] == pytest.approx(
        sk.f1_score(labels, predicted, average=None)[2], abs=1e-12
    )
    assert values["log_loss"] == pytest.approx(sk.log_loss(labels, probabilities))
    assert values["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, predicted), abs=1e-12)
    negatives = sk.multilabel_confusion_matrix(labels, predicted)[:, 0]
    fractions = negatives[:, 0] / negatives.sum(axis=1)
    assert values["specificity_c"] == pytest.approx(fractions[2], abs=1e-12)
    assert values["specificity"] == pytest.approx(fractions.mean(), abs=1e-12)


def test_undefined_metrics_are_none_and_never_one() -> None:
    values = classification_metrics(np.array([0, 0, 0]), two_classes([0.1, 0.2, 0.3]), NAMES)
    assert values["auroc"] is None
    assert values["average_precision"] is None
    assert values["precision"] is None
    assert values["recall"] is None
    assert values["f1"] is None
    assert values["specificity"] == 1.0
    assert values["specificity_negative"] is None
    assert values["mcc"] is None
    assert values["accuracy"] == 1.0
    assert values["macro_f1"] is None


def test_balanced_accuracy_is_scikit_learns_and_undefined_for_one_class() -> None:
    values = classification_metrics(np.zeros(3, int), two_classes([0.1, 0.2, 0.3]), NAMES)
    assert values["balanced_accuracy"] is None
    labels, probabilities = np.array([0, 0, 1, 1]), np.eye(3)[[0, 0, 1, 0]]
    values = classification_metrics(labels, probabilities, ("a", "b", "c"))
    expected = sk.balanced_accuracy_score(labels, probabilities.argmax(axis=1))
    assert values["balanced_accuracy"] == pytest.approx(expected, abs=1e-12)
    assert values["recall_c"] is None
    assert values["macro_recall"] is None


def test_without_rows_all_metrics_are_undefined() -> None:
    values = classification_metrics(np.zeros(0, int), np.zeros((0, 2)), NAMES)
    assert set(METRICS) <= set(values)
    assert set(values.values()) == {None}


def test_a_float32_softmax_gives_no_warning() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 1000)
    probabilities = generator.dirichlet(np.ones(5), 1000)
    float32_probabilities = probabilities.astype(np.float32).astype(np.float64)
    values = classification_metrics(labels, float32_probabilities, tuple("abcde"))
    assert values["log_loss"] == pytest.approx(sk.log_loss(labels, probabilities), abs=1e-6)


def test_logits_are_rejected() -> None:
    with pytest.raises(ValueError, match="pass a softmax"):
        classification_metrics(np.array([0, 1]), np.array([[3.0, -1.0], [0.2, 2.0]]), NAMES)


def test_the_class_frequencies_score_as_chance() -> None:
    labels = np.array([0] * 70 + [1] * 30)
    values = classification_metrics(labels, np.tile([0.7, 0.3], (100, 1)), NAMES)
    assert values["auroc"] == 0.5
    assert values["accuracy"] == 0.7
    assert values["balanced_accuracy"] == 0.5
    assert values["recall"] == 0.0


def test_all_metrics_are_computed_with_any_class_names() -> None:
    values = classification_metrics(np.array([0, 1]), two_classes([0.1, 0.9]), ("yes", "no"))
    assert set(METRICS) <= set(values)
    assert all(value is not None for value in values.values())
