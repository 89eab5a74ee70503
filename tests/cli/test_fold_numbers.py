"""Folds are numbered from 0 wherever one is named, and a count of folds is no number of one."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from raysearch.cli.leaderboard_table import champion_table, leaderboard_table
from raysearch.cli.live_table import StudyView
from raysearch.cli.plan_text import plan_tables
from raysearch.cli.results_csv import results_csv
from raysearch.data.csv_files import parse_csv
from raysearch.metrics.classification import METRICS
from raysearch.metrics.evaluation import ScoredRows, evaluate_predictions
from raysearch.reports.evaluation_tables import fold_table
from raysearch.reports.learning_curve_chart import learning_curve_chart
from raysearch.search.journal.history import Trial
from raysearch.search.study.study import Study
from raysearch.search.tracking.log_batches import TrialLogBatches
from support.result_studies import TREE, fold_report, new_study, next_searched

TOP = Path(__file__).parents[2]


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    """A study with a trial that has finished the first of two folds of four epochs."""
    study = new_study(shards, tmp_path / "x", TREE | {"stopping": {"rule": "none"}})
    trial = next_searched(study)
    for epoch in range(1, 6):
        study.report(fold_report(trial.id, epoch, 0.7, metrics=dict.fromkeys(METRICS, 0.7)))
    return study


def trial_of(study: Study) -> Trial:
    return study.history.trials["t0000"]


def text_of(item: object) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(item)
    return console.export_text()


def numbered(text: str) -> list[int]:
    """Return the numbers of the folds that a text names, sorted and once each."""
    return sorted({int(number) for number in re.findall(r"fold[ _](\d+)", text)})


def test_every_table_page_and_file_numbers_folds_from_0(study: Study) -> None:
    plan, history, trial = study.plan, study.history, trial_of(study)
    assert numbered(text_of(champion_table(plan, trial))) == [0]
    assert numbered(" ".join(parse_csv(results_csv(plan, history, {})).columns)) == [0]
    chart = learning_curve_chart(trial, plan.space.epochs)
    assert chart is not None
    assert numbered(chart.svg) == [0, 1]
    split_table = text_of(plan_tables(plan, 0)[-1])
    assert re.findall(r"│ (\d) +│", split_table) == ["0", "1"]
    batches = [TrialLogBatches(plan.space.epochs).convert(report) for report in trial.reports]
    names = " ".join(metric.key for batch in batches for metric in batch.metrics)
    assert numbered(names) == [0, 1]


def test_the_metrics_of_a_report_have_the_numbers_of_the_stored_folds() -> None:
    labels, folds = np.array([0, 1] * 4), np.repeat([0, 1], 4)
    probabilities = np.random.default_rng(0).dirichlet((1, 1), 8)
    patients = np.array(list("aabbccdd"))
    scored = ScoredRows(labels, probabilities, patients, ("no", "yes"), 0.5)
    evaluation = evaluate_predictions(scored, folds, num_replicates=10)
    assert [*fold_table(evaluation).columns] == ["metric", "fold 0", "fold 1", "pooled"]


def test_progress_is_the_count_of_finished_folds(study: Study) -> None:
    live = text_of(StudyView(study, Console(file=io.StringIO())))
    (header,) = [line for line in live.splitlines() if line.split()[:1] == ["trial"]]
    (line,) = [line for line in live.splitlines() if line.split()[:1] == ["t0000"]]
    assert dict(zip(header.split(), line.split(), strict=False))["folds"] == "1/2"
    narrow = text_of(leaderboard_table(study.plan, study.history, 80))
    (line,) = [line for line in narrow.splitlines() if "t0000" in line]
    assert " 1/2 " in line
    (metric,) = [
        metric
        for metric in TrialLogBatches(4).convert(trial_of(study).reports[0]).metrics
        if metric.key == "folds_done"
    ]
    assert metric.value == 0


def test_the_glossary_says_how_folds_are_numbered() -> None:
    glossary = " ".join((TOP / "docs" / "glossary.md").read_text().split())
    assert "Folds are numbered from 0" in glossary
