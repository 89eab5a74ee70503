"""Draws the charts of a search: importances, history, coordinates, ranking and learning curves."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import numpy as np

from raysearch.analysis.hyperparameter_importance import HyperparameterImportances
from raysearch.analysis.optimization_history import OptimizationHistory
from raysearch.analysis.parallel_coordinates import ParallelCoordinates, TrialLine, value_text
from raysearch.config.space import RANGES, Hyperparameter
from raysearch.metrics.bootstrap import Interval
from raysearch.reports.html_page import Chart
from raysearch.reports.svg_charts import (
    WIDTH,
    Axes,
    Bar,
    Series,
    bar_chart,
    line_chart,
    shorten,
    svg,
)
from raysearch.search.journal.history import Trial
from raysearch.selection.selection import Candidate, Selection

# Optimization history: margins around the plot, its height, and the height of the axis below it.
LEFT, RIGHT, TOP, PLOT_HEIGHT, AXIS_HEIGHT = 70, 12, 12, 220, 40
# Parallel coordinates: x of trials without the hyperparameter, ends of its axis, height of a row.
ABSENT_X, AXIS_START, AXIS_END, AXIS_ROW = 24, 80, WIDTH - 24, 84
MAX_VALUE_LENGTH = 14
# Ranking: height of a row, y of the first one, width of the names and of the values.
ROW_HEIGHT, FIRST_ROW, NAMES_WIDTH, VALUES_WIDTH = 26, 34, 110, 70
LEARNING_CURVES = ("loss", "accuracy", "precision", "recall", "f1", "auroc")


def importance_chart(importances: HyperparameterImportances) -> str:
    """Draw a bar for each hyperparameter; a bar of full width is all of the variance."""
    bars = [Bar(name, fraction, f"{fraction:.0%}") for name, fraction in importances.fractions]
    return bar_chart("Importance of the hyperparameters", bars, full_length=1.0)


def history_chart(history: OptimizationHistory, title: str) -> str:
    """Draw the best finished trial so far as a step line, and the last report of each trial."""
    low, high = history.scale
    last = max(history.spent - 1, 1)

    def x(spent: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (spent - 1) / last

    def y(value: float) -> float:
        return TOP + PLOT_HEIGHT * min(max((high - value) / (high - low), 0.0), 1.0)

    parts = []
    for fraction in (0, 0.5, 1):
        value = low + fraction * (high - low)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}"'
            f' y2="{y(value):.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.4f}</text>'
        )
    for point in history.points:
        style = "finished" if point.finished else "unfinished"
        text = f"{point.trial}: {point.objective:.4f} after {point.spent:,} fold-epochs"
        parts.append(
            f'<circle class="{style}" cx="{x(point.spent):.1f}" cy="{y(point.objective):.1f}"'
            f' r="4"><title>{escape(text)} of the study</title></circle>'
        )
    if history.best_so_far:
        (first_spent, first_value), *improvements = history.best_so_far
        path = [f"M{x(first_spent):.1f} {y(first_value):.1f}"]
        path += [f"H{x(spent):.1f}V{y(value):.1f}" for spent, value in improvements]
        parts.append(f'<path class="best" d="{"".join(path)}H{x(history.spent):.1f}"/>')
    base = TOP + PLOT_HEIGHT + 18
    parts.append(
        f'<text x="{LEFT}" y="{base}">1</text>'
        f'<text x="{WIDTH - RIGHT}" y="{base}" text-anchor="end">{history.spent:,}</text>'
        f'<text x="{WIDTH / 2}" y="{base}" text-anchor="middle">fold-epochs of the study</text>'
    )
    return svg(title, TOP + PLOT_HEIGHT + AXIS_HEIGHT, parts)


def coordinates_chart(coordinates: ParallelCoordinates, metric: str) -> str:
    """Draw a horizontal axis for each hyperparameter, and a line for each trial."""
    # The best trials are drawn last, over the other ones.
    parts = [_trial_line(coordinates, line, metric) for line in reversed(coordinates.lines)]
    parts += [_axis(coordinates, hparam, row) for row, hparam in enumerate(coordinates.hparams)]
    title = (
        f"Hyperparameters of {len(coordinates.lines)} trials,"
        f" the best {coordinates.num_best} in color"
    )
    return svg(title, AXIS_ROW * len(coordinates.hparams) + 8, parts)


def _trial_line(coordinates: ParallelCoordinates, line: TrialLine, metric: str) -> str:
    points = []
    for row, hparam in enumerate(coordinates.hparams):
        position = line.positions.get(hparam.name)
        x = ABSENT_X if position is None else AXIS_START + position * (AXIS_END - AXIS_START)
        points.append((x, _axis_y(row)))
    path = " ".join(f"{x:.1f},{y}" for x, y in points)
    values = ", ".join(f"{name} {value_text(value)}" for name, value in line.trial.hparams.items())
    title = f"{line.trial.id}: {metric} {line.trial.objective:.4f}; {values}"
    return (
        f'<g class="{"best" if line.is_best else "other"}"><title>{escape(title)}</title>'
        f'<polyline points="{path}"/>'
        + "".join(f'<circle cx="{x:.1f}" cy="{y}" r="3"/>' for x, y in points)
        + "</g>"
    )


def _axis(coordinates: ParallelCoordinates, hparam: Hyperparameter, row: int) -> str:
    y = _axis_y(row)
    scale = ", logarithmic" if hparam.kind.startswith("log") else ""
    parts = [
        f'<line x1="{AXIS_START}" x2="{AXIS_END}" y1="{y}" y2="{y}"/>'
        f'<text class="name" x="{AXIS_START}" y="{y - 12}">{escape(hparam.name + scale)}</text>'
    ]
    if coordinates.num_absent(hparam):
        parts.append(f'<text class="small" x="4" y="{y + 18}">absent</text>')
    last = len(hparam.values) - 1
    for number, value in enumerate(hparam.values):
        x = AXIS_START + (AXIS_END - AXIS_START) * number / last
        anchor = "start" if number == 0 else "end" if number == last else "middle"
        text = value_text(value)
        label = text if hparam.kind in RANGES else shorten(text, MAX_VALUE_LENGTH)
        parts.append(
            f'<text class="small" x="{x:.1f}" y="{y + 18}" text-anchor="{anchor}">'
            f"{escape(label)}</text>"
        )
    return "".join(parts)


def _axis_y(row: int) -> int:
    return AXIS_ROW * row + 30


def ranking_chart(metric: str, selection: Selection, max_trials: int) -> str:
    """Draw the best finished trials as dots with intervals; the dots of tied trials are filled."""
    candidates = selection.candidates[:max_trials]
    bounds = [bound for candidate in candidates for bound in _bounds(candidate.objective)]
    low, high = min(bounds), max(bounds)
    left, right = NAMES_WIDTH, WIDTH - VALUES_WIDTH

    def x(value: float) -> float:
        return left + (right - left) * (value - low) / ((high - low) or 1)

    parts = [
        _ranking_row(candidate, FIRST_ROW - 18 + ROW_HEIGHT * rank, x, selection)
        for rank, candidate in enumerate(candidates)
    ]
    base = FIRST_ROW + ROW_HEIGHT * len(candidates)
    parts.append(
        f'<text x="{left}" y="{base + 10}">{low:.4f}</text>'
        f'<text x="{right}" y="{base + 10}" text-anchor="end">{high:.4f}</text>'
        f'<text x="{(left + right) / 2}" y="{base + 10}" text-anchor="middle">{escape(metric)}'
        "</text>"
    )
    title = f"{metric} of the finished trials, with 95 % confidence intervals by patient"
    return svg(title, base + 20, parts)


def _bounds(interval: Interval) -> list[float]:
    values = (interval.low, interval.value, interval.high)
    return [value for value in values if value is not None]


def _ranking_row(
    candidate: Candidate, y: int, x: Callable[[float], float], selection: Selection
) -> str:
    trial, objective, is_tied = candidate.trial, candidate.objective, candidate.comparison.tied
    value = objective.value or 0.0
    low = value if objective.low is None else objective.low
    high = value if objective.high is None else objective.high
    is_selected = trial is selection.chosen
    status = "tied with the best" if is_tied else "not tied with the best"
    title = f"{trial.id}: {objective}, {status}{', selected' if is_selected else ''}"
    return (
        f'<g class="{"tied" if is_tied else "not-tied"}"><title>{escape(title)}</title>'
        f'<text x="{NAMES_WIDTH - 12}" y="{y + 4}" text-anchor="end">'
        f"{'★ ' if is_selected else ''}{escape(trial.id)}</text>"
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}"/>'
        f'<circle cx="{x(value):.1f}" cy="{y}" r="6"/>'
        f'<text x="{WIDTH - 4}" y="{y + 4}" text-anchor="end">{value:.4f}</text></g>'
    )


def learning_curves(trial: Trial, epochs: int) -> list[Chart]:
    """Draw each metric over the epochs, with a line for each fold."""
    charts = []
    for name in LEARNING_CURVES:
        series = []
        for fold in range(trial.folds):
            reports = [report for report in trial.reports if report.fold == fold]
            values = [
                report.loss if name == "loss" else report.metrics.get(name) for report in reports
            ]
            x = np.arange(1, len(values) + 1, dtype=np.float64)
            y = np.array([np.nan if value is None else value for value in values], np.float64)
            if np.isfinite(y).any():
                series.append(Series(f"fold {fold + 1}", x, y))
        if series:
            all_values = np.concatenate([line.y for line in series])
            low, high = float(np.nanmin(all_values)), float(np.nanmax(all_values))
            x_range, y_range = (1.0, float(max(epochs, 2))), (low, max(high, low + 1e-6))
            axes = Axes("epoch", name, x_range, y_range)
            charts.append(Chart(name, line_chart(f"{name} of each fold by epoch", axes, series)))
    return charts
