"""The batches that MLflow gets for events."""

from __future__ import annotations

from raysearch.search.journal.events import ChampionSelected, FoldReport
from raysearch.search.tracking.log_batches import TrialLogBatches
from support.champion_studies import REFIT_DECISION


def test_each_repeat_of_the_champion_is_one_step_of_a_metric() -> None:
    event = ChampionSelected("t0000", REFIT_DECISION, (0.9, 0.8), number=3, time=1.0)
    batch = TrialLogBatches(1).convert(event)
    points = [(metric.key, metric.value, metric.step) for metric in batch.metrics]
    assert points == [("objective_repeats", 0.9, 1), ("objective_repeats", 0.8, 2)]
    assert batch.tags == {"champion": "t0000"}
    assert TrialLogBatches(1).convert(ChampionSelected("t0000", REFIT_DECISION)).metrics == []


def test_metrics_of_training_rows_have_a_prefix_in_the_trial_and_in_the_fold() -> None:
    metrics = {"auroc": 0.7}
    report = FoldReport(
        "t0000", 1, 3, 0.7, metrics, 0.5, 1.0, train_metrics={"auroc": 0.8, "f1": None}
    )
    points = {
        (metric.key, metric.value, metric.step)
        for metric in TrialLogBatches(2).convert(report).metrics
    }
    assert {("train_auroc", 0.8, 3), ("fold_1/train_auroc", 0.8, 1)} <= points
    assert {("train_loss", 0.5, 3), ("fold_1/train_loss", 0.5, 1)} <= points
    assert {("fold_1/auroc", 0.7, 1)} <= points
    assert not any("train_f1" in name for name, _value, _step in points)
