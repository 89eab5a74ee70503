"""Small bar charts as inline SVG, in the colours of the page around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH, NAME, NUMBER, BAR, GAP = 640, 170, 110, 20, 8
HEIGHT, FOOT, HEAD, LEFT = 150, 40, 18, 8
BINS = 20


@dataclass(frozen=True)
class Bar:
    """A bar `value` long, its name and the text at its end."""

    name: str
    value: float
    text: str


def bars(title: str, some: Sequence[Bar], full: float | None = None) -> str:
    """Horizontal bars, of which one of `full` would fill the width; by default the longest does."""
    most = full or max((one.value for one in some), default=0) or 1
    height = len(some) * (BAR + GAP) + GAP
    parts = []
    for place, one in enumerate(some):
        top = GAP + place * (BAR + GAP)
        length = (WIDTH - NAME - NUMBER) * one.value / most
        name = one.name if len(one.name) <= 24 else f"{one.name[:23]}…"
        parts.append(
            f"<g><title>{escape(one.name)}: {escape(one.text)}</title>"
            f'<text x="{NAME - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="bar" x="{NAME}" y="{top}" width="{max(length, 1):.1f}" height="{BAR}"'
            ' rx="2"/>'
            f'<text x="{NAME + length + 8:.1f}" y="{top + 15}">{escape(one.text)}</text></g>'
        )
    return svg(title, height, parts)


def histogram(title: str, values: NDArray[np.float64], unit: str) -> str:
    """How many of `values` (N,) lie in each of up to 20 equal bins; `unit` names the axis."""
    whole = bool((values == np.round(values)).all())
    low, high = float(values.min()), float(values.max())
    bins = min(BINS, int(high - low) + 1) if whole and high > low else BINS
    counts, edges = np.histogram(values, bins, (low, high) if high > low else (low, low + 1))
    step, most = (WIDTH - 2 * LEFT) / len(counts), max(int(counts.max()), 1)
    base = HEAD + HEIGHT
    parts = []
    for place, count in enumerate(counts.tolist()):
        tall = HEIGHT * count / most
        span = f"{short(edges[place])} to {short(edges[place + 1])} {unit}: {count:,}"
        x = LEFT + place * step
        number = f'<text x="{x + step / 2:.1f}" y="{base - tall - 4:.1f}" text-anchor="middle"' + (
            f' class="small">{count:,}</text>'
        )
        parts.append(
            f"<g><title>{escape(span)}</title>"
            f'<rect class="bar" x="{x + 1:.1f}" y="{base - tall:.1f}" width="{step - 2:.1f}"'
            f' height="{tall:.1f}"/>{number if count else ""}</g>'
        )
    end = WIDTH - LEFT
    parts.append(
        f'<line x1="{LEFT}" x2="{end}" y1="{base}" y2="{base}"/>'
        f'<text x="{LEFT}" y="{base + 16}">{short(edges[0])}</text>'
        f'<text x="{end}" y="{base + 16}" text-anchor="end">{short(edges[-1])}</text>'
        f'<text x="{WIDTH / 2}" y="{base + 32}" text-anchor="middle">{escape(unit)}</text>'
    )
    return svg(title, base + FOOT, parts)


def short(value: float) -> str:
    """`value` as an axis shows it: whole where it is, or is large."""
    return f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.2f}"


def svg(title: str, height: float, parts: Sequence[str]) -> str:
    """A chart `height` high of `parts`, which `title` says to those who do not see it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
