"""The runs of a study after somebody deleted some of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from raysearch.config.space_file import parse_space
from raysearch.metrics.interval import Interval
from raysearch.search.journal.events import TrialEnded, TrialStarted
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.tracking.study_runs import INTERRUPTED, STUDY, StudyRuns
from raysearch.search.tracking.study_summary import (
    SELECTION,
    RankedTrial,
    StudySummary,
    log_summary,
)
from raysearch.search.tracking.tracking_store import connect

pytestmark = pytest.mark.filterwarnings("ignore")
TRIALS = ("t0000", "t0001", "t0002")


@pytest.fixture
def client(store: str) -> MlflowClient:
    return connect(store)


@pytest.fixture
def runs(
    client: MlflowClient, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StudyRuns:
    """The runs of a study with three trials that train."""
    monkeypatch.chdir(tmp_path)
    plan = make_plan(
        parse_space({"epochs": 2, "trials": 3, "space": {"folds": 2}}, "x"), "x", str(shards)
    )[0]
    runs = StudyRuns(plan, client)
    runs.open()
    for trial in TRIALS:
        runs.start(TrialStarted(trial, "trial", {"width": 4}, seed=1, folds=2))
    return runs


def delete(client: MlflowClient, runs: StudyRuns, name: str) -> None:
    """Delete a run, as somebody does in MLflow's UI."""
    run_id = runs.run_id(name)
    assert run_id is not None
    client.delete_run(run_id)


def test_the_summary_leaves_out_the_deleted_run_of_a_finished_trial(
    client: MlflowClient, runs: StudyRuns
) -> None:
    for trial in TRIALS:
        runs.end(TrialEnded(trial, "finished", "all folds done"))
    delete(client, runs, "t0001")
    ranked = {trial: RankedTrial(Interval(0.1, 0.2, 0.3), "tied") for trial in TRIALS}
    for _launch in range(2):
        log_summary(client, runs, StudySummary("", "The best is t0000.", ranked, "1"))
    logged = {run.data.tags["raysearch.trial"]: run.data.tags for run in runs._search()}
    assert {name for name, tags in logged.items() if SELECTION in tags} == {"t0000", "t0002"}
    assert logged[STUDY][MLFLOW_RUN_NOTE].startswith("The best is t0000.")
    assert "the run of t0001 was deleted" in str(runs.rejection)


@pytest.mark.parametrize("deleted", ["t0000", STUDY])
def test_an_interrupt_ends_all_runs_but_the_deleted_one_of_a_trial(
    client: MlflowClient, runs: StudyRuns, deleted: str
) -> None:
    delete(client, runs, deleted)
    runs.interrupt("KILLED")
    ended = {run.data.tags["raysearch.trial"]: run for run in runs._search()}
    assert ended.keys() == {STUDY, *TRIALS} - ({deleted} - {STUDY})
    assert {run.info.status for run in ended.values()} == {"KILLED"}
    assert ended["t0002"].data.tags["state"] == INTERRUPTED


def test_a_request_is_repeated_if_another_thread_has_restored_its_run(
    client: MlflowClient, runs: StudyRuns
) -> None:
    num_rejected = 0

    def send() -> None:
        nonlocal num_rejected
        try:
            client.set_tag(runs.parent_id, "sent", "yes")
        except MlflowException:
            num_rejected += 1
            runs.restore_parent()  # as the other thread does
            raise

    delete(client, runs, STUDY)
    runs._restored(STUDY, send)
    assert num_rejected == 1
    assert client.get_run(runs.parent_id).data.tags["sent"] == "yes"
