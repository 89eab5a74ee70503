"""Draws bar charts, histograms and line charts as inline SVG, in the colors of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Range = tuple[float, float]

# All charts have this width, in units of the SVG; the page scales them.
WIDTH = 640

# Bar charts: widths of the names, the numbers; height of a bar and of the space below it.
NAME_WIDTH, NUMBER_WIDTH, BAR_HEIGHT, BAR_GAP = 170, 110, 20, 8
MAX_BAR_NAME_LENGTH = 24

# Histograms: height of the bars, of the axis below them, of the space above them; side margin.
HISTOGRAM_HEIGHT, HISTOGRAM_AXIS, HISTOGRAM_TOP, HISTOGRAM_MARGIN = 150, 40, 18, 8
MAX_BINS = 20

# Line charts: margins around the plot, its height, the heights of the axis and of a legend line.
LEFT, RIGHT, TOP, PLOT_HEIGHT, AXIS_HEIGHT, LEGEND_LINE = 64, 16, 34, 300, 44, 20
NUM_TICKS = 5
# The style sheet has this many line styles, which differ by dashes as well as by color.
NUM_LINE_STYLES = 5


@dataclass(frozen=True)
class Bar:
    """A bar of length `value`, its name and the text at its end."""

    name: str
    value: float
    text: str


@dataclass(frozen=True)
class Series:
    """A line through `x` and `y`, each (K,); a band from `low` to `high`, if they are known."""

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None


@dataclass(frozen=True)
class Axes:
    """The names and the ranges of the axes of a line chart."""

    x: str
    y: str
    x_range: Range = (0.0, 1.0)
    y_range: Range = (0.0, 1.0)

    def position(self, x: float, y: float) -> tuple[float, float]:
        """Return the position of a point in the SVG."""
        (left, right), (low, high) = self.x_range, self.y_range
        x_fraction = (x - left) / ((right - left) or 1)
        y_fraction = (y - low) / ((high - low) or 1)
        return LEFT + x_fraction * (WIDTH - LEFT - RIGHT), TOP + PLOT_HEIGHT * (1 - y_fraction)


def bar_chart(title: str, bars: Sequence[Bar], full_length: float | None = None) -> str:
    """Draw horizontal bars.

    Args:
        title: The text alternative.
        bars: The bars, from top to bottom.
        full_length: The value of a bar of full width; by default that of the longest bar.
    """
    scale = full_length or max((bar.value for bar in bars), default=0) or 1
    height = len(bars) * (BAR_HEIGHT + BAR_GAP) + BAR_GAP
    parts = []
    for index, bar in enumerate(bars):
        top = BAR_GAP + index * (BAR_HEIGHT + BAR_GAP)
        length = (WIDTH - NAME_WIDTH - NUMBER_WIDTH) * bar.value / scale
        name = shorten(bar.name, MAX_BAR_NAME_LENGTH)
        parts.append(
            f"<g><title>{escape(bar.name)}: {escape(bar.text)}</title>"
            f'<text x="{NAME_WIDTH - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="bar" x="{NAME_WIDTH}" y="{top}" width="{max(length, 1):.1f}"'
            f' height="{BAR_HEIGHT}" rx="2"/>'
            f'<text x="{NAME_WIDTH + length + 8:.1f}" y="{top + 15}">{escape(bar.text)}</text></g>'
        )
    return svg(title, height, parts)


def histogram(title: str, values: Floats, unit: str) -> str:
    """Draw a histogram of values (N,) with at most 20 bins of equal width.

    Args:
        title: The text alternative.
        values: The values.
        unit: The name of the axis.
    """
    are_integers = bool((values == np.round(values)).all())
    low, high = float(values.min()), float(values.max())
    num_bins = min(MAX_BINS, int(high - low) + 1) if are_integers and high > low else MAX_BINS
    counts, edges = np.histogram(values, num_bins, (low, high) if high > low else (low, low + 1))
    bin_width = (WIDTH - 2 * HISTOGRAM_MARGIN) / len(counts)
    max_count = max(int(counts.max()), 1)
    base = HISTOGRAM_TOP + HISTOGRAM_HEIGHT
    parts = []
    for index, count in enumerate(counts.tolist()):
        bar_height = HISTOGRAM_HEIGHT * count / max_count
        bounds = f"{axis_number(edges[index])} to {axis_number(edges[index + 1])}"
        x = HISTOGRAM_MARGIN + index * bin_width
        number = (
            f'<text x="{x + bin_width / 2:.1f}" y="{base - bar_height - 4:.1f}"'
            f' text-anchor="middle" class="small">{count:,}</text>'
        )
        parts.append(
            f"<g><title>{escape(f'{bounds} {unit}: {count:,}')}</title>"
            f'<rect class="bar" x="{x + 1:.1f}" y="{base - bar_height:.1f}"'
            f' width="{bin_width - 2:.1f}" height="{bar_height:.1f}"/>{number if count else ""}</g>'
        )
    end = WIDTH - HISTOGRAM_MARGIN
    parts.append(
        f'<line x1="{HISTOGRAM_MARGIN}" x2="{end}" y1="{base}" y2="{base}"/>'
        f'<text x="{HISTOGRAM_MARGIN}" y="{base + 16}">{axis_number(edges[0])}</text>'
        f'<text x="{end}" y="{base + 16}" text-anchor="end">{axis_number(edges[-1])}</text>'
        f'<text x="{WIDTH / 2}" y="{base + 32}" text-anchor="middle">{escape(unit)}</text>'
    )
    return svg(title, base + HISTOGRAM_AXIS, parts)


def line_chart(title: str, axes: Axes, series: Sequence[Series], diagonal: bool = False) -> str:
    """Draw lines with their bands, with a legend if there are several.

    Args:
        title: The text alternative.
        axes: The axes.
        series: The lines.
        diagonal: Whether to draw the diagonal, too.
    """
    parts = _grid(axes)
    if diagonal:
        ends = np.array(axes.x_range), np.array(axes.y_range)
        parts.append(_line("diagonal", axes, *ends, ""))
    parts += [_band(axes, line, number) for number, line in enumerate(series)]
    for number, line in enumerate(series):
        style = f"line style{number % NUM_LINE_STYLES}"
        parts.append(_line(style, axes, line.x, line.y, line.name))
    height = TOP + PLOT_HEIGHT + AXIS_HEIGHT
    if len(series) > 1:
        parts += [_legend(line.name, number, height) for number, line in enumerate(series)]
        height += LEGEND_LINE * len(series) + 8
    return svg(title, height, parts)


def axis_number(value: float) -> str:
    """Return a number as axes show it: as an integer if it is one or is large."""
    return f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.2f}"


def shorten(text: str, max_length: int) -> str:
    """Return `text`, cut off at `max_length` characters."""
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def svg(title: str, height: float, parts: Sequence[str]) -> str:
    """Return a chart of `height`; screen readers read `title`."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _grid(axes: Axes) -> list[str]:
    parts = []
    (left, right), (low, high) = axes.x_range, axes.y_range
    for step in range(NUM_TICKS + 1):
        fraction = step / NUM_TICKS
        y_value = low + fraction * (high - low)
        _x, y = axes.position(left, y_value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{axis_number(y_value)}</text>'
        )
        x_value = left + fraction * (right - left)
        if right - left >= NUM_TICKS:  # epochs are integers
            x_value = float(round(x_value))
        x, _y = axes.position(x_value, low)
        anchor = "end" if step == NUM_TICKS else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{TOP + PLOT_HEIGHT + 18}" text-anchor="{anchor}">'
            f"{axis_number(x_value)}</text>"
        )
    center = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{center}" y="{TOP + PLOT_HEIGHT + 38}" text-anchor="middle">{escape(axes.x)}'
        f'</text><text x="8" y="16">{escape(axes.y)}</text>'
    )
    return parts


def _points(axes: Axes, x: Floats, y: Floats) -> list[str]:
    finite = np.isfinite(x) & np.isfinite(y)
    points = zip(x[finite].tolist(), y[finite].tolist(), strict=True)
    return ["{:.1f},{:.1f}".format(*axes.position(*point)) for point in points]


def _line(style: str, axes: Axes, x: Floats, y: Floats, name: str) -> str:
    title = f"<title>{escape(name)}</title>" if name else ""
    points = " ".join(_points(axes, x, y))
    return f'<g class="{style}">{title}<polyline points="{points}"/></g>'


def _band(axes: Axes, series: Series, number: int) -> str:
    if series.low is None or series.high is None or not np.isfinite(series.low).any():
        return ""
    upper, lower = _points(axes, series.x, series.high), _points(axes, series.x, series.low)
    points = " ".join([*upper, *reversed(lower)])
    return f'<polygon class="band style{number % NUM_LINE_STYLES}" points="{points}"/>'


def _legend(name: str, number: int, top: int) -> str:
    y = top + LEGEND_LINE * number + 6
    points = f"{LEFT},{y} {LEFT + 44},{y}"
    return (
        f'<g class="line style{number % NUM_LINE_STYLES}"><polyline points="{points}"/></g>'
        f'<text x="{LEFT + 54}" y="{y + 5}">{escape(name)}</text>'
    )
