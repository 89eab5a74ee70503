import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from raysearch.metrics.classification import METRICS, score

NAMES = ("negative", "positive")


def both(positive: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    scores = np.array(positive)
    return np.stack([1 - scores, scores], axis=1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(10, 300))
def test_binary_metrics_agree_with_counts_by_hand(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, size)
    labels[:2] = 0, 1
    chance = random.random(size)
    chance[:2] = 0.1, 0.9
    found = score(labels, both(chance.tolist()), NAMES)
    predicted = chance > 0.5
    right = int((predicted & (labels == 1)).sum())
    assert found["precision"] == pytest.approx(right / predicted.sum(), abs=1e-12)
    assert found["recall"] == pytest.approx(right / labels.sum(), abs=1e-12)
    assert found["accuracy"] == pytest.approx((predicted == labels).mean(), abs=1e-12)
    assert found["brier"] == pytest.approx(((chance - labels) ** 2).mean(), abs=1e-12)
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(labels, chance), abs=1e-12)
    specificity = (~predicted & (labels == 0)).sum() / (labels == 0).sum()
    assert found["specificity"] == found["recall_negative"] == pytest.approx(specificity, abs=1e-12)
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, predicted), abs=1e-12)
    mean = (specificity + right / labels.sum()) / 2
    assert found["balanced_accuracy"] == pytest.approx(mean, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_metrics_of_several_classes_agree_with_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(4), random.integers(0, 4, 96)])
    chances = random.dirichlet(np.ones(4), 100)
    chances[:4] = np.eye(4)
    found = score(labels, chances, ("a", "b", "c", "d"))
    predicted = chances.argmax(axis=1)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    auroc = sk.roc_auc_score(labels, chances, multi_class="ovr")
    assert found["auroc"] == pytest.approx(auroc, abs=1e-12)
    assert found["f1_c"] == pytest.approx(
        sk.f1_score(labels, predicted, average=None)[2], abs=1e-12
    )
    assert found["log_loss"] == pytest.approx(sk.log_loss(labels, chances))
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, predicted), abs=1e-12)
    fine = sk.multilabel_confusion_matrix(labels, predicted)[:, 0]
    fractions = fine[:, 0] / fine.sum(axis=1)
    assert found["specificity_c"] == pytest.approx(fractions[2], abs=1e-12)
    assert found["specificity"] == pytest.approx(fractions.mean(), abs=1e-12)


def test_what_is_undefined_is_none_and_never_one() -> None:
    found = score(np.array([0, 0, 0]), both([0.1, 0.2, 0.3]), NAMES)
    assert found["auroc"] is None
    assert found["average_precision"] is None
    assert found["precision"] is None
    assert found["recall"] is None
    assert found["f1"] is None
    assert found["specificity"] == 1.0
    assert found["specificity_negative"] is None
    assert found["mcc"] is None
    assert found["accuracy"] == 1.0
    assert found["macro_f1"] is None


def test_without_two_classes_balanced_accuracy_is_undefined_and_else_that_of_scikit_learn() -> None:
    assert score(np.zeros(3, int), both([0.1, 0.2, 0.3]), NAMES)["balanced_accuracy"] is None
    labels, chances = np.array([0, 0, 1, 1]), np.eye(3)[[0, 0, 1, 0]]
    found = score(labels, chances, ("a", "b", "c"))
    expected = sk.balanced_accuracy_score(labels, chances.argmax(axis=1))
    assert found["balanced_accuracy"] == pytest.approx(expected, abs=1e-12)
    assert found["recall_c"] is None
    assert found["macro_recall"] is None


def test_of_no_rows_everything_is_undefined() -> None:
    found = score(np.zeros(0, int), np.zeros((0, 2)), NAMES)
    assert set(METRICS) <= set(found)
    assert set(found.values()) == {None}


def test_a_float32_softmax_is_scored_without_a_warning() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 1000)
    exact = random.dirichlet(np.ones(5), 1000)
    rounded = exact.astype(np.float32).astype(np.float64)
    found = score(labels, rounded, tuple("abcde"))
    assert found["log_loss"] == pytest.approx(sk.log_loss(labels, exact), abs=1e-6)


def test_logits_are_no_probabilities() -> None:
    with pytest.raises(ValueError, match="give a softmax"):
        score(np.array([0, 1]), np.array([[3.0, -1.0], [0.2, 2.0]]), NAMES)


def test_the_majority_class_scores_as_chance() -> None:
    labels = np.array([0] * 70 + [1] * 30)
    found = score(labels, np.tile([0.7, 0.3], (100, 1)), NAMES)
    assert found["auroc"] == 0.5
    assert found["accuracy"] == 0.7
    assert found["balanced_accuracy"] == 0.5
    assert found["recall"] == 0.0


def test_every_objective_is_reported_whatever_the_classes_are_called() -> None:
    found = score(np.array([0, 1]), both([0.1, 0.9]), ("yes", "no"))
    assert set(METRICS) <= set(found)
    assert all(value is not None for value in found.values())
