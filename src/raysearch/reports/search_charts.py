"""Draws the charts of a search: importances, optimization history and parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from raysearch.analysis.hyperparameter_importance import HyperparameterImportances
from raysearch.analysis.optimization_history import (
    CLIPPED_FRACTION,
    HistoryPoint,
    OptimizationHistory,
)
from raysearch.analysis.parallel_coordinates import ParallelCoordinates, TrialLine, value_text
from raysearch.config.space import RANGES, Hyperparameter
from raysearch.config.space_geometry import value_at
from raysearch.reports.chart_canvas import (
    SMALL_FONT_SIZE,
    Chart,
    ChartCanvas,
    DataTable,
    chart_canvas,
    level_color,
    line_style,
    shorten,
)
from raysearch.reports.chart_colors import CARD, INK, SOFT

# Heights of the axes' labels and of a row.
AXIS_HEIGHT, LEGEND_HEIGHT, BAR_HEIGHT, COORDINATE_HEIGHT = 64, 19, 30, 60
HISTORY_HEIGHT = 300
MAX_VALUE_LENGTH, MAX_NAME_LENGTH = 12, 28
# More lines would make a page of megabytes; the CSV file has all of them.
MAX_LINES = 300
# The objective's axis is so much longer than the range of the values.
MARGIN = 0.06
TRANSFERRED = ("memory", "prior")
# The place of trials without a hyperparameter, left of its axis.
ABSENT_X = -0.14
# Ticks of a range, at parts of its length.
RANGE_TICKS = (0.0, 1 / 3, 2 / 3, 1.0)


def importance_chart(importances: HyperparameterImportances, name: str) -> Chart:
    """Draw a bar with an interval for each hyperparameter."""
    intervals = {interval.name: interval for interval in importances.intervals}
    names = [name for name, _fraction in importances.fractions]
    rows: list[Sequence[object]] = []
    with chart_canvas(AXIS_HEIGHT + LEGEND_HEIGHT * 2 + BAR_HEIGHT * len(names)) as canvas:
        axes, color = canvas.axes, line_style(0)["color"]
        for row, (hparam, fraction) in enumerate(importances.fractions):
            bar = axes.barh(row, fraction, 0.62, color=color)
            tip, interval = f"{hparam}: {fraction:.0%}", intervals.get(hparam)
            if interval is not None:
                line = axes.hlines(row, interval.low, interval.high, color=INK, lw=2)
                tip += f" ({interval.low:.0%} to {interval.high:.0%})"
                canvas.add_tips(line, tip)
                if not row:
                    canvas.add_entry(line, "95 % interval over trials")
            canvas.add_tips(bar.patches[0], tip)
            if not row:
                canvas.add_entry(bar.patches[0], "fraction of the variance")
            bounds = (None, None) if interval is None else (interval.low, interval.high)
            rows.append([hparam, fraction, *bounds])
        axes.set_yticks(range(len(names)), [shorten(text, MAX_NAME_LENGTH) for text in names])
        axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), xlabel="fraction of the variance")
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1], ["0", "20 %", "40 %", "60 %", "80 %", "100 %"])
        axes.grid(visible=False, axis="y")
        data = DataTable(["hyperparameter", "fraction", "low", "high"], rows)
        return canvas.chart(name, "Importance of the hyperparameters", data)


def history_chart(history: OptimizationHistory, metric: str, name: str) -> Chart:
    """Draw the best finished trial so far as a step line, and the last report of each trial."""
    low, high = history.scale
    margin = MARGIN * (high - low)
    with chart_canvas(HISTORY_HEIGHT + LEGEND_HEIGHT * 6) as canvas:
        _draw_best(canvas, history)
        _draw_random(canvas, history)
        inside = [point for point in history.points if low <= point.objective <= high]
        outside = [point for point in history.points if not low <= point.objective <= high]
        finished = [point for point in inside if point.finished]
        stopped = [point for point in inside if not point.finished]
        _draw_points(canvas, finished, f"finished ({len(finished):,})", line_style(0)["color"], "o")
        _draw_points(canvas, stopped, f"not finished ({len(stopped):,})", SOFT, "o", hollow=True)
        # Trials outside the axis are drawn at its nearest edge.
        edges = [min(max(point.objective, low), high) for point in outside]
        label = f"outside the axis ({len(outside):,})"
        _draw_points(canvas, outside, label, line_style(1)["color"], "X", edges)
        transferred = [point for point in inside if point.origin in TRANSFERRED]
        label = f"of earlier studies or a prior ({len(transferred):,})"
        _draw_points(canvas, transferred, label, INK, "D", hollow=True)
        axes = canvas.axes
        axes.set(xlim=(0, history.spent * 1.03 + 1), ylim=(low - margin, high + margin))
        axes.set(xlabel="fold-epochs of the study", ylabel=metric)
        _use_integers(canvas)
        rows = [
            [
                *(point.trial, point.spent, point.objective),
                *(str(point.finished).lower(), point.origin or ""),
            ]
            for point in history.points
        ]
        columns = ["trial", "fold_epochs_of_the_study", metric, "finished", "origin"]
        data = DataTable(columns, rows)
        return canvas.chart(name, "Optimization history", data)


def _draw_best(canvas: ChartCanvas, history: OptimizationHistory) -> None:
    if not history.best_so_far:
        return
    spent, values = zip(*history.best_so_far, strict=True)
    xs, ys = [*spent, history.spent], [*values, values[-1]]
    (line,) = canvas.axes.plot(xs, ys, drawstyle="steps-post", **line_style(0))
    label = f"best finished so far: {values[-1]:.4f}"
    canvas.add_entry(line, label)
    canvas.add_tips(line, label)


def _draw_random(canvas: ChartCanvas, history: OptimizationHistory) -> None:
    if not history.random:
        return
    spent, values = zip(*history.random, strict=True)
    (line,) = canvas.axes.plot(spent, values, color=SOFT, linestyle="--", lw=2)
    label = f"expected best of random trials: {values[-1]:.4f}"
    canvas.add_entry(line, label)
    canvas.add_tips(line, label)


def _draw_points(
    canvas: ChartCanvas,
    points: Sequence[HistoryPoint],
    label: str,
    color: str,
    marker: str,
    values: Sequence[float] | None = None,
    *,
    hollow: bool = False,
) -> None:
    """Draw trials, by default at their objectives, with an entry of the legend."""
    if not points:
        return
    dots = canvas.axes.scatter(
        [point.spent for point in points],
        values or [point.objective for point in points],
        s=34,
        marker=marker,
        facecolor="none" if hollow else color,
        edgecolor=color,
        zorder=3,
        clip_on=False,
    )
    canvas.add_entry(dots, label)
    canvas.add_tips(
        dots,
        *(
            f"{point.trial}: {point.objective:.4f} after {point.spent:,} fold-epochs of the study"
            for point in points
        ),
    )


def _use_integers(canvas: ChartCanvas) -> None:
    from matplotlib.ticker import MaxNLocator

    canvas.axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def coordinates_chart(coordinates: ParallelCoordinates, metric: str, mode: str, name: str) -> Chart:
    """Draw a horizontal axis for each hyperparameter, and a line for each trial.

    The color of a line is the objective of a finished trial; that of another is over fewer folds,
    so its line is gray. If none has finished, the colors are the objectives of the last reports.
    The best third have thick lines.
    """
    hparams = coordinates.hparams
    shown = coordinates.lines[:MAX_LINES]
    finished = [line for line in shown if _is_finished(line)]
    scale = _objective_scale(finished or shown, mode)
    others = [line for line in shown if not line.is_best]
    groups = {
        "others, not finished": [line for line in others if not _is_finished(line)],
        "others, finished": [line for line in others if _is_finished(line)],
        "best third": [line for line in shown if line.is_best],
    }
    height = COORDINATE_HEIGHT * len(hparams) + LEGEND_HEIGHT * 3 + 70
    with chart_canvas(height) as canvas:
        axes = canvas.axes
        # The best trials are drawn last, over the other ones.
        for label, lines in groups.items():
            colors = [
                level_color(line.trial.objective or 0.0, *scale)
                if _is_finished(line) or not finished
                else SOFT
                for line in lines
            ]
            _draw_lines(canvas, hparams, lines[::-1], colors[::-1], metric, label)
        for row, hparam in enumerate(hparams):
            _draw_coordinate(canvas, row, hparam, has_absent=bool(coordinates.num_absent(hparam)))
        axes.set(xlim=(ABSENT_X - 0.03, 1.03), ylim=(len(hparams) - 0.45, -0.45))
        axes.set_axis_off()
        measured = "finished trials" if finished else "the last reports"
        canvas.add_level_bar(*scale, f"{metric} of {measured}, the best at the right", "{:.4g}")
        return canvas.chart(
            name,
            "Parallel coordinates",
            _coordinates_data(coordinates, metric),
            _coordinates_caption(len(coordinates.lines), len(shown), len(finished)),
        )


def _is_finished(line: TrialLine) -> bool:
    return line.trial.status == "finished"


def _coordinates_caption(num_trials: int, num_shown: int, num_finished: int) -> str:
    """Return which trials are gray, and which are not drawn; empty if there are none of them."""
    texts = []
    if 0 < num_finished < num_shown:
        texts.append("Trials that did not finish are gray.")
    if num_shown < num_trials:
        texts.append(
            f"The first {num_shown:,} of {num_trials:,} trials are drawn and counted in the legend;"
            " the CSV file has all."
        )
    return " ".join(texts)


def _objective_scale(lines: Sequence[TrialLine], mode: str) -> tuple[float, float]:
    """Return the objectives of the first and the last color, without the worst tenth."""
    values = [line.trial.objective for line in lines if line.trial.objective is not None]
    values.sort(reverse=mode == "min")
    first, last = values[int(CLIPPED_FRACTION * (len(values) - 1))], values[-1]
    step = -0.01 if mode == "min" else 0.01
    return (first, last) if first != last else (first - step, first + step)


def _draw_lines(
    canvas: ChartCanvas,
    hparams: Sequence[Hyperparameter],
    lines: Sequence[TrialLine],
    colors: Sequence[str],
    metric: str,
    label: str,
) -> None:
    """Draw lines, thick ones if they are of the best trials, with an entry of the legend."""
    from matplotlib.collections import LineCollection

    if not lines:
        return
    paths = [
        [
            (line.positions.get(hparam.name, ABSENT_X), float(row))
            for row, hparam in enumerate(hparams)
        ]
        for line in lines
    ]
    # The line of one hyperparameter is a mark on its axis.
    paths = [path if len(path) > 1 else [(path[0][0], -0.12), (path[0][0], 0.12)] for path in paths]
    width = 2.6 if lines[0].is_best else 1.3
    alpha = 0.45 if all(color == SOFT for color in colors) else None
    look = LineCollection(paths, colors=list(colors), linewidths=width, alpha=alpha)
    canvas.axes.add_collection(look)
    canvas.add_entry(look, f"{label} ({len(lines):,})")
    canvas.add_tips(look, *(_line_text(line, metric) for line in lines))


def _line_text(line: TrialLine, metric: str) -> str:
    values = ", ".join(f"{name} {value_text(value)}" for name, value in line.trial.hparams.items())
    return f"{line.trial.id}: {metric} {line.trial.objective:.4f}; {values}"


def _draw_coordinate(
    canvas: ChartCanvas, row: int, hparam: Hyperparameter, *, has_absent: bool
) -> None:
    """Draw the axis of a hyperparameter with its name above and its values below."""
    axes = canvas.axes
    axes.hlines(row, 0, 1, color=SOFT, lw=1, zorder=0)
    scale = " (logarithmic)" if hparam.kind.startswith("log") else ""
    style = {"va": "bottom", "ha": "left", "weight": "bold"}
    _draw_text(canvas, 0, row - 0.12, shorten(hparam.name, MAX_NAME_LENGTH) + scale, **style)
    if has_absent:
        _draw_text(canvas, ABSENT_X, row + 0.12, "absent", va="top", ha="center", color=SOFT)
    ticks = _ticks(hparam)
    for number, (x, text) in enumerate(ticks):
        side = "left" if number == 0 else "right" if number == len(ticks) - 1 else "center"
        axes.vlines(x, row - 0.06, row + 0.06, color=SOFT, lw=1, zorder=0)
        _draw_text(canvas, x, row + 0.12, text, va="top", ha=side, color=SOFT)


def _draw_text(canvas: ChartCanvas, x: float, y: float, text: str, **style: str) -> None:
    """Draw a text over the lines, in front of a background of the page's color."""
    box = {"facecolor": CARD, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
    canvas.axes.text(x, y, text, size=SMALL_FONT_SIZE, bbox=box, **style)  # type: ignore[arg-type]


def _ticks(hparam: Hyperparameter) -> list[tuple[float, str]]:
    """Return position and text of the ticks of an axis."""
    if hparam.kind in RANGES:
        values = [value_at(hparam, part, cells=False) for part in RANGE_TICKS]
        texts = [value_text(hparam.values[0])]
        texts += [f"{float(value):.2g}" for value in values[1:-1]]
        texts.append(value_text(hparam.values[1]))
        ticks = list(zip(RANGE_TICKS, texts, strict=True))
        # The ends of a short range of integers repeat.
        return ticks if all(a[1] != b[1] for a, b in pairwise(ticks)) else [ticks[0], ticks[-1]]
    last = max(len(hparam.values) - 1, 1)
    return [
        (number / last, shorten(value_text(value), MAX_VALUE_LENGTH))
        for number, value in enumerate(hparam.values)
    ]


def _coordinates_data(coordinates: ParallelCoordinates, metric: str) -> DataTable:
    names = [hparam.name for hparam in coordinates.hparams]
    rows = [
        [
            line.trial.id,
            line.trial.objective,
            line.trial.epoch,
            str(line.is_best).lower(),
            *(
                value_text(value) if isinstance(value, str) else value
                for value in (line.trial.hparams.get(name) for name in names)
            ),
        ]
        for line in coordinates.lines
    ]
    return DataTable(["trial", metric, "fold_epochs", "best_third", *names], rows)
