"""Draws the confusion matrix of an evaluation as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raysearch.metrics.evaluation import Evaluation
from raysearch.reports.chart_canvas import (
    Chart,
    ChartCanvas,
    DataTable,
    chart_canvas,
    file_name,
    level_color,
    shorten,
)
from raysearch.reports.chart_colors import CARD, FIRST_DARK_LEVEL, INK, level_of

HEIGHT = 460
MAX_NAME_LENGTH = 18
# A matrix of more classes has no room for counts; the tooltips and the CSV file have them.
MAX_CLASSES_WITH_COUNTS, MAX_CLASSES_WITH_FRACTIONS = 6, 10


def confusion_chart(evaluation: Evaluation, set_name: str) -> Chart:
    """Draw the confusion matrix, with counts and fractions of the true class."""
    counts, class_names = evaluation.confusion, evaluation.class_names
    num_classes = len(class_names)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows: list[Sequence[object]] = []
    with chart_canvas(HEIGHT) as canvas:
        for true, predicted in np.ndindex(counts.shape):
            count, fraction = int(counts[true, predicted]), float(fractions[true, predicted])
            names = class_names[true], class_names[predicted]
            _draw_cell(canvas, (true, predicted), count, fraction, num_classes)
            tip = f"true {names[0]}, predicted {names[1]}: {count:,} ({fraction:.1%})"
            canvas.add_tips(canvas.axes.patches[-1], tip)
            rows.append([*names, count, round(fraction, 6)])
        _set_class_ticks(canvas, class_names)
        canvas.add_level_bar(0, 1, "fraction of the true class", "{:.0%}")
        rule = "The most probable class is predicted."
        if evaluation.threshold is not None:
            threshold = f"{evaluation.threshold:.3f}"
            rule = f"{class_names[1]} is predicted from a probability of {threshold} on."
        return canvas.chart(
            file_name(set_name, "confusion-matrix"),
            "Confusion matrix",
            DataTable(["true", "predicted", evaluation.unit, "fraction_of_true"], rows),
            rule,
        )


def _draw_cell(
    canvas: ChartCanvas, cell: tuple[int, int], count: int, fraction: float, num_classes: int
) -> None:
    """Draw the cell (true, predicted) with its numbers, if there is room for them."""
    from matplotlib.patches import Rectangle

    row, column = cell
    color = level_color(fraction, 0, 1)
    canvas.axes.add_patch(Rectangle((column, row), 1, 1, facecolor=color, edgecolor=CARD, lw=1.5))
    if num_classes <= MAX_CLASSES_WITH_COUNTS:
        text = f"{count:,}\n{fraction:.1%}"
    elif num_classes <= MAX_CLASSES_WITH_FRACTIONS:
        text = f"{100 * fraction:.0f}"
    else:
        return
    text_color = CARD if level_of(fraction, 0, 1) >= FIRST_DARK_LEVEL else INK
    size = 13 if num_classes <= 3 else 10
    center = (column + 0.5, row + 0.5)
    canvas.axes.text(*center, text, color=text_color, ha="center", va="center", size=size)


def _set_class_ticks(canvas: ChartCanvas, class_names: Sequence[str]) -> None:
    num_classes = len(class_names)
    names = [shorten(name, MAX_NAME_LENGTH) for name in class_names]
    centers = [number + 0.5 for number in range(num_classes)]
    is_short = num_classes <= 3 and max(map(len, names)) <= 12
    size = 11 if num_classes <= 12 else 8
    canvas.axes.set(xlim=(0, num_classes), ylim=(num_classes, 0), box_aspect=1)
    canvas.axes.set_xticks(
        *(centers, names), rotation=0 if is_short else 45, ha="center" if is_short else "right",
        size=size, rotation_mode="anchor",
    )  # fmt: skip
    canvas.axes.set_yticks(
        *(centers, names), size=size, rotation=90 if is_short else 0, va="center",
    )  # fmt: skip
    canvas.axes.set(xlabel="predicted class", ylabel="true class")
    canvas.axes.grid(visible=False)
    canvas.axes.tick_params(length=0)
    canvas.axes.spines[:].set_visible(False)
