"""The evaluation of predictions, compared with scikit-learn and for consistency."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from raysearch.metrics.evaluation import Evaluation, ScoredRows, evaluate_predictions
from raysearch.metrics.row_units import PATCHES, SLIDES

NAMES = ("adipose", "fibrous", "other")


def scored_rows(
    num_classes: int, threshold: float | None = None, num_rows: int = 600
) -> ScoredRows:
    """Draw rows of 20 patients with correlated scores."""
    generator = np.random.default_rng(num_classes)
    frequencies = np.arange(1, num_classes + 1) / sum(range(num_classes + 1))
    labels = generator.choice(num_classes, size=num_rows, p=frequencies)
    patients = generator.integers(20, size=num_rows)
    logits = 1.5 * np.eye(num_classes)[labels] + generator.normal(0, 1, (num_rows, num_classes))
    logits += generator.normal(0, 0.5, (20, num_classes))[patients]
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    class_names = NAMES[:num_classes]
    return ScoredRows(labels, probabilities, patients.astype(np.str_), class_names, threshold)


def by_scikit_learn(scored: ScoredRows, predicted: NDArray[np.int64]) -> dict[str, float]:
    labels, second = scored.labels, scored.probabilities[:, 1]
    return {
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "precision": sk.precision_score(labels, predicted),
        "recall": sk.recall_score(labels, predicted),
        "f1": sk.f1_score(labels, predicted),
        "specificity": sk.recall_score(labels, predicted, pos_label=0),
        "macro_f1": sk.f1_score(labels, predicted, average="macro"),
        "mcc": sk.matthews_corrcoef(labels, predicted),
        "auroc": sk.roc_auc_score(labels, second),
        "average_precision": sk.average_precision_score(labels, second),
        "brier": sk.brier_score_loss(labels, second),
        "log_loss": sk.log_loss(labels, scored.probabilities),
    }


@pytest.mark.parametrize("threshold", [None, 0.2, 0.5, 0.8])
def test_two_classes_have_scikit_learns_metrics_at_the_threshold(
    threshold: float | None,
) -> None:
    scored = scored_rows(2, threshold)
    predicted = (scored.probabilities[:, 1] >= (threshold or 0.5)).astype(np.int64)
    evaluation = evaluate_predictions(scored, num_replicates=50)
    for name, value in by_scikit_learn(scored, predicted).items():
        assert evaluation.metrics[name].value == pytest.approx(value, abs=1e-9), name
    assert evaluation.confusion.tolist() == sk.confusion_matrix(scored.labels, predicted).tolist()


def test_each_of_several_classes_is_evaluated_against_the_others() -> None:
    scored = scored_rows(3)
    predicted = scored.probabilities.argmax(axis=1)
    evaluation = evaluate_predictions(scored, num_replicates=50)
    expected_report = sk.classification_report(
        scored.labels, predicted, target_names=NAMES, output_dict=True, digits=9
    )
    for report in evaluation.classes:
        expected = expected_report[report.name]
        assert report.support == expected["support"]
        assert report.precision.value == pytest.approx(expected["precision"], abs=1e-9)
        assert report.recall.value == pytest.approx(expected["recall"], abs=1e-9)
        assert report.f1.value == pytest.approx(expected["f1-score"], abs=1e-9)
    assert evaluation.metrics["macro_recall"].value == pytest.approx(
        expected_report["macro avg"]["recall"], abs=1e-9
    )
    assert evaluation.patient_level is None
    assert evaluation.rule_out == ()


def row_counts(evaluation: Evaluation) -> set[int]:
    """Return the number of rows that each table counts."""
    return {
        evaluation.rows,
        sum(report.support for report in evaluation.classes),
        int(evaluation.confusion.sum()),
        int(evaluation.reliability.rows.sum()),
        *(row.total_rows for row in evaluation.coverage),
        *(sum(by_class.total_rows for by_class in row.classes) for row in evaluation.coverage),
        *(row.total for row in evaluation.rule_out),
        *([int(evaluation.patient_level.table.rows.sum())] if evaluation.patient_level else []),
    }


@pytest.mark.parametrize("num_classes", [2, 3])
def test_each_table_counts_all_rows_and_each_interval_contains_its_value(num_classes: int) -> None:
    evaluation = evaluate_predictions(scored_rows(num_classes), num_replicates=200)
    assert row_counts(evaluation) == {600}
    for interval in evaluation.metrics.values():
        assert interval.low is not None
        assert interval.value is not None
        assert interval.high is not None
        assert interval.low <= interval.value <= interval.high
        assert interval.high - interval.low > 0.005


def test_the_baseline_has_the_accuracy_of_the_most_frequent_class() -> None:
    scored = scored_rows(2)
    baseline = evaluate_predictions(scored, num_replicates=10).baseline
    fraction = float((scored.labels == 1).mean())
    assert baseline["accuracy"] == pytest.approx(max(fraction, 1 - fraction))
    assert baseline["auroc"] == 0.5
    assert baseline["balanced_accuracy"] == 0.5
    assert baseline["average_precision"] == pytest.approx(fraction)


def test_a_fold_has_the_metrics_of_its_rows() -> None:
    scored = scored_rows(2, 0.4)
    folds = np.arange(600) % 3
    evaluation = evaluate_predictions(scored, folds, num_replicates=10)
    in_fold = folds == 2
    assert evaluation.folds[2]["auroc"] == pytest.approx(
        sk.roc_auc_score(scored.labels[in_fold], scored.probabilities[in_fold, 1]), abs=1e-9
    )
    assert evaluation.folds[2]["recall"] == pytest.approx(
        sk.recall_score(scored.labels[in_fold], scored.probabilities[in_fold, 1] >= 0.4), abs=1e-9
    )


def test_patients_are_ranked_by_the_scores_of_their_rows() -> None:
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 20)
    is_positive = np.arange(30) % 2
    labels = (is_positive[patients] & (generator.random(600) < 0.5)).astype(np.int64)
    score = np.clip(0.2 + 0.5 * labels + generator.normal(0, 0.1, 600), 0.001, 0.999)
    scored = ScoredRows(
        labels, np.column_stack([1 - score, score]), patients.astype(np.str_), ("no", "yes"), 0.5
    )
    evaluation = evaluate_predictions(scored, num_replicates=100).patient_level
    assert evaluation is not None
    assert {name: interval.value for name, interval in evaluation.auroc.items()}["mean"] == 1.0
    assert all(row.total == 30 and row.positives == 15 for row in evaluation.rule_out)


def test_one_patient_has_values_and_no_intervals() -> None:
    scored = scored_rows(2)
    alone = ScoredRows(scored.labels, scored.probabilities, np.full(600, "a"), scored.class_names)
    evaluation = evaluate_predictions(alone, num_replicates=10)
    assert evaluation.metrics["accuracy"].value is not None
    assert {interval.low for interval in evaluation.metrics.values()} == {None}


def test_invalid_rows_are_rejected() -> None:
    scored = scored_rows(2)
    broken = scored.probabilities.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        evaluate_predictions(ScoredRows(scored.labels, broken, scored.patients, scored.class_names))
    empty = ScoredRows(
        np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0, np.str_), scored.class_names
    )
    with pytest.raises(ValueError, match="no rows"):
        evaluate_predictions(empty)


def test_an_evaluation_is_of_the_unit_of_its_rows() -> None:
    scored = scored_rows(2, num_rows=100)
    assert evaluate_predictions(scored, num_replicates=20).unit == PATCHES
    slides = replace(scored, unit=SLIDES)
    folds = np.arange(100) % 2
    assert evaluate_predictions(slides, folds, num_replicates=20).unit == SLIDES
