"""What MLflow gets of the result of a study: the ranking, the description, the artifacts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from raysearch.champion.register import Champion
from raysearch.reports.mlflow_summary import study_summary
from raysearch.reports.search_page import search_artifacts
from raysearch.search.study.study import Study
from raysearch.search.tracking.tracker import Tracker
from raysearch.selection.selection import select
from support.champion_studies import REFIT_DECISION
from support.scored_trials import four_trials_study

pytestmark = pytest.mark.filterwarnings("ignore")
NOTE = "mlflow.note.content"
COMMAND = "raysearch launch small.yaml --data shards --name ranked"


@pytest.fixture
def study(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    return four_trials_study(shards, tmp_path / "studies" / "ranked")


def store_of(study: Study) -> str:
    """A store in the folder of the test: MLflow keeps the first one of a relative address open."""
    return f"sqlite:///{study.folder.local.parents[1]}/mlflow.db"


def runs_after(study: Study, champion: Champion, command: str = "") -> dict[str, Run]:
    """The runs of the study, by name, after its events and its summary are sent."""
    tracker = Tracker(study.plan, store_of(study), command=command)
    for event in study.journal.events:
        tracker.send(event)
    files = search_artifacts(study.plan, study.history)
    tracker.send_summary(study_summary(study.plan, study.history, champion, files))
    assert tracker.close("FINISHED", 60) is None
    experiment = tracker.client.get_run(tracker.parent_run_id).info.experiment_id
    runs = tracker.client.search_runs([experiment])
    return {run.data.tags["raysearch.trial"]: run for run in runs}


def test_trials_have_their_interval_and_the_parent_a_description(study: Study) -> None:
    selection = select(study.folder, study.plan, study.history, 0.005)
    champion = Champion(selection.chosen, "3", selection, REFIT_DECISION, None, None)
    runs = runs_after(study, champion, COMMAND)
    for candidate in selection.candidates:
        metrics = runs[candidate.trial.id].data.metrics
        interval = candidate.objective
        names = ("objective_low", "objective_pooled", "objective_high")
        assert [metrics[name] for name in names] == [interval.low, interval.value, interval.high]
    roles = {name: run.data.tags.get("selection", "") for name, run in runs.items()}
    assert roles["t0001"] == "champion"
    assert roles["t0000"] == "tied"
    assert roles["t0003"] == ""
    parent = runs["study"]
    note = parent.data.tags[NOTE]
    assert "the champion is t0001 with auroc" in note
    assert f"`{COMMAND}`" in note
    page = f"#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}"
    assert f"({page}/artifacts/leaderboard.json)" in note
    assert "(#/models/ranked/versions/3)" in note
    assert [line for line in note.splitlines() if line.startswith("| t0001 |")]
    experiment = MlflowClient(store_of(study)).get_experiment(parent.info.experiment_id)
    assert f"[Summary]({page})" in experiment.tags[NOTE]


def test_another_selection_replaces_the_description_and_the_roles(study: Study) -> None:
    selection = select(study.folder, study.plan, study.history, 0.005)
    champion = Champion(selection.chosen, "1", selection, REFIT_DECISION, None, None)
    runs_after(study, champion, COMMAND)
    other = replace(champion, trial=study.history.trials["t0000"], version="2")
    runs = runs_after(study, other)
    roles = {name: run.data.tags.get("selection", "") for name, run in runs.items()}
    assert (roles["t0000"], roles["t0001"]) == ("champion", "tied")
    note = runs["study"].data.tags[NOTE]
    assert "the champion is t0000 with auroc" in note
    assert "/versions/2)" in note
    assert f"`{COMMAND}`" in note  # of the launch
    history = MlflowClient(store_of(study)).get_metric_history(
        runs["t0000"].info.run_id, "objective_low"
    )
    assert [metric.step for metric in history] == [len(selection.candidates)]


def test_the_times_of_a_study_of_slides_are_those_of_a_slide(study: Study) -> None:
    selection = select(study.folder, study.plan, study.history, 0.005)
    champion = Champion(selection.chosen, "3", selection, REFIT_DECISION, None, None)
    plan = replace(study.plan, shape=(400, 768, 1))
    descriptions = [
        study_summary(each, study.history, champion, {}).description for each in (study.plan, plan)
    ]
    assert "| ms per patch |" in descriptions[0]
    assert descriptions[1] == descriptions[0].replace("ms per patch", "ms per slide")
