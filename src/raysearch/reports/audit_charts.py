"""Draws the charts of an audit: bars of counts and values, and histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.reports.chart_canvas import (
    SMALL_FONT_SIZE,
    Chart,
    DataTable,
    chart_canvas,
    line_style,
    shorten,
)

MAX_NAME_LENGTH, MAX_UNIT_LENGTH, MAX_BINS = 24, 40, 20
BAR_HEIGHT, AXIS_HEIGHT, HISTOGRAM_HEIGHT = 28, 52, 240
# The axis of values is so much longer than the longest bar, for the text at its end.
TEXT_ROOM = 1.3


@dataclass(frozen=True)
class Bar:
    """A bar of length `value`, its name and the text at its end."""

    name: str
    value: float
    text: str


def bar_chart(
    name: str, title: str, bars: Sequence[Bar], unit: str, full_length: float | None = None
) -> Chart:
    """Draw horizontal bars, from top to bottom.

    Args:
        name: The name of the chart's files.
        title: The title.
        bars: The bars.
        unit: The name of the axis of the values.
        full_length: The value at the end of the axis; by default the longest bar with its text.
    """
    longest = max((bar.value for bar in bars), default=0) or 1
    with chart_canvas(AXIS_HEIGHT + BAR_HEIGHT * len(bars)) as canvas:
        axes, color = canvas.axes, line_style(0)["color"]
        for row, bar in enumerate(bars):
            drawn = axes.barh(row, bar.value, 0.66, color=color)
            canvas.add_tips(drawn.patches[0], f"{bar.name}: {bar.text}")
            axes.annotate(
                bar.text,
                (bar.value, row),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                size=SMALL_FONT_SIZE,
            )
        names = [shorten(bar.name, MAX_NAME_LENGTH) for bar in bars]
        axes.set_yticks(range(len(bars)), names)
        axes.set(ylim=(len(bars) - 0.5, -0.5), xlim=(0, full_length or longest * TEXT_ROOM))
        axes.set_xlabel(shorten(unit, MAX_UNIT_LENGTH))
        axes.grid(visible=False, axis="y")
        axes.xaxis.get_major_locator().set_params(nbins=5)  # type: ignore[call-arg]
        data = DataTable(["name", "value"], [[bar.name, bar.value] for bar in bars])
        return canvas.chart(name, title, data)


def histogram(name: str, title: str, values: NDArray[np.float64], unit: str, counted: str) -> Chart:
    """Draw a histogram with at most 20 bins of equal width; bins of integers have integer widths.

    Args:
        name: The name of the chart's files.
        title: The title.
        values: The values, shape (N,).
        unit: The name of the axis of the values.
        counted: What is counted.
    """
    are_integers, highest = bool((values == np.round(values)).all()), float(values.max())
    counts, edges = np.histogram(values, _bin_edges(values, are_integers=are_integers))
    rows = [
        [*_bin_ends(float(start), float(end), highest if are_integers else None), count]
        for start, end, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
    ]
    with chart_canvas(HISTOGRAM_HEIGHT) as canvas:
        width = float(edges[1] - edges[0])
        bars = canvas.axes.bar(
            edges[:-1], counts, width * 0.94, align="edge", color=line_style(0)["color"]
        )
        for patch, (start, end, count) in zip(bars.patches, rows, strict=True):
            value = f"{start:.10g}" if start == end else f"{start:.10g} to {end:.10g}"
            canvas.add_tips(patch, f"{value} {unit}: {count:,} {counted}")
        canvas.axes.set(
            xlabel=shorten(unit, MAX_UNIT_LENGTH), ylabel=shorten(counted, MAX_UNIT_LENGTH)
        )
        canvas.axes.grid(visible=False, axis="x")
        x_locator = canvas.axes.xaxis.get_major_locator()
        x_locator.set_params(integer=are_integers, min_n_ticks=1)  # type: ignore[call-arg]
        canvas.axes.yaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        return canvas.chart(name, title, DataTable(["from", "to", counted], rows))


def _bin_edges(values: NDArray[np.float64], *, are_integers: bool) -> NDArray[np.float64]:
    """Return the edges of at most 20 bins; those of integers are halfway between integers."""
    low, high = float(values.min()), float(values.max())
    if are_integers:
        width = -(-(int(high - low) + 1) // MAX_BINS)
        return np.arange(low - 0.5, high + 0.5 + width, width)
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    return np.linspace(low, high, MAX_BINS + 1)


def _bin_ends(start: float, end: float, highest_integer: float | None) -> tuple[float, float]:
    """Return the ends of a bin; if the values are integers, the first and the last one in it."""
    if highest_integer is None:
        return round(start, 6), round(end, 6)
    return round(start + 0.5), round(min(end - 0.5, highest_integer))
