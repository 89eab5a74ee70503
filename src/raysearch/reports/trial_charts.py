"""Draws the ranking of the finished trials as a forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from raysearch.metrics.interval import Interval
from raysearch.reports.chart_canvas import (
    SMALL_FONT_SIZE,
    Chart,
    ChartCanvas,
    DataTable,
    chart_canvas,
    line_style,
)
from raysearch.reports.chart_colors import CARD, INK, SOFT
from raysearch.selection.selection import Candidate, Selection

ROW_HEIGHT, AXIS_HEIGHT, LEGEND_HEIGHT = 22, 64, 19
# The axis reaches so many times the usual distance from the best trial.
OUTLIER_DISTANCE = 4
Range = tuple[float, float]


def shown_candidates(selection: Selection, max_trials: int) -> dict[int, Candidate]:
    """Return the best finished trials by rank, and the selected one if it is not among them."""
    return {
        rank: candidate
        for rank, candidate in enumerate(selection.candidates, 1)
        if rank <= max_trials or candidate.trial is selection.chosen
    }


def ranking_chart(metric: str, selection: Selection, max_trials: int) -> Chart:
    """Draw the best finished trials and the selected one with their intervals.

    A trial far from the others is drawn at the edge of the axis, so that the others are legible.
    """
    ranked = shown_candidates(selection, max_trials)
    candidates = list(ranked.values())
    low, high = objective_range([candidate.objective for candidate in candidates])
    with chart_canvas(AXIS_HEIGHT + ROW_HEIGHT * len(candidates) + LEGEND_HEIGHT * 3) as canvas:
        axes = canvas.axes
        for is_tied, label in ((True, "tied with the best"), (False, "not tied with the best")):
            rows = [
                (row, candidate)
                for row, candidate in enumerate(candidates)
                if candidate.comparison.tied == is_tied
            ]
            _draw_candidates(canvas, rows, (low, high), selection, label)
        axes.set_yticks(
            range(len(candidates)),
            [
                _trial_label(candidate, selection, rank if rank > max_trials else None)
                for rank, candidate in ranked.items()
            ],
        )
        axes.set(ylim=(len(candidates) - 0.5, -0.5), xlabel=f"{metric}, 95 % interval by patient")
        margin = 0.04 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        return canvas.chart(
            "ranking", f"{metric} of the finished trials", _ranking_data(candidates, selection)
        )


def objective_range(objectives: Sequence[Interval]) -> Range:
    """Return the range of the axis of the objectives, the best of which is the first.

    It contains the intervals, but reaches at most `OUTLIER_DISTANCE` times the interval's width of
    the best trial, or the median distance from it, from the best trial.
    """
    values = [objective.value or 0.0 for objective in objectives]
    bounds = [bound for objective in objectives for bound in _bounds(objective)]
    best = _bounds(objectives[0])
    usual = max(max(best) - min(best), median(abs(value - values[0]) for value in values))
    reach = OUTLIER_DISTANCE * usual or 0.01
    low, high = max(min(bounds), values[0] - reach), min(max(bounds), values[0] + reach)
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _bounds(interval: Interval) -> list[float]:
    value = interval.value or 0.0
    low = value if interval.low is None else interval.low
    return [low, value, value if interval.high is None else interval.high]


def _trial_label(candidate: Candidate, selection: Selection, rank: int | None) -> str:
    """Return the label of a trial; `rank` is given if it does not follow the one above."""
    trial = candidate.trial
    star = "★ " if trial is selection.chosen else ""
    return f"{star}{trial.id}{'' if rank is None else f', rank {rank:,}'}"


def _draw_candidates(
    canvas: ChartCanvas,
    rows: Sequence[tuple[int, Candidate]],
    axis_range: Range,
    selection: Selection,
    label: str,
) -> None:
    """Draw trials, all of them tied or none, with an entry of the legend."""
    if not rows:
        return
    is_tied = rows[0][1].comparison.tied
    low, high = axis_range
    color = line_style(0)["color"] if is_tied else SOFT
    ys = [row for row, _candidate in rows]
    bounds = [_bounds(candidate.objective) for _row, candidate in rows]
    tips = [
        f"{candidate.trial.id}: {candidate.objective}, {label}"
        f"{', selected' if candidate.trial is selection.chosen else ''}"
        for _row, candidate in rows
    ]
    lines = canvas.axes.hlines(
        ys, [max(bound[0], low) for bound in bounds], [min(bound[2], high) for bound in bounds],
        color=color,
    )  # fmt: skip
    canvas.add_tips(lines, *tips)
    inside = [index for index, bound in enumerate(bounds) if low <= bound[1] <= high]
    dots = canvas.axes.scatter(
        [bounds[index][1] for index in inside],
        [ys[index] for index in inside],
        s=44,
        facecolor=color if is_tied else CARD,
        edgecolor=color,
        linewidth=1.6,
        zorder=3,
    )
    canvas.add_entry(dots, label)
    canvas.add_tips(dots, *(tips[index] for index in inside))
    outside = [index for index in range(len(rows)) if index not in inside]
    _draw_outliers(
        canvas, [(ys[index], bounds[index][1], tips[index]) for index in outside], low, high
    )
    for y, bound in zip(ys, bounds, strict=True):
        canvas.axes.annotate(
            f"{bound[1]:.4f}",
            (1.02, y),
            xycoords=("axes fraction", "data"),
            va="center",
            color=INK,
            size=SMALL_FONT_SIZE,
        )


def _draw_outliers(
    canvas: ChartCanvas, outliers: Sequence[tuple[int, float, str]], low: float, high: float
) -> None:
    """Draw a triangle at the edge of the axis for each trial (row, value, tooltip) outside it."""
    for y, value, tip in outliers:
        edge, marker = (low, "<") if value < low else (high, ">")
        color = line_style(1)["color"]
        triangle = canvas.axes.scatter([edge], [y], s=44, color=color, marker=marker, zorder=3)
        canvas.add_tips(triangle, tip)
    if outliers:
        canvas.add_entry(triangle, "outside the axis; its value is at the right")


def _ranking_data(candidates: Sequence[Candidate], selection: Selection) -> DataTable:
    rows = [
        [
            candidate.trial.id,
            *(candidate.objective.value, candidate.objective.low, candidate.objective.high),
            str(candidate.comparison.tied).lower(),
            str(candidate.trial is selection.chosen).lower(),
        ]
        for candidate in candidates
    ]
    return DataTable(["trial", "objective", "low", "high", "tied", "selected"], rows)
