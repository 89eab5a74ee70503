"""The model versions of a study are deleted, also if somebody deleted its runs before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities import LoggedModelOutput, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from raysearch.config.space_file import parse_space
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.tracking.run_deletion import StudyDeletion, TrackedStudy
from raysearch.search.tracking.study_runs import StudyRuns
from raysearch.search.tracking.tracking_store import connect

pytestmark = pytest.mark.filterwarnings("ignore")
DELETIONS: dict[str, Callable[[MlflowClient, Run], None]] = {
    "the run": lambda client, run: client.delete_run(run.info.run_id),
    "the experiment": lambda client, run: client.delete_experiment(run.info.experiment_id),
    "mlflow gc": lambda client, run: client._tracking_client.store._hard_delete_run(
        run.info.run_id
    ),
}


@pytest.mark.parametrize("deleted", DELETIONS)
def test_the_versions_and_logged_models_of_a_study_are_deleted(
    shards: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch, deleted: str
) -> None:
    monkeypatch.chdir(tmp_path)
    client = connect(store)
    tree = {"epochs": 2, "trials": 3, "space": {"folds": 2}}
    plan = make_plan(parse_space(tree, "x"), "x", str(shards))[0]
    runs = StudyRuns(plan, client)
    runs.open()
    run = client.get_run(runs.parent_id)
    model = client.create_logged_model(run.info.experiment_id, source_run_id=runs.parent_id)
    client.log_outputs(runs.parent_id, [LoggedModelOutput(model.model_id, step=0)])
    client.create_registered_model("x")
    client.create_model_version("x", f"{tmp_path}/none", runs.parent_id, {"study": plan.identity})
    client.create_model_version("x", f"{tmp_path}/none", tags={"study": "another"})
    DELETIONS[deleted](client, run)

    deletion = StudyDeletion(store, "x", plan.identity)
    assert deletion.find() == TrackedStudy(0, ("1",))
    deletion.delete()
    assert [version.version for version in client.search_model_versions("name = 'x'")] == [2]
    if deleted != "mlflow gc":
        with pytest.raises(MlflowException, match="not found"):
            client.get_logged_model(model.model_id)
