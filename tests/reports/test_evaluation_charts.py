"""The charts of an evaluation have legends, equal sides where rates are compared, and the data."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from raysearch.data.csv_files import parse_csv
from raysearch.metrics.calibration import NUM_BINS, reliability
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.row_units import SLIDES
from raysearch.reports.chart_canvas import Chart
from raysearch.reports.evaluation_charts import evaluation_charts
from raysearch.reports.study_report import EvaluatedSet, evaluate_set


@cache
def evaluated_set(num_classes: int) -> EvaluatedSet:
    rng = np.random.default_rng(0)
    labels = np.arange(160) % num_classes
    probabilities = rng.dirichlet(np.full(num_classes, 0.5), 160)
    probabilities[np.arange(160), labels] += rng.random(160)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    patients = np.array([f"p{number % 8}" for number in range(160)])
    names = tuple(f"class {number}" for number in range(num_classes))
    threshold = 0.6 if num_classes == 2 else None
    return evaluate_set(
        "a set", "text", ScoredRows(labels, probabilities, patients, names, threshold)
    )


@cache
def charts_of(num_classes: int) -> dict[str, Chart]:
    evaluated = evaluated_set(num_classes)
    scored = evaluated.scored
    before = reliability(scored.labels, scored.probabilities)
    charts = evaluation_charts(
        scored, evaluated.evaluation, before, evaluated.name, is_calibrated=True
    )
    assert all(chart.name.startswith("a-set-") for chart in charts)
    return {chart.name.removeprefix("a-set-"): chart for chart in charts}


def words_of(chart: Chart) -> str:
    return "\n".join(ET.fromstring(chart.svg).itertext())


def rows_of(chart: Chart) -> list[dict[str, str]]:
    table = parse_csv(chart.csv)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_the_legend_of_the_roc_curve_has_the_auroc_with_its_interval() -> None:
    words = words_of(charts_of(2)["roc"])
    auroc = evaluated_set(2).evaluation.metrics["auroc"]
    assert f"class 1: AUROC {auroc.value:.3f} ({auroc.low:.3f} to {auroc.high:.3f})" in words
    assert "chance: AUROC 0.5" in words
    assert "decision at a probability of 0.600" in words


def test_the_roc_curve_of_several_classes_has_the_auroc_of_each() -> None:
    words = words_of(charts_of(8)["roc"])
    for number in range(8):
        assert re.search(
            rf"class {number}: AUROC 0\.\d{{3}} \(0\.\d{{3}} to [01]\.\d{{3}}\)", words
        )


@pytest.mark.parametrize("name", ["roc", "precision-recall", "reliability", "confusion-matrix"])
@pytest.mark.parametrize("num_classes", [2, 8])
def test_a_chart_of_two_rates_is_a_square(name: str, num_classes: int) -> None:
    """The clip path of matplotlib is the rectangle of the axes."""
    root = ET.fromstring(charts_of(num_classes)[name].svg)
    axes = max(root.iter("rect"), key=lambda rect: float(rect.attrib["width"]))
    width, height = float(axes.attrib["width"]), float(axes.attrib["height"])
    assert width == pytest.approx(height, abs=0.5)
    assert width > 180


def test_the_data_of_the_roc_curve_is_that_of_the_curve() -> None:
    rows = rows_of(charts_of(2)["roc"])
    assert len(rows) == 101
    values = [float(row["sensitivity"]) for row in rows]
    assert values == sorted(values)
    assert values[-1] == 1
    assert all(float(row["low"]) <= float(row["high"]) for row in rows)


def test_the_data_of_the_confusion_matrix_is_its_counts() -> None:
    for num_classes in (2, 8):
        chart = charts_of(num_classes)["confusion-matrix"]
        counts = [int(row["patches"]) for row in rows_of(chart)]
        assert counts == evaluated_set(num_classes).evaluation.confusion.ravel().tolist()
        words = words_of(chart)
        for word in ("0%", "100%", "fraction of the true class", "predicted class", "true class"):
            assert word in words


def test_other_error_rates_of_the_page_are_explained() -> None:
    evaluation = evaluated_set(2).evaluation
    accuracy = evaluation.metrics["accuracy"].value
    assert accuracy is not None
    caption = charts_of(2)["risk-coverage"].caption
    assert f"an error rate of {1 - accuracy:.3f}, because it decides at the threshold" in caption
    assert "threshold" not in charts_of(8)["risk-coverage"].caption
    reliability_words = words_of(charts_of(2)["reliability"])
    assert "calibrated: calibration error" in reliability_words
    assert "before temperature scaling: calibration error" in reliability_words


def test_the_reliability_diagram_says_what_its_lines_and_dots_are() -> None:
    # Rows of one class have no curves, which take longer to draw.
    rows = np.arange(8)
    scored = ScoredRows(
        np.zeros(8, np.int64), np.tile([0.7, 0.3], (8, 1)), rows.astype(np.str_), ("a", "b")
    )
    evaluated = evaluate_set("a set", "text", scored)
    charts = evaluation_charts(
        scored, evaluated.evaluation, None, "a set", is_calibrated=evaluated.is_calibrated
    )
    (chart,) = (chart for chart in charts if chart.name == "a-set-reliability")
    assert f"one of {NUM_BINS} equal intervals" in chart.caption
    assert {row["scores"] for row in rows_of(chart)} == {"scores"}
    assert "scores: calibration error" in words_of(chart)


def texts_of(chart: Chart) -> str:
    return "\n".join([chart.title, chart.caption, words_of(chart), chart.csv.decode()])


def test_the_charts_of_slides_speak_of_slides() -> None:
    scored = replace(evaluated_set(2).scored, unit=SLIDES)
    evaluated = evaluate_set("a set", "text", scored)
    before = reliability(scored.labels, scored.probabilities)
    charts = evaluation_charts(scored, evaluated.evaluation, before, "a set", is_calibrated=True)
    texts = {chart.name.removeprefix("a-set-"): texts_of(chart) for chart in charts}
    of_patches = {name: texts_of(chart) for name, chart in charts_of(2).items()}
    # The same texts, except for the word.
    assert texts == {name: text.replace("patches", "slides") for name, text in of_patches.items()}
    changed = {name for name, text in of_patches.items() if "patches" in text}
    assert changed == {"confusion-matrix", "reliability", "risk-coverage"}
