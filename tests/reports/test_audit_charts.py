"""The charts of an audit: bins of integers, and names of classes in the names of axes."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from raysearch.data.csv_files import parse_csv
from raysearch.reports.audit_charts import MAX_UNIT_LENGTH, Bar, bar_chart, histogram
from raysearch.reports.chart_canvas import Chart


def bins_of(chart: Chart) -> list[tuple[float, ...]]:
    """Return the ends and the count of each bin."""
    return [tuple(map(float, row)) for row in parse_csv(chart.csv).rows]


def texts_of(chart: Chart) -> list[str]:
    """Return the texts of a chart: its tooltips, numbers and names."""
    return [text for text in ET.fromstring(chart.svg).itertext() if text.strip()]


def test_equal_integers_have_one_bin_and_one_tick() -> None:
    chart = histogram("sizes", "Sizes", np.full(3, 50.0), "patches", "patients")
    assert bins_of(chart) == [(50, 50, 3)]
    texts = texts_of(chart)
    assert "50 patches: 3 patients" in texts
    assert "50" in texts
    assert not [text for text in texts if text.startswith(("49", "50.", "51"))]


def test_each_bin_of_integers_has_as_many_integers() -> None:
    chart = histogram("sizes", "Sizes", np.arange(1.0, 22.0), "patches", "patients")
    assert bins_of(chart) == [(first, first + 1, 2) for first in range(1, 20, 2)] + [(21, 21, 1)]
    assert "1 to 2 patches: 2 patients" in texts_of(chart)
    ends = [bins[:2] for bins in bins_of(histogram("x", "X", np.arange(100.0), "x", "n"))]
    assert ends == [(first, first + 4) for first in range(0, 100, 5)]


def test_equal_fractions_have_one_bin() -> None:
    chart = histogram("shares", "Shares", np.full(3, 100 / 3), "%", "patients")
    assert bins_of(chart) == [(32.833333, 33.833333, 3)]


@pytest.mark.parametrize("name", ["z\x1bb", "z\udc80b", "z\ufffe", "z" * 200])
def test_the_name_of_an_axis_can_be_drawn_and_is_short(name: str) -> None:
    unit = f"% {name}"
    for chart in (
        histogram("shares", "Shares", np.array([1.0, 2.5]), unit, "patients"),
        bar_chart("bars", "Bars", [Bar("a", 1, "1")], unit),
    ):
        labels = [text for text in texts_of(chart) if text.startswith("% z")]
        assert labels
        assert max(map(len, labels)) <= MAX_UNIT_LENGTH
