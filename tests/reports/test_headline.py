"""The result in sentences, and the explanation of each value of the objective's metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.row_units import SLIDES
from raysearch.reports.headline import result_text, value_table
from raysearch.reports.study_report import evaluate_set, study_report
from raysearch.search.study.study import Study


def test_the_result_names_the_classes_and_the_rates_with_their_intervals() -> None:
    labels = np.arange(80) % 2
    second = np.where(labels == 1, 0.8, 0.1)
    second[:10] = 0.5
    scored = ScoredRows(
        labels,
        np.column_stack([1 - second, second]),
        np.array([f"p{number % 8}" for number in range(80)]),
        ("benign", "malignant"),
        0.4,
    )
    evaluated = evaluate_set("held-out test set", "text", scored)
    text = result_text(evaluated)
    recall = evaluated.evaluation.classes[1].recall
    assert text.startswith("On 80 patches of 8 patients (held-out test set), the model gives a")
    assert f"At its threshold of 0.400, it detects {recall.value:.1%} ({recall.low:.1%} to" in text
    assert "of those of class benign (specificity)" in text


def test_without_a_threshold_the_result_is_that_of_the_most_probable_class() -> None:
    scored = ScoredRows(
        np.arange(20) % 2,
        np.tile([0.4, 0.6], (20, 1)),
        np.array([f"p{number % 5}" for number in range(20)]),
        ("no", "yes"),
    )
    text = result_text(evaluate_set("x", "text", scored))
    assert "If the most probable class is predicted, it detects 100.0%" in text
    assert "threshold" not in text


def test_the_result_of_several_classes_is_the_accuracy() -> None:
    scored = ScoredRows(
        np.arange(30) % 3,
        np.tile([0.5, 0.3, 0.2], (30, 1)),
        np.array([f"p{number % 5}" for number in range(30)]),
        ("a", "b", "c"),
    )
    assert "predicts the true class of 33.3%" in result_text(evaluate_set("x", "text", scored))


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_result_of_slides_speaks_of_slides(num_classes: int) -> None:
    patches = ScoredRows(
        np.arange(30) % num_classes,
        np.tile(np.full(num_classes, 1 / num_classes), (30, 1)),
        np.array([f"p{number % 5}" for number in range(30)]),
        ("a", "b", "c")[:num_classes],
    )
    text = result_text(evaluate_set("x", "text", replace(patches, unit=SLIDES)))
    assert text.startswith("On 30 slides of 5 patients (x), the model ")
    assert "patch" not in text
    assert ("gives a slide of class b a higher" in text) == (num_classes == 2)
    assert ") of the slides" in text


@pytest.mark.filterwarnings("ignore")
def test_each_value_of_the_metric_says_why_it_differs(
    small_champion_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = study_report(small_champion_study.folder)
    monkeypatch.setattr(report.history, "repeat_objectives", (0.75,))
    table = value_table(report)
    assert table.title == "The values of auroc on this page"
    values = {row[0]: row[1] for row in table.rows}
    candidate = report.selection.candidate_of(report.selection.chosen)
    assert values["mean over folds"] == f"{report.champion.objective:.4f}"
    assert values["pooled out of fold"] == f"{candidate.objective.value:.4f}"
    assert values["bias-corrected estimate"] == f"{report.selection.corrected.value:.4f}"
    assert values["repeat"] == "0.7500"
    (text,) = (row[3] for row in table.rows if row[0] == "repeat")
    assert text.startswith("One value of the patches of all folds together")
    # The decision rule does not change the order of the scores of two classes.
    assert "out of fold" not in values
    assert all(row[3].endswith(".") for row in table.rows)
