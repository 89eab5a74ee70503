"""The legend and the scale of the parallel coordinates name what they show."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest

from raysearch.analysis.parallel_coordinates import ParallelCoordinates, TrialLine
from raysearch.config.space import Hyperparameter
from raysearch.reports import search_charts
from raysearch.reports.chart_canvas import Chart
from raysearch.reports.search_charts import coordinates_chart
from raysearch.search.journal.history import Status, Trial
from support.result_studies import fold_report

WIDTH = Hyperparameter("width", "int", (4, 16))


def line(number: int, status: Status, objective: float, *, is_best: bool) -> TrialLine:
    trial = Trial(f"t{number}", "trial", {"width": 8}, 1, 2, status=status)
    trial.reports.append(fold_report(trial.id, 1, objective))
    return TrialLine(trial, {"width": 0.5}, is_best)


def chart_of(lines: Sequence[TrialLine], mode: str = "max") -> Chart:
    coordinates = ParallelCoordinates((WIDTH,), tuple(lines))
    return coordinates_chart(coordinates, "auroc", mode, "coordinates")


def words_of(chart: Chart) -> list[str]:
    return [text for text in ET.fromstring(chart.svg).itertext() if text.strip()]


def test_without_a_finished_trial_no_text_says_that_one_finished() -> None:
    chart = chart_of([line(n, "running", 0.8 - n / 100, is_best=n < 2) for n in range(6)])
    words = words_of(chart)
    assert {"best third (2)", "others, not finished (4)"} <= set(words)
    assert "auroc of the last reports, the best at the right" in words
    assert chart.caption == ""


def test_the_legend_counts_each_trial_once_and_all_of_the_best_third() -> None:
    lines = [
        line(0, "finished", 0.9, is_best=True),
        line(1, "stopped", 0.8, is_best=True),
        line(2, "finished", 0.7, is_best=False),
        line(3, "stopped", 0.6, is_best=False),
        line(4, "failed", 0.5, is_best=False),
    ]
    chart = chart_of(lines)
    words = set(words_of(chart))
    assert {"best third (2)", "others, finished (1)", "others, not finished (2)"} <= words
    assert chart.caption == "Trials that did not finish are gray."


def test_trials_that_are_not_drawn_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_charts, "MAX_LINES", 2)
    lines = [line(number, "finished", 0.5, is_best=number < 1) for number in range(3)]
    assert "The first 2 of 3 trials are drawn" in chart_of(lines).caption


@pytest.mark.parametrize(("mode", "ends"), [("max", ("0.49", "0.51")), ("min", ("0.51", "0.49"))])
def test_the_better_end_of_the_scale_of_equal_objectives_is_at_the_right(
    mode: str, ends: tuple[str, str]
) -> None:
    words = words_of(chart_of([line(0, "finished", 0.5, is_best=True)], mode))
    assert words.index(ends[0]) < words.index(ends[1])
