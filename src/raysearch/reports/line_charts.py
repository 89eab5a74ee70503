"""Line charts as inline SVG, in the colours of the page around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from raysearch.reports.bar_charts import WIDTH, short, svg

Floats = NDArray[np.float64]
Range = tuple[float, float]

LEFT, RIGHT, TOP, HEIGHT, AXIS, LINE = 64, 16, 34, 300, 44, 20
TICKS = 5
# So many kinds of line are told apart without colour.
KINDS = 5


@dataclass(frozen=True)
class Series:
    """A line through `x`, `y` (K,), with a band from `low` to `high` where they are given."""

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None


@dataclass(frozen=True)
class Axes:
    """What the axes are called, and from where to where they go."""

    x: str
    y: str
    x_range: Range = (0.0, 1.0)
    y_range: Range = (0.0, 1.0)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where the point is in the chart."""
        (left, right), (low, high) = self.x_range, self.y_range
        across = (x - left) / ((right - left) or 1)
        up = (y - low) / ((high - low) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), TOP + HEIGHT * (1 - up)


def line_chart(title: str, axes: Axes, series: Sequence[Series], even: bool = False) -> str:
    """The lines of `series` in one frame, `even` with a diagonal; a legend says which is which."""
    parts = _grid(axes)
    if even:
        parts.append(_path("even", axes, np.array(axes.x_range), np.array(axes.y_range), ""))
    parts += [_band(axes, one, number) for number, one in enumerate(series) if one.low is not None]
    for number, one in enumerate(series):
        parts.append(_path(f"line kind{number % KINDS}", axes, one.x, one.y, one.name))
    several = len(series) > 1
    foot = TOP + HEIGHT + AXIS
    if several:
        parts += [_legend(one, number, foot) for number, one in enumerate(series)]
    return svg(title, foot + (LINE * len(series) + 8 if several else 0), parts)


def _grid(axes: Axes) -> list[str]:
    parts = []
    (left, right), (low, high) = axes.x_range, axes.y_range
    for step in range(TICKS + 1):
        fraction = step / TICKS
        value = low + fraction * (high - low)
        _x, y = axes.place(left, value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
        )
        across = left + fraction * (right - left)
        if right - left >= TICKS:  # epochs are counted
            across = float(round(across))
        x, _y = axes.place(across, low)
        anchor = "end" if step == TICKS else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{TOP + HEIGHT + 18}" text-anchor="{anchor}">'
            f"{short(across)}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{TOP + HEIGHT + 36}" text-anchor="middle">{escape(axes.x)}</text>'
        f'<text x="8" y="16">{escape(axes.y)}</text>'
    )
    return parts


def _points(axes: Axes, x: Floats, y: Floats) -> list[str]:
    known = np.isfinite(x) & np.isfinite(y)
    places = (axes.place(*one) for one in zip(x[known].tolist(), y[known].tolist(), strict=True))
    return [f"{across:.1f},{down:.1f}" for across, down in places]


def _path(kind: str, axes: Axes, x: Floats, y: Floats, name: str) -> str:
    said = f"<title>{escape(name)}</title>" if name else ""
    points = " ".join(_points(axes, x, y))
    return f'<g class="{kind}">{said}<polyline points="{points}"/></g>'


def _band(axes: Axes, one: Series, number: int) -> str:
    if one.low is None or one.high is None or not np.isfinite(one.low).any():
        return ""
    points = [*_points(axes, one.x, one.high), *reversed(_points(axes, one.x, one.low))]
    return f'<polygon class="band kind{number % KINDS}" points="{" ".join(points)}"/>'


def _legend(one: Series, number: int, foot: int) -> str:
    y = foot + LINE * number + 6
    return (
        f'<g class="line kind{number % KINDS}"><polyline points="{LEFT},{y} {LEFT + 44},{y}"/></g>'
        f'<text x="{LEFT + 54}" y="{y + 5}">{escape(one.name)}</text>'
    )
