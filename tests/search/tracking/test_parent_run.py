"""The files and the evaluation results at a study's parent run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from raysearch.reports.search_page import search_artifacts
from raysearch.search.study.study import Study
from raysearch.search.tracking import tracker as tracker_module
from raysearch.search.tracking.parent_run import RunContent, log_to_parent_run
from raysearch.search.tracking.tracker import Tracker
from raysearch.search.tracking.tracking_store import global_store
from support.result_studies import new_study, train_next

pytestmark = pytest.mark.filterwarnings("ignore")
NUM_FIGURES = 2  # the importances need more trials


@pytest.fixture
def study(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    study = new_study(shards, tmp_path / "studies" / "sent")
    train_next(study, 6)
    return study


def test_files_that_are_sent_twice_are_in_the_parent_run_once(study: Study, store: str) -> None:
    client = MlflowClient(store)
    for _launch in range(2):
        tracker = Tracker(study.plan, store)
        tracker.send_files(search_artifacts(study.plan, study.history))
        assert tracker.close("FINISHED", 60) is None
    run_id = tracker.parent_run_id
    names = [artifact.path for artifact in client.list_artifacts(run_id)]
    assert sorted(names) == ["figures.html", "leaderboard.json"]
    experiment = client.get_run(run_id).info.experiment_id
    with global_store(store):  # `load_table` searches the global store, not the client's
        table = client.load_table(experiment, "leaderboard.json", [run_id])
    trials = [trial.id for trial in study.history.searched()]
    assert sorted(table["trial"]) == sorted([*trials, "benchmark"])
    assert {"auroc", "learning_rate", "fold_epochs", "state"} <= set(table.columns)
    page = Path(client.download_artifacts(run_id, "figures.html")).read_text()
    assert page.count("<svg") == NUM_FIGURES
    assert client.get_run(run_id).info.status == "FINISHED"


def test_the_leaderboard_is_plain_json(study: Study) -> None:
    table = json.loads(search_artifacts(study.plan, study.history)["leaderboard.json"])
    assert all(len(row) == len(table["columns"]) for row in table["data"])
    assert table["columns"][4] == "auroc"
    finished = [trial for trial in study.history.searched() if trial.status == "finished"]
    assert table["data"][0][4] == max(trial.objective or 0 for trial in finished)


def test_files_that_the_store_does_not_accept_are_reported_at_the_end(
    study: Study, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    def reject(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tracker_module, "log_files", reject)
    monkeypatch.setattr(tracker_module, "RETRY_DELAYS_S", (0.01,))
    tracker = Tracker(study.plan, store)
    tracker.send_files(search_artifacts(study.plan, study.history))
    assert "No space left" in str(tracker.close("FINISHED", 5))


def test_results_are_added_to_a_parent_run_that_has_ended(study: Study, store: str) -> None:
    content = RunContent({"test_auroc": 0.9}, {"test_trial": "t0000"}, {"test.json": b"{}"})
    assert isinstance(log_to_parent_run(study.plan, store, content), LookupError)
    tracker = Tracker(study.plan, store)
    assert tracker.close("FINISHED", 60) is None
    assert log_to_parent_run(study.plan, store, content) is None
    run = tracker.client.get_run(tracker.parent_run_id)
    assert run.data.metrics == {"test_auroc": 0.9}
    assert run.data.tags["test_trial"] == "t0000"
    assert [file.path for file in tracker.client.list_artifacts(run.info.run_id)] == ["test.json"]
    for _attempt in range(2):  # a stored result is sent again with its own time
        assert log_to_parent_run(study.plan, store, replace(content, time_ms=1000)) is None
    points = tracker.client.get_metric_history(run.info.run_id, "test_auroc")
    assert [point.timestamp for point in points].count(1000) == 1


def test_a_report_is_linked_once_in_the_description(study: Study, store: str) -> None:
    tracker = Tracker(study.plan, store)
    assert tracker.close("FINISHED", 60) is None
    for _report in range(2):
        content = RunContent(files={"report.html": b"<html></html>"})
        assert log_to_parent_run(study.plan, store, content) is None
    run = tracker.client.get_run(tracker.parent_run_id)
    page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/report.html"
    assert run.data.tags["mlflow.note.content"].count(f"[Report]({page})") == 1
