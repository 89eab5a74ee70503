"""The view of a study that MLflow's UI opens on."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from raysearch.search.study.study import Study
from raysearch.search.tracking.study_view import (
    COMPRESSED,
    KIND_TAG,
    VIEW_TAG,
    searched_hparams,
    study_links,
)
from raysearch.search.tracking.tracker import Tracker
from support.result_studies import new_study, train_next

pytestmark = pytest.mark.filterwarnings("ignore")
MAX_CHARACTERS = 5000  # of a tag's value, as in older databases of MLflow


@pytest.fixture
def study(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    study = new_study(shards, tmp_path / "studies" / "seen")
    train_next(study, 3)
    return study


def stored_view(value: str) -> dict[str, Any]:
    """The state of a view as the UI reads it from the value of its tag."""
    envelope = json.loads(value)
    assert isinstance(envelope["name"], str)
    assert isinstance(envelope["createdAt"], int)
    assert envelope["state"].startswith(COMPRESSED)
    compressed = base64.b64decode(envelope["state"].removeprefix(COMPRESSED))
    view: dict[str, Any] = json.loads(zlib.decompress(compressed))
    return view


def test_the_view_lists_the_trials_of_this_study_with_what_varies(study: Study, store: str) -> None:
    tracker = Tracker(study.plan, store)
    for event in study.journal.events:
        tracker.send(event)
    assert tracker.close("FINISHED", 60) is None
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("seen")
    assert experiment is not None
    assert experiment.tags[KIND_TAG] == "custom_model_development"
    assert len(experiment.tags[VIEW_TAG]) < MAX_CHARACTERS
    view = stored_view(experiment.tags[VIEW_TAG])
    listed = client.search_runs(
        [experiment.experiment_id],
        view["searchFilter"],
        order_by=[f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"],
    )
    names = [run.data.tags["raysearch.trial"] for run in listed]
    assert sorted(names) == [trial.id for trial in study.history.searched()]
    values = [run.data.metrics.get("objective_finished", 0.0) for run in listed]
    assert values == sorted(values, reverse=True)
    assert searched_hparams(study.plan) == ["optimizer", "learning_rate", "width", "momentum"]
    columns = view["selectedColumns"]
    assert [name for name in columns if name.startswith("params.")] == [
        f"params.`{name}`" for name in searched_hparams(study.plan)
    ]
    assert "params.`batch_size`" not in columns


def test_the_charts_show_metrics_and_parameters_that_the_trials_have(
    study: Study, store: str
) -> None:
    tracker = Tracker(study.plan, store)
    for event in study.journal.events:
        tracker.send(event)
    assert tracker.close("FINISHED", 60) is None
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("seen")
    assert experiment is not None
    view = stored_view(experiment.tags[VIEW_TAG])
    runs = client.search_runs([experiment.experiment_id], view["searchFilter"])
    metrics = {name for run in runs for name in run.data.metrics}
    params = set.intersection(*(set(run.data.params) for run in runs))
    charts = {chart["uuid"]: chart for chart in view["compareRunCharts"]}
    assert set(charts["coordinates"]["selectedParams"]) == {"optimizer", "learning_rate", "width"}
    assert set(charts["coordinates"]["selectedParams"]) <= params  # else the chart omits a trial
    axes = [charts["seconds"][axis]["key"] for axis in ("xaxis", "yaxis")]
    assert axes == ["train_seconds", "objective"]
    shown = {name for chart in charts.values() for name in chart.get("selectedMetricKeys", ())}
    assert {"objective", "fold_0/auroc", "fold_1/auroc", "train_loss"} == shown
    assert (shown | set(axes)) <= metrics
    sections = {section["uuid"] for section in view["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in charts.values()} == sections


def test_a_link_opens_the_view_of_each_study_of_the_store(study: Study, store: str) -> None:
    assert Tracker(study.plan, store).close("FINISHED", 60) is None
    ((name, link),) = study_links(store, "http://127.0.0.1:5000/?token=x")
    assert name == "seen"
    assert link.startswith("http://127.0.0.1:5000/?token=x#/experiments/")
    assert link.endswith("&compareRunsMode=CHART&viewStateShareKey=raysearch")
