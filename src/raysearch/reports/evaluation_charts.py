"""Draws the curves and the confusion matrix of an evaluation as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.calibration import Reliability
from raysearch.metrics.curves import Curve, precision_recall_curve, roc_curve
from raysearch.metrics.evaluation import Evaluation, ScoredRows
from raysearch.metrics.selective_prediction import RiskCoverage
from raysearch.reports.html_page import Chart
from raysearch.reports.svg_charts import WIDTH, Axes, Series, line_chart, shorten, svg

MAX_POINTS = 400
# Confusion matrix: height and largest width of a cell, height of the head, width of the names.
CELL_HEIGHT, MAX_CELL_WIDTH, HEAD_HEIGHT, NAMES_WIDTH = 64, 120, 56, 170
MAX_NAME_LENGTH = 18


def evaluation_charts(
    scored: ScoredRows, evaluation: Evaluation, uncalibrated: Reliability | None
) -> list[Chart]:
    """Draw all charts of an evaluation.

    Args:
        scored: The rows with their probabilities.
        evaluation: Their evaluation.
        uncalibrated: The reliability diagram before temperature scaling, if it is known.
    """
    class_names = evaluation.class_names
    return [
        *_ranking_charts(scored),
        Chart("Reliability diagram", _reliability_chart(evaluation.reliability, uncalibrated)),
        Chart("Risk-coverage curve", _risk_coverage_chart(evaluation.risk)),
        Chart("Confusion matrix", confusion_chart(evaluation.confusion, class_names)),
    ]


def _ranking_charts(scored: ScoredRows) -> list[Chart]:
    """Draw ROC and precision-recall curves: of the second of two classes, or of each class."""
    class_names = scored.class_names
    is_binary = len(class_names) == 2
    roc, precision_recall = [], []
    for number in [1] if is_binary else range(len(class_names)):
        labels = (scored.labels == number).astype(np.int64)
        if not 0 < labels.sum() < len(labels):
            continue
        scores, name = scored.probabilities[:, number], class_names[number]
        roc.append(_series(name, roc_curve(labels, scores, scored.patients)))
        curve = precision_recall_curve(labels, scores, scored.patients)
        precision_recall.append(_series(name, curve))
        if is_binary:
            prevalence = float(labels.mean())
            line = np.array([prevalence, prevalence])
            name = f"class-prior baseline ({prevalence:.2f})"
            precision_recall.append(Series(name, np.array([0.0, 1.0]), line))
    if not roc:
        return []
    titles = ("ROC curve", "Precision-recall curve")
    axes = (Axes("false positive rate", "true positive rate"), Axes("recall", "precision"))
    return [
        Chart(titles[0], line_chart(titles[0], axes[0], roc, diagonal=True)),
        Chart(titles[1], line_chart(titles[1], axes[1], precision_recall)),
    ]


def _series(name: str, curve: Curve) -> Series:
    return Series(name, curve.x, curve.value, curve.low, curve.high)


def _reliability_chart(calibrated: Reliability, uncalibrated: Reliability | None) -> str:
    """Draw the accuracy over the confidence."""
    series = [Series("calibrated", *_filled_bins(calibrated))]
    if uncalibrated is not None:
        series.append(Series("before temperature scaling", *_filled_bins(uncalibrated)))
    axes = Axes("confidence", "accuracy")
    title = "Reliability diagram: accuracy over confidence"
    return line_chart(title, axes, series, diagonal=True)


def _filled_bins(
    reliability: Reliability,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return confidence and accuracy of the bins that have rows."""
    is_filled = reliability.rows > 0
    return reliability.confidence[is_filled], reliability.accuracy[is_filled]


def _risk_coverage_chart(curve: RiskCoverage) -> str:
    """Draw the error rate of the rows with the highest confidence over their fraction."""
    indices = np.linspace(0, len(curve.risk) - 1, MAX_POINTS).astype(np.int64)
    points = np.unique(indices)
    max_risk = max(float(curve.risk[points].max()), 0.01)
    axes = Axes(
        "coverage (fraction of patches, highest confidence first)",
        "error rate of the covered patches",
        y_range=(0.0, max_risk),
    )
    line = Series("error rate", curve.coverage[points], curve.risk[points])
    return line_chart("Risk-coverage curve: error rate over coverage", axes, [line])


def confusion_chart(counts: NDArray[np.int64], class_names: Sequence[str]) -> str:
    """Draw a confusion matrix, with counts and fractions of the true class.

    Args:
        counts: Confusion matrix (C, C); rows are true classes, columns predicted ones.
        class_names: Names of the C classes.
    """
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell_width = min(MAX_CELL_WIDTH, (WIDTH - NAMES_WIDTH) // len(class_names))
    parts = [
        f'<text x="{NAMES_WIDTH}" y="16" class="small">predicted</text>'
        f'<text x="{NAMES_WIDTH - 10}" y="{HEAD_HEIGHT - 8}" text-anchor="end"'
        ' class="small">true</text>'
    ]
    for index, name in enumerate(class_names):
        x = NAMES_WIDTH + index * cell_width + cell_width / 2
        y = HEAD_HEIGHT + index * CELL_HEIGHT + CELL_HEIGHT / 2
        label = escape(shorten(name, MAX_NAME_LENGTH))
        parts.append(
            f'<text x="{x}" y="{HEAD_HEIGHT - 8}" text-anchor="middle">{label}</text>'
            f'<text x="{NAMES_WIDTH - 10}" y="{y + 4}" text-anchor="end">{label}</text>'
        )
    for row, column in np.ndindex(counts.shape):
        count, fraction = int(counts[row, column]), float(fractions[row, column])
        x, y = NAMES_WIDTH + column * cell_width, HEAD_HEIGHT + row * CELL_HEIGHT
        names = f"true {class_names[row]}, predicted {class_names[column]}"
        center = x + cell_width / 2
        parts.append(
            f"<g><title>{escape(f'{names}: {count:,} ({fraction:.1%})')}</title>"
            f'<rect class="cell" x="{x + 1}" y="{y + 1}" width="{cell_width - 2}"'
            f' height="{CELL_HEIGHT - 2}" fill-opacity="{0.08 + 0.6 * fraction:.2f}"/>'
            f'<text x="{center}" y="{y + 26}" text-anchor="middle">{count:,}</text>'
            f'<text x="{center}" y="{y + 49}" text-anchor="middle" class="small">'
            f"{fraction:.1%}</text></g>"
        )
    title = "Confusion matrix: rows are true classes, columns are predicted classes"
    return svg(title, HEAD_HEIGHT + CELL_HEIGHT * len(class_names) + 8, parts)
