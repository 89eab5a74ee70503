"""Draws the learning curves of a trial: the validation rows beside the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from raysearch.reports.chart_canvas import Chart, ChartCanvas, DataTable, chart_canvas, line_style
from raysearch.search.journal.events import FoldReport
from raysearch.search.journal.history import Trial

LEARNING_CURVES = ("loss", "accuracy", "precision", "recall", "f1", "auroc")
# What the name of a metric of the training rows begins with. The loss is always theirs.
TRAIN_PREFIX = "train_"
CURVE_COLUMNS, CURVE_HEIGHT, LEGEND_HEIGHT, LEGEND_COLUMNS = 2, 150, 19, 3
# The lines of more folds have one color.
MAX_FOLD_COLORS = 6
CAPTION = (
    "Lines with dots are of the validation rows. Thin lines, and the loss, are of the training"
    " rows, as predicted in the training steps: with augmentation and dropout, and by weights that"
    " still change in the epoch. They may lie below those of the validation rows."
)


@dataclass(frozen=True)
class CurvePoint:
    """A point of a learning curve: a metric of a fold after an epoch, from 1."""

    fold: int
    epoch: int
    metric: str
    value: float


def learning_curve_chart(trial: Trial, epochs: int) -> Chart | None:
    """Draw each metric over the epochs, with lines for each fold; None if none is known.

    Args:
        trial: The trial.
        epochs: Its epochs of a fold.
    """
    points = list(_curve_points(trial, epochs))
    names = [name for name in LEARNING_CURVES if any(point.metric == name for point in points)]
    if not names:
        return None
    num_rows = -(-len(names) // CURVE_COLUMNS)
    folds = sorted({point.fold for point in points})
    legend_rows = -(-min(len(folds), MAX_FOLD_COLORS + 1) // LEGEND_COLUMNS) + 1
    height = CURVE_HEIGHT * num_rows + LEGEND_HEIGHT * legend_rows
    with chart_canvas(height, num_rows, CURVE_COLUMNS) as canvas:
        canvas.legend_columns = LEGEND_COLUMNS
        panels = [axes for line in canvas.grid for axes in line]
        for panel, name in enumerate(names):
            _draw_panel(canvas, panel, name, folds, points)
            panels[panel].set_xlim(0.8, max(epochs, 2) + 0.2)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        canvas.figure.supxlabel("epoch", size=12)
        rows = [[point.fold, point.epoch, point.metric, point.value] for point in points]
        data = DataTable(["fold", "epoch", "metric", "value"], rows)
        title = "Learning curves of the champion's folds"
        return canvas.chart("learning-curves", title, data, CAPTION)


def _draw_panel(
    canvas: ChartCanvas, panel: int, name: str, folds: Sequence[int], points: Sequence[CurvePoint]
) -> None:
    """Draw the curves of a metric; those of the first panel have the entries of the legend."""
    axes = canvas.grid[panel // CURVE_COLUMNS][panel % CURVE_COLUMNS]
    has_colors = len(folds) <= MAX_FOLD_COLORS
    for fold in folds:
        style = line_style(fold - 1 if has_colors else 0)
        for metric in (name, TRAIN_PREFIX + name):
            curve = [
                (point.epoch, point.value)
                for point in points
                if point.fold == fold and point.metric == metric
            ]
            if not curve:
                continue
            is_validation = metric == name and name != "loss"
            epochs, values = zip(*curve, strict=True)
            # A single point has no line.
            has_dots = is_validation or len(curve) == 1
            (line,) = axes.plot(
                epochs,
                values,
                lw=1.6 if is_validation else 0.8,
                marker="o" if has_dots else "",
                ms=3 if is_validation else 1.5,
                **style,
            )
            canvas.add_tips(line, f"fold {fold}, {metric}")
            if not panel and metric == name and (has_colors or fold == folds[0]):
                canvas.add_entry(line, f"fold {fold}" if has_colors else "a fold")
    axes.set_title(name, size=12)
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)  # type: ignore[call-arg]


def _curve_points(trial: Trial, epochs: int) -> Iterator[CurvePoint]:
    """Yield the finite values of each report of a trial."""
    for report in sorted(trial.reports, key=lambda report: report.fold):
        epoch = report.epoch - report.fold * epochs
        for name, value in _values(report):
            if value is not None and np.isfinite(value):
                yield CurvePoint(report.fold, epoch, name, float(value))


def _values(report: FoldReport) -> Iterator[tuple[str, float | None]]:
    """Yield the values of a report by the name of their curve."""
    train_metrics = report.train_metrics or {}
    yield "loss", report.loss
    for name in LEARNING_CURVES[1:]:
        yield name, report.metrics.get(name)
        yield TRAIN_PREFIX + name, train_metrics.get(name)
