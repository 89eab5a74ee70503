"""All that is said of one set of scored rows, against scikit-learn and against itself."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from raysearch.metrics.evaluation import Assessment, Scored, assess

NAMES = ("adipose", "fibrous", "other")


def scored(classes: int, threshold: float | None = None, rows: int = 600) -> Scored:
    draw = np.random.default_rng(classes)
    labels = draw.choice(classes, size=rows, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    patients = draw.integers(20, size=rows)
    logits = 1.5 * np.eye(classes)[labels] + draw.normal(0, 1, (rows, classes))
    logits += draw.normal(0, 0.5, (20, classes))[patients]
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    return Scored(labels, probabilities, patients.astype(np.str_), NAMES[:classes], threshold)


def by_scikit_learn(found: Scored, decided: NDArray[np.int64]) -> dict[str, float]:
    labels, second = found.labels, found.probabilities[:, 1]
    return {
        "accuracy": sk.accuracy_score(labels, decided),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, decided),
        "precision": sk.precision_score(labels, decided),
        "recall": sk.recall_score(labels, decided),
        "f1": sk.f1_score(labels, decided),
        "specificity": sk.recall_score(labels, decided, pos_label=0),
        "macro_f1": sk.f1_score(labels, decided, average="macro"),
        "mcc": sk.matthews_corrcoef(labels, decided),
        "auroc": sk.roc_auc_score(labels, second),
        "average_precision": sk.average_precision_score(labels, second),
        "brier": sk.brier_score_loss(labels, second),
        "log_loss": sk.log_loss(labels, found.probabilities),
    }


@pytest.mark.parametrize("threshold", [None, 0.2, 0.5, 0.8])
def test_two_classes_are_judged_as_scikit_learn_judges_what_the_threshold_decides(
    threshold: float | None,
) -> None:
    given = scored(2, threshold)
    decided = (given.probabilities[:, 1] >= (threshold or 0.5)).astype(np.int64)
    found = assess(given, draws=50)
    for name, value in by_scikit_learn(given, decided).items():
        assert found.metrics[name].value == pytest.approx(value, abs=1e-9), name
    assert found.confusion.tolist() == sk.confusion_matrix(given.labels, decided).tolist()


def test_each_class_of_several_is_judged_against_the_rest() -> None:
    given = scored(3)
    decided = given.probabilities.argmax(axis=1)
    found = assess(given, draws=50)
    report = sk.classification_report(
        given.labels, decided, target_names=NAMES, output_dict=True, digits=9
    )
    for one in found.classes:
        wanted = report[one.name]
        assert one.support == wanted["support"]
        assert one.precision.value == pytest.approx(wanted["precision"], abs=1e-9)
        assert one.recall.value == pytest.approx(wanted["recall"], abs=1e-9)
        assert one.f1.value == pytest.approx(wanted["f1-score"], abs=1e-9)
    assert found.metrics["macro_recall"].value == pytest.approx(
        report["macro avg"]["recall"], abs=1e-9
    )
    assert found.by_patient is None
    assert found.triage == ()


def supports(found: Assessment) -> set[int]:
    """By every table of it, the rows of the set."""
    return {
        found.rows,
        sum(one.support for one in found.classes),
        int(found.confusion.sum()),
        int(found.reliability.rows.sum()),
        *(one.of for one in found.coverage),
        *(sum(some.of for some in one.classes) for one in found.coverage),
        *(one.of for one in found.triage),
        *([int(found.by_patient.table.rows.sum())] if found.by_patient else []),
    }


@pytest.mark.parametrize("classes", [2, 3])
def test_every_table_is_of_all_rows_and_every_interval_holds_its_value(classes: int) -> None:
    found = assess(scored(classes), draws=200)
    assert supports(found) == {600}
    for one in found.metrics.values():
        assert one.low is not None
        assert one.value is not None
        assert one.high is not None
        assert one.low <= one.value <= one.high
        assert one.high - one.low > 0.005


def test_who_guesses_the_shares_of_the_classes_is_right_as_often_as_the_most_frequent_one() -> None:
    given = scored(2)
    baseline = assess(given, draws=10).baseline
    fraction = float((given.labels == 1).mean())
    assert baseline["accuracy"] == pytest.approx(max(fraction, 1 - fraction))
    assert baseline["auroc"] == 0.5
    assert baseline["balanced_accuracy"] == 0.5
    assert baseline["average_precision"] == pytest.approx(fraction)


def test_a_fold_alone_has_the_metrics_of_its_rows() -> None:
    given = scored(2, 0.4)
    folds = np.arange(600) % 3
    found = assess(given, folds, draws=10)
    own = folds == 2
    assert found.folds[2]["auroc"] == pytest.approx(
        sk.roc_auc_score(given.labels[own], given.probabilities[own, 1]), abs=1e-9
    )
    assert found.folds[2]["recall"] == pytest.approx(
        sk.recall_score(given.labels[own], given.probabilities[own, 1] >= 0.4), abs=1e-9
    )


def test_patients_are_ranked_by_what_their_rows_say_together() -> None:
    draw = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 20)
    ill = np.arange(30) % 2
    labels = (ill[patients] & (draw.random(600) < 0.5)).astype(np.int64)
    score = np.clip(0.2 + 0.5 * labels + draw.normal(0, 0.1, 600), 0.001, 0.999)
    given = Scored(
        labels, np.column_stack([1 - score, score]), patients.astype(np.str_), ("no", "yes"), 0.5
    )
    found = assess(given, draws=100).by_patient
    assert found is not None
    assert {name: one.value for name, one in found.auroc.items()}["mean"] == 1.0
    assert all(one.of == 30 and one.positives == 15 for one in found.triage)


def test_one_patient_has_values_and_no_intervals() -> None:
    given = scored(2)
    alone = Scored(given.labels, given.probabilities, np.full(600, "one"), given.class_names)
    found = assess(alone, draws=10)
    assert found.metrics["accuracy"].value is not None
    assert {one.low for one in found.metrics.values()} == {None}


def test_what_cannot_be_assessed_is_rejected() -> None:
    given = scored(2)
    broken = given.probabilities.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        assess(Scored(given.labels, broken, given.patients, given.class_names))
    none = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="no rows"):
        assess(Scored(none, np.zeros((0, 2)), np.zeros(0, np.str_), given.class_names))
