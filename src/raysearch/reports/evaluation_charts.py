"""Draws the curves of an evaluation, and its confusion matrix beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import auroc_interval
from raysearch.metrics.calibration import NUM_BINS, Reliability
from raysearch.metrics.curves import Curve, precision_recall_curve, roc_curve
from raysearch.metrics.evaluation import Evaluation, ScoredRows
from raysearch.metrics.interval import Interval
from raysearch.metrics.selective_prediction import RiskCoverage
from raysearch.reports.chart_canvas import (
    Chart,
    ChartCanvas,
    DataTable,
    chart_canvas,
    file_name,
    line_style,
    shorten,
)
from raysearch.reports.chart_colors import INK, SOFT
from raysearch.reports.confusion_chart import confusion_chart

MAX_POINTS = 400
MAX_NAME_LENGTH = 18
# The confusion matrix of more classes is a table of its largest cells.
MAX_MATRIX_CLASSES, MAX_CURVES = 20, 12
# The bands of more curves would hide each other; the CSV file has them.
MAX_BANDS = 3
SQUARE_HEIGHT, LEGEND_HEIGHT = 390, 19
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassCurves:
    """The curves of a class against the others.

    Attributes:
        name: The class.
        prevalence: The fraction of its rows.
        roc: Its ROC curve.
        precision_recall: Its precision-recall curve.
        auroc: The area under the ROC curve, with its interval by patient.
    """

    name: str
    prevalence: float
    roc: Curve
    precision_recall: Curve
    auroc: Interval


def evaluation_charts(
    scored: ScoredRows,
    evaluation: Evaluation,
    uncalibrated: Reliability | None,
    set_name: str,
    *,
    is_calibrated: bool,
) -> list[Chart]:
    """Draw all charts of an evaluation.

    Args:
        scored: The rows with their probabilities.
        evaluation: Their evaluation.
        uncalibrated: The reliability diagram before temperature scaling, if it is known.
        set_name: The name of the evaluated set, for the names of the charts.
        is_calibrated: Whether the probabilities are known to be after temperature scaling.
    """
    class_names = evaluation.class_names
    curves = list(_class_curves(scored, evaluation))
    charts = []
    if curves:
        charts += [
            _roc_chart(curves, evaluation, set_name),
            _precision_recall_chart(curves, evaluation, set_name),
        ]
    if len(class_names) <= MAX_MATRIX_CLASSES:
        charts.append(confusion_chart(evaluation, set_name))
    diagrams = {"calibrated" if is_calibrated else "scores": evaluation.reliability}
    if uncalibrated is not None:
        diagrams["before temperature scaling"] = uncalibrated
    charts.append(_reliability_chart(diagrams, evaluation.unit, set_name))
    charts.append(_risk_coverage_chart(evaluation, set_name))
    return charts


def _class_curves(scored: ScoredRows, evaluation: Evaluation) -> Iterator[ClassCurves]:
    """Yield the curves of the second of two classes, or of each class.

    Of many classes, those with the most rows are drawn.
    """
    class_names, patients = scored.class_names, scored.patients
    counts = np.bincount(scored.labels, minlength=len(class_names))
    most_frequent = sorted(np.argsort(-counts, kind="stable")[:MAX_CURVES].tolist())
    is_binary = len(class_names) == 2
    for number in [1] if is_binary else most_frequent:
        labels = (scored.labels == number).astype(np.int64)
        if not 0 < labels.sum() < len(labels):
            continue
        scores = scored.probabilities[:, number]
        yield ClassCurves(
            class_names[number],
            float(labels.mean()),
            roc_curve(labels, scores, patients),
            precision_recall_curve(labels, scores, patients),
            evaluation.metrics["auroc"]
            if is_binary
            else auroc_interval(labels, scores, patients, num_replicates=500),
        )


def _roc_chart(curves: Sequence[ClassCurves], evaluation: Evaluation, set_name: str) -> Chart:
    has_bands = len(curves) <= MAX_BANDS
    with chart_canvas(SQUARE_HEIGHT + LEGEND_HEIGHT * (len(curves) + 2)) as canvas:
        for number, line in enumerate(curves):
            label = f"{shorten(line.name, MAX_NAME_LENGTH)}: AUROC {_interval_text(line.auroc)}"
            _draw_curve(canvas, number, line.roc, label, has_band=has_bands, start=0.0)
        _draw_diagonal(canvas, "chance: AUROC 0.5")
        threshold = evaluation.threshold
        if threshold is not None:
            false_positive, true_positive = _operating_point(evaluation)
            point = canvas.axes.scatter([false_positive], [true_positive], color=INK, zorder=4)
            canvas.add_entry(point, f"decision at a probability of {threshold:.3f}")
            canvas.add_tips(
                point, f"sensitivity {true_positive:.3f}, specificity {1 - false_positive:.3f}"
            )
        _set_unit_square(canvas, "false positive rate (1 - specificity)", "sensitivity")
        return canvas.chart(
            file_name(set_name, "roc"),
            f"ROC curve{_largest_classes(evaluation)}",
            _curve_data("false_positive_rate", "sensitivity", [(c.name, c.roc) for c in curves]),
            "Band and interval in brackets: 95 %, by patient."
            if has_bands
            else "Interval in brackets: 95 %, by patient.",
        )


def _operating_point(evaluation: Evaluation) -> tuple[float, float]:
    """Return the false and the true positive rate of the decisions for two classes."""
    (negatives, false_positives), (false_negatives, positives) = evaluation.confusion.tolist()
    return (
        false_positives / max(negatives + false_positives, 1),
        positives / max(positives + false_negatives, 1),
    )


def _precision_recall_chart(
    curves: Sequence[ClassCurves], evaluation: Evaluation, set_name: str
) -> Chart:
    is_binary = len(evaluation.class_names) == 2
    has_bands = len(curves) <= MAX_BANDS
    with chart_canvas(SQUARE_HEIGHT + LEGEND_HEIGHT * (len(curves) + 2)) as canvas:
        for number, line in enumerate(curves):
            label = shorten(line.name, MAX_NAME_LENGTH)
            if is_binary:
                precision = evaluation.metrics["average_precision"]
                label += f": average precision {_interval_text(precision)}"
            _draw_curve(canvas, number, line.precision_recall, label, has_band=has_bands)
        if is_binary:
            prevalence = curves[0].prevalence
            label = f"class-prior baseline: precision {prevalence:.3f}"
            _draw_level(canvas, prevalence, label)
        _set_unit_square(canvas, "recall (sensitivity)", "precision")
        return canvas.chart(
            file_name(set_name, "precision-recall"),
            "Precision-recall curve" + (_largest_classes(evaluation)),
            _curve_data("recall", "precision", [(c.name, c.precision_recall) for c in curves]),
            "Precision depends on how frequent a class is in this set.",
        )


def _largest_classes(evaluation: Evaluation) -> str:
    return (
        f" of the {MAX_CURVES} largest classes" if len(evaluation.class_names) > MAX_CURVES else ""
    )


def _draw_curve(
    canvas: ChartCanvas,
    number: int,
    curve: Curve,
    label: str,
    *,
    has_band: bool,
    start: float | None = None,
) -> None:
    """Draw a curve with its band; `start` is its value in front of the first point, if any."""
    style = line_style(number)
    if has_band and np.isfinite(curve.low).any():
        canvas.axes.fill_between(
            curve.x, curve.low, curve.high, color=str(style["color"]), alpha=0.18, lw=0
        )
    x, y = curve.x, curve.value
    if start is not None:
        x, y = np.append(x[0], x), np.append(start, y)
    (line,) = canvas.axes.plot(x, y, **style)
    canvas.add_entry(line, label)
    canvas.add_tips(line, label)


def _draw_diagonal(canvas: ChartCanvas, label: str) -> None:
    (line,) = canvas.axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls=":")
    canvas.add_entry(line, label)


def _draw_level(canvas: ChartCanvas, value: float, label: str) -> None:
    line = canvas.axes.axhline(value, color=SOFT, lw=1, ls=":")
    canvas.add_entry(line, label)


def _set_unit_square(canvas: ChartCanvas, x_label: str, y_label: str) -> None:
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    canvas.axes.set(
        xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xticks=ticks, yticks=ticks, box_aspect=1
    )
    canvas.axes.set(xlabel=x_label, ylabel=y_label)


def _curve_data(x: str, y: str, curves: Sequence[tuple[str, Curve]]) -> DataTable:
    rows = [
        [name, *(_rounded(value) for value in values)]
        for name, curve in curves
        for values in zip(curve.x, curve.value, curve.low, curve.high, strict=True)
    ]
    return DataTable(["class", x, y, "low", "high"], rows)


def _rounded(value: float) -> float | None:
    """Return a number of a CSV file; None if it is undefined."""
    return round(float(value), 6) if np.isfinite(value) else None


def _interval_text(interval: Interval) -> str:
    value, low, high = (
        "undefined" if bound is None else f"{bound:.3f}"
        for bound in (interval.value, interval.low, interval.high)
    )
    return value if interval.low is None else f"{value} ({low} to {high})"


def _reliability_chart(diagrams: Mapping[str, Reliability], unit: str, set_name: str) -> Chart:
    """Draw the accuracy over the confidence, with a line for each named diagram."""
    rows: list[Sequence[object]] = []
    with chart_canvas(SQUARE_HEIGHT + LEGEND_HEIGHT * (len(diagrams) + 1)) as canvas:
        for number, (name, diagram) in enumerate(diagrams.items()):
            is_filled = diagram.rows > 0
            confidence, accuracy = diagram.confidence[is_filled], diagram.accuracy[is_filled]
            error = "" if diagram.error is None else f": calibration error {diagram.error:.3f}"
            style, counts = line_style(number), diagram.rows[is_filled]
            (line,) = canvas.axes.plot(confidence, accuracy, lw=1.5, **style)
            canvas.add_entry(line, name + error)
            points = canvas.axes.scatter(confidence, accuracy, color=style["color"], s=26, zorder=3)
            values = list(zip(confidence, accuracy, counts.tolist(), strict=True))
            canvas.add_tips(
                points,
                *(f"{n:,} {unit}: confidence {x:.3f}, accuracy {y:.3f}" for x, y, n in values),
            )
            rows += [[name, _rounded(x), _rounded(y), n] for x, y, n in values]
        _draw_diagonal(canvas, "perfectly calibrated")
        _set_unit_square(canvas, "confidence", "accuracy")
        return canvas.chart(
            file_name(set_name, "reliability"),
            "Reliability diagram",
            DataTable(["scores", "confidence", "accuracy", unit], rows),
            f"Confidence is the probability of the most probable class; each dot is the {unit} in"
            f" one of {NUM_BINS} equal intervals of it from 0 to 1.",
        )


def _risk_coverage_chart(evaluation: Evaluation, set_name: str) -> Chart:
    """Draw the error rate of the rows with the highest confidence over their fraction."""
    curve = evaluation.risk
    coverage, risk = _curve_points(curve)
    augrc = "" if curve.augrc is None else f"; AUGRC {curve.augrc:.3f}"
    with chart_canvas(SQUARE_HEIGHT + LEGEND_HEIGHT * 2) as canvas:
        (line,) = canvas.axes.plot(coverage, risk, **line_style(0))
        canvas.add_entry(line, f"error rate{augrc}")
        canvas.add_tips(line, f"error rate{augrc}")
        end = float(risk[-1])
        _draw_level(canvas, end, f"error rate of all {evaluation.unit}: {end:.3f}")
        canvas.axes.set(xlim=(0, 1), ylim=(0, max(float(risk.max()) * 1.05, 0.01)), box_aspect=1)
        canvas.axes.set(xlabel="coverage (highest confidence first)", ylabel="error rate")
        return canvas.chart(
            file_name(set_name, "risk-coverage"),
            "Risk-coverage curve",
            DataTable(
                ["coverage", "error_rate"],
                [[_rounded(x), _rounded(y)] for x, y in zip(coverage, risk, strict=True)],
            ),
            _risk_caption(evaluation, end),
        )


def _risk_caption(evaluation: Evaluation, end: float) -> str:
    unit = evaluation.unit
    text = f"The error rate of the {unit} that a model decides if it passes on the others."
    accuracy = evaluation.metrics["accuracy"].value
    if evaluation.threshold is None or accuracy is None or abs(1 - accuracy - end) < 5e-4:
        return text
    return (
        f"{text} It predicts the most probable class; the confusion matrix has an error rate of"
        f" {1 - accuracy:.3f}, because it decides at the threshold {evaluation.threshold:.3f}."
    )


def _curve_points(curve: RiskCoverage) -> tuple[Floats, Floats]:
    """Return coverage and risk at no more than `MAX_POINTS` points."""
    points = np.unique(np.linspace(0, len(curve.risk) - 1, MAX_POINTS).astype(np.int64))
    return curve.coverage[points], curve.risk[points]
