"""The status of a study's run in MLflow after an interrupted selection."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from raysearch import workflow
from raysearch.errors import StudyError
from raysearch.selection.decision_rule import SelectionOptions
from support.result_studies import TREE, new_study, train_next
from support.workflow_stand_ins import NoListener, no_session


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num_trained", [1, 2])
def test_only_a_study_with_open_trials_is_killed(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_trained: int
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setattr(workflow, "_session", no_session)
    study = new_study(shards, tmp_path / "studies" / "selected", TREE | {"trials": 2})
    train_next(study, num_trained)
    statuses = []
    for error in (KeyboardInterrupt(), StudyError("an error of the selection")):

        def stop(*_arguments: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(workflow, "select_and_register_champion", stop)
        with pytest.raises(type(error)):
            workflow.reselect_champion(study.folder, SelectionOptions(), NoListener())
        client = MlflowClient(store, store)
        experiment = client.get_experiment_by_name("selected")
        (run,) = client.search_runs([experiment.experiment_id], "tags.kind = 'study'")
        statuses.append(run.info.status)
    assert statuses == ["FINISHED" if num_trained == 2 else "KILLED"] * 2
