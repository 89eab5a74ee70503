"""The ranking of trials: outliers do not determine its axis, and all trials are in its data."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from raysearch.data.csv_files import parse_csv
from raysearch.metrics.interval import Interval
from raysearch.reports.trial_charts import (
    objective_range,
    ranking_chart,
    shown_candidates,
)
from raysearch.search.journal.history import Trial
from raysearch.search.study.study import Study
from raysearch.selection.selection import Candidate, Selection, select


def interval(value: float) -> Interval:
    return Interval(value - 0.02, value, value + 0.02)


def test_an_outlier_does_not_determine_the_axis() -> None:
    values = [0.91, 0.9, 0.89, 0.88, 0.5]
    low, high = objective_range([interval(value) for value in values])
    assert low == pytest.approx(0.91 - 4 * 0.04)
    assert high == pytest.approx(0.93)


def test_the_axis_contains_the_intervals_if_there_is_no_outlier() -> None:
    bounds = objective_range([interval(value) for value in (0.91, 0.9, 0.89)])
    assert bounds == pytest.approx((0.87, 0.93))


def test_the_axis_of_equal_objectives_without_intervals_has_a_length() -> None:
    low, high = objective_range([Interval(None, 0.5, None)] * 3)
    assert low < 0.5 < high


@pytest.fixture
def selection(small_champion_study: Study) -> Selection:
    """Four trials, of which the last is an outlier."""
    study = small_champion_study
    real = select(study.folder, study.plan, study.history)
    candidates = []
    for number, value in enumerate((0.91, 0.9, 0.89, 0.5)):
        comparison = replace(real.candidates[0].comparison, tied=number < 2)
        trial = Trial(f"t{number}", "trial", {}, 1, 2)
        candidates.append(Candidate(trial, interval(value), comparison, 1.0))
    return replace(real, candidates=tuple(candidates), chosen=candidates[1].trial)


@pytest.mark.filterwarnings("ignore")
def test_the_ranking_shows_the_values_and_what_the_marks_mean(selection: Selection) -> None:
    chart = ranking_chart("auroc", selection, 20)
    words = list(ET.fromstring(chart.svg).itertext())
    for word in (
        *("t0", "★ t1", "0.9100", "0.5000", "auroc, 95 % interval by patient"),
        *("tied with the best", "not tied with the best"),
        "outside the axis; its value is at the right",
        "t1: 0.9000 (0.8800 to 0.9200), tied with the best, selected",
    ):
        assert word in words, word
    table = parse_csv(chart.csv)
    assert [float(row[1]) for row in table.rows] == [0.91, 0.9, 0.89, 0.5]
    assert [row[5] for row in table.rows] == ["false", "true", "false", "false"]


@pytest.mark.filterwarnings("ignore")
def test_the_ranking_shows_the_selected_trial_at_any_rank(selection: Selection) -> None:
    selection = replace(selection, chosen=selection.candidates[3].trial)
    chart = ranking_chart("auroc", selection, 2)
    words = set(ET.fromstring(chart.svg).itertext())
    assert {"t0", "t1", "★ t3, rank 4"} <= words
    assert [row[0] for row in parse_csv(chart.csv).rows] == ["t0", "t1", "t3"]
    assert list(shown_candidates(selection, 2)) == [1, 2, 4]
    assert list(shown_candidates(selection, 4)) == [1, 2, 3, 4]
