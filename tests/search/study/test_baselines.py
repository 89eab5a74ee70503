"""The class-prior baseline is recorded as a trial of its own kind."""

from pathlib import Path

import pytest

from raysearch.search.journal.events import Event, TrialEnded
from raysearch.search.study.baselines import record_majority
from raysearch.search.study.study import Study
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


@pytest.mark.parametrize("num_reports", [1, 2])
def test_the_end_of_the_baseline_is_recorded_after_an_interruption(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_reports: int
) -> None:
    study = new_study(shards, tmp_path / "x")

    record = study._record

    def record_or_interrupt(event: Event) -> None:
        if isinstance(event, TrialEnded):
            raise KeyboardInterrupt  # after the last report, and before what follows from it
        record(event)
        if len(study.history.trials["majority"].reports) == num_reports < 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(study, "_record", record_or_interrupt)
    with pytest.raises(KeyboardInterrupt):
        record_majority(study)
    resumed = Study(study.folder, study.plan)
    assert [trial.id for trial in resumed.history.running()] == ["majority"]
    resumed.begin()
    record_majority(resumed)
    assert resumed.history.trials["majority"].status == "finished"
    assert resumed.history.running() == []
