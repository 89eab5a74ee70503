"""The class-prior baseline is recorded as a trial of its own kind."""

from pathlib import Path

from raysearch.search.study.baselines import record_majority
from support.result_studies import new_study


def test_the_class_prior_baseline_is_recorded_once(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "x")
    record_majority(study)
    record_majority(study)
    majority = study.history.trials["majority"]
    assert majority.status == "finished"
    assert [report.epoch for report in majority.reports] == [4, 8]
    assert majority.objective == 0.5
    assert study.history.searched() == []
    assert study.history.rungs == {}
