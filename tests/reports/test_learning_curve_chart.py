"""The learning curves show validation rows and training rows, and all of them are in the data."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from raysearch.data.csv_files import parse_csv
from raysearch.reports.learning_curve_chart import learning_curve_chart
from raysearch.search.journal.history import Trial
from raysearch.search.study.study import Study


def curve(trial: Trial, epochs: int, metric: str) -> list[float]:
    """Return the values of a curve in the data of the chart, in the order of the reports."""
    chart = learning_curve_chart(trial, epochs)
    assert chart is not None
    return [float(row[3]) for row in parse_csv(chart.csv).rows if row[2] == metric]


@pytest.mark.filterwarnings("ignore")
def test_the_learning_curves_have_the_reports_of_each_fold(small_champion_study: Study) -> None:
    (trial,) = small_champion_study.history.done()
    epochs = small_champion_study.plan.space.epochs
    chart = learning_curve_chart(trial, epochs)
    assert chart is not None
    words = set(ET.fromstring(chart.svg).itertext())
    assert {"fold 0", "fold 1", "epoch", "loss", "auroc"} <= words
    assert {"fold 0, auroc", "fold 0, train_auroc", "fold 1, train_f1"} <= words
    assert curve(trial, epochs, "loss") == [report.loss for report in trial.reports]
    train_values = [(report.train_metrics or {})["accuracy"] for report in trial.reports]
    assert curve(trial, epochs, "train_accuracy") == train_values
    assert all(value is not None for value in train_values)


@pytest.mark.filterwarnings("ignore")
def test_reports_of_an_older_journal_have_no_curves_of_training_rows(
    small_champion_study: Study,
) -> None:
    (trial,) = small_champion_study.history.done()
    epochs = small_champion_study.plan.space.epochs
    older = replace(
        trial, reports=[replace(report, train_metrics=None) for report in trial.reports]
    )
    assert curve(older, epochs, "train_accuracy") == []
    assert curve(older, epochs, "accuracy") == curve(trial, epochs, "accuracy")
