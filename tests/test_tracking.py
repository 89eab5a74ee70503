"""What happens to a study's events when the tracking store is not what it should be."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from raysearch.errors import StudyError
from raysearch.search.journal import Event
from raysearch.search.plan import Plan, make_plan
from raysearch.search.space_file import parse_space
from raysearch.search.tracking.runs import Tracker

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def plan(shards: Path) -> Plan:
    tree = {"epochs": 2, "trials": 2, "space": {"folds": 2, "width": 4}}
    return make_plan(parse_space(tree, "x"), "x", str(shards))[0]


def events() -> Iterator[Event]:
    for number, event in enumerate(what_happens()):
        yield {"n": number, "at": 1_700_000_000.0 + number, **event}


def what_happens() -> Iterator[dict[str, Any]]:
    for trial in ("t0000", "t0001"):
        knobs = {"width": 4, "folds": 2}
        yield {
            "event": "trial",
            "trial": trial,
            "kind": "trial",
            "knobs": knobs,
            "seed": 1,
            "folds": 2,
        }
        for epoch in range(1, 5):
            yield {
                "event": "report",
                "trial": trial,
                "epoch": epoch,
                "fold": (epoch - 1) // 2,
                "objective": 0.5,
                "loss": 1.0,
                "metrics": {"auroc": 0.5, "f1": None},
                "seconds": 0.1,
                "rung": False,
            }
        yield {"event": "end", "trial": trial, "status": "finished", "reason": "all folds done"}


@pytest.mark.parametrize("content", [b"", b"no database at all" * 300])
def test_a_store_that_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, plan: Plan, content: bytes
) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(content)
    if not content:  # a folder that is not there
        path = tmp_path / "none" / "mlflow.db"
        (tmp_path / "none").write_bytes(b"a file")
    with pytest.raises(StudyError, match=r"cannot be used .*MLFLOW_TRACKING_URI"):
        Tracker(plan, f"sqlite:///{path}")


@pytest.mark.slow
def test_a_server_that_goes_away_costs_nothing_but_a_resume(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = f"http://127.0.0.1:{port}"
    server = serve(tmp_path, port)
    happened = list(events())
    tracker = Tracker(plan, store)
    for event in happened[:3]:
        tracker.send(event)
    until = time.monotonic() + 60
    while not MlflowClient(store).search_runs(["1"], "tags.kind = 'trial'"):
        assert time.monotonic() < until
        time.sleep(0.2)
    stop(server)
    for event in happened[3:]:
        tracker.send(event)
    began = time.monotonic()
    assert tracker.close("KILLED", 5) is not None
    assert time.monotonic() - began < 15
    server = serve(tmp_path, port)
    again = Tracker(plan, store)
    for event in happened:
        again.send(event)
    assert again.close("FINISHED", 60) is None
    found = MlflowClient(store).get_experiment_by_name(plan.name)
    assert found is not None
    runs = MlflowClient(store).search_runs([found.experiment_id])
    assert sorted(run.data.tags["kind"] for run in runs) == ["study", "trial", "trial"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if run.data.tags["kind"] == "trial":
            points = MlflowClient(store).get_metric_history(run.info.run_id, "objective")
            assert [point.step for point in points] == [1, 2, 3, 4]
    stop(server)


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + 90
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
        else:
            return server
    stop(server)
    raise AssertionError("the server did not start")


def stop(server: subprocess.Popen[bytes]) -> None:
    import signal

    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
