"""The figures and the leaderboard beside a study's parent run."""

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from raysearch.reports.study_artifacts import study_files
from raysearch.search.study.study import Study
from raysearch.search.tracking import tracker as runs
from raysearch.search.tracking.tracker import Tracker
from support.result_studies import new_study, run_on

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def study(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    study = new_study(shards, tmp_path / "studies" / "sent")
    run_on(study, 6)
    return study


def test_they_are_in_the_parent_run_once_however_often_they_are_sent(study: Study) -> None:
    client = MlflowClient("sqlite:///mlflow.db")
    for _launch in range(2):
        tracker = Tracker(study.plan, "sqlite:///mlflow.db")
        tracker.attach(study_files(study.plan, study.history))
        assert tracker.close("FINISHED", 60) is None
    names = [one.path for one in client.list_artifacts(tracker.parent)]
    assert sorted(names) == ["figures.html", "leaderboard.json"]
    experiment = client.get_run(tracker.parent).info.experiment_id
    table = client.load_table(experiment, "leaderboard.json", [tracker.parent])
    assert sorted(table["trial"]) == sorted([one.id for one in study.history.searched()] + FAILED)
    assert {"auroc", "learning_rate", "fold_epochs", "state"} <= set(table.columns)
    page = Path(client.download_artifacts(tracker.parent, "figures.html")).read_text()
    assert page.count("<svg") == 3
    assert client.get_run(tracker.parent).info.status == "FINISHED"


FAILED = ["benchmark"]


def test_the_table_is_plain_json(study: Study) -> None:
    table = json.loads(study_files(study.plan, study.history)["leaderboard.json"])
    assert all(len(row) == len(table["columns"]) for row in table["data"])
    assert table["columns"][4] == "auroc"
    best = max(one.objective or 0 for one in study.history.searched() if one.status == "finished")
    assert table["data"][0][4] == best


def test_what_the_store_does_not_take_is_told_at_the_end(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reject(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "send_files", reject)
    monkeypatch.setattr(runs, "WAITS_S", (0.01,))
    tracker = Tracker(study.plan, "sqlite:///mlflow.db")
    tracker.attach(study_files(study.plan, study.history))
    assert "No space left" in str(tracker.close("FINISHED", 60))
