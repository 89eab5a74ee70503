"""The batches that MLflow gets for events."""

from __future__ import annotations

from raysearch.search.journal.events import ChampionSelected
from raysearch.search.tracking.log_batches import TrialLogBatches
from support.champion_studies import REFIT_DECISION


def test_each_repeat_of_the_champion_is_one_step_of_a_metric() -> None:
    event = ChampionSelected("t0000", REFIT_DECISION, (0.9, 0.8), number=3, time=1.0)
    batch = TrialLogBatches(1).convert(event)
    points = [(metric.key, metric.value, metric.step) for metric in batch.metrics]
    assert points == [("objective_repeats", 0.9, 1), ("objective_repeats", 0.8, 2)]
    assert batch.tags == {"champion": "t0000"}
    assert TrialLogBatches(1).convert(ChampionSelected("t0000", REFIT_DECISION)).metrics == []
