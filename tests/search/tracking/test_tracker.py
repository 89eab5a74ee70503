"""What happens to a study's events when the tracking store is not what it should be."""

import re
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from raysearch.config.space_file import parse_space
from raysearch.errors import StudyError
from raysearch.search.journal.journal import Event
from raysearch.search.study.plan import Plan, make_plan
from raysearch.search.tracking import tracker as runs
from raysearch.search.tracking.log_batches import TrialLogBatches
from raysearch.search.tracking.tracker import Tracker
from support.tracking_server import Proxy, Server

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def plan(shards: Path, request: pytest.FixtureRequest) -> Plan:
    tree = {"epochs": 2, "trials": 2, "space": {"folds": 2, "width": 4}}
    name = "of-" + re.sub(r"\W", "-", request.node.name)[-60:]
    return make_plan(parse_space(tree, "x"), name, str(shards))[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in a file, where each test has a study of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("server"))
    yield one
    one.signal(signal.SIGKILL)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as one:
        yield one


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own retries and ours, without their waits."""
    monkeypatch.setattr(runs, "WAITS_S", (0.2,))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")


def events(trials: int = 2) -> list[Event]:
    happened = [{"event": "launch", "host": "here", "pid": 1}, *what_happens(trials)]
    return [
        {"n": number, "at": 1_700_000_000.0 + number, **event}
        for number, event in enumerate(happened)
    ]


def what_happens(trials: int) -> Iterator[dict[str, Any]]:
    """Trials of two folds of two epochs, that wait at the first rung and then go on in turn."""
    names = [f"t{number:04d}" for number in range(trials)]
    for trial in names:
        hparams = {"width": 4, "folds": 2, "optimizer": "sgd"}
        yield {
            "event": "trial",
            "trial": trial,
            "kind": "trial",
            "hparams": hparams,
            "seed": 1,
            "folds": 2,
        }
    yield from (report(trial, 1) for trial in names)
    for trial in names:
        yield report(trial, 2)
        yield {"event": "pause", "trial": trial}
    yield {"event": "extend", "trials": trials + 1}
    yield {"event": "warning", "trial": names[0], "text": "it begins again"}
    for trial in names:
        yield {"event": "promote", "trial": trial}
        yield report(trial, 3)
        if trial == names[-1]:
            yield {"event": "end", "trial": trial, "status": "stopped", "reason": "rung 2"}
            continue
        yield {**report(trial, 4), "micro_batch": 16}
        yield {"event": "end", "trial": trial, "status": "finished", "reason": "all folds done"}
    yield {"event": "champion", "trial": names[0]}


def report(trial: str, epoch: int) -> dict[str, Any]:
    return {
        "event": "report",
        "trial": trial,
        "epoch": epoch,
        "fold": (epoch - 1) // 2,
        "objective": 0.1 * epoch,
        "loss": 1 / 3,
        "metrics": {"auroc": 0.1 * epoch, "f1": None},
        "seconds": 0.1,
        "samples": 30,
        "inference_ms": 1 / epoch,
        "peak_rss_bytes": 2**30 - epoch,
        "rung": epoch == 2,
        **({"costs": COSTS} if epoch == 1 else {}),
    }


COSTS = {"effective_batch_size": 16, "parameters": 1234, "flops": 5_000_000_000}
Point = tuple[str, float, int, int]


def points_of(happened: list[Event]) -> dict[str, list[Point]]:
    """The points that each trial's run is to have."""
    makers: dict[str, TrialLogBatches] = defaultdict(lambda: TrialLogBatches(2))
    found: dict[str, list[Point]] = defaultdict(list)
    for event in happened:
        if event["event"] in ("trial", "report", "end"):
            piece = makers[event["trial"]].of(event)
            found[event["trial"]] += [
                (one.key, one.value, one.timestamp, one.step) for one in piece.points
            ]
    return {trial: sorted(points) for trial, points in found.items()}


def runs_of(client: MlflowClient, name: str) -> dict[str, Run]:
    """The runs of a study by their names in it; each must be there once."""
    found = client.get_experiment_by_name(name)
    assert found is not None
    every = client.search_runs([found.experiment_id])
    names = [run.data.tags["raysearch.trial"] for run in every]
    assert len(names) == len(set(names)), names
    return dict(zip(names, every, strict=True))


def assert_all_is_there_once(client: MlflowClient, plan: Plan, happened: list[Event]) -> None:
    found = runs_of(client, plan.name)
    wanted = points_of(happened)
    assert set(found) == {"study", *wanted}
    for trial, points in wanted.items():
        run = found[trial]
        history = [
            (one.key, one.value, one.timestamp, one.step)
            for key in run.data.metrics
            for one in client.get_metric_history(run.info.run_id, key)
        ]
        assert sorted(history) == points
    assert {run.info.status for run in found.values()} == {"FINISHED", "KILLED"}


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


def test_what_somebody_compares_trials_by_stands_at_their_runs(store: str, plan: Plan) -> None:
    happened = events()
    last = [event["n"] for event in happened if event["event"] == "pause"][-1]
    tracker = Tracker(plan, store)
    for event in happened[: last + 1]:
        tracker.send(event)
    assert tracker.close("KILLED", 60) is None
    waiting = runs_of(tracker.client, plan.name)["t0000"]
    assert waiting.info.status == "RUNNING"
    assert waiting.data.tags.items() >= {"state": "paused", "rung": "2"}.items()
    again = Tracker(plan, store)
    for event in happened:
        again.send(event)
    assert again.close("FINISHED", 60) is None
    assert_all_is_there_once(again.client, plan, happened)
    found = runs_of(again.client, plan.name)
    assert found["study"].data.tags["champion"] == "t0000"
    first = found["t0000"]
    tags = {"state": "finished", "reason": "all folds done", "rung": "2", "micro_batch": "16"}
    tags |= {"architecture": "cnn", "optimizer": "sgd", "mlflow.runName": "t0000 sgd"}
    assert first.data.tags.items() >= tags.items()
    assert first.data.metrics["objective"] == first.data.metrics["objective_finished"] == 0.4
    assert first.data.metrics["folds_done"] == 2
    assert first.data.metrics["auroc"] == pytest.approx(0.3)
    assert first.data.metrics["train_seconds"] == pytest.approx(0.4)
    assert {name: first.data.params[name] for name in COSTS} == {
        name: str(value) for name, value in COSTS.items()
    }
    assert first.data.metrics["samples_seen"] == 120
    assert first.data.metrics["inference_ms"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert first.data.metrics["peak_rss_bytes"] == 2**30 - 1
    history = again.client.get_metric_history(first.info.run_id, "samples_seen")
    assert [(point.step, point.value) for point in history] == [(n, 30.0 * n) for n in (1, 2, 3, 4)]
    assert found["t0001"].data.tags["state"] == "stopped"
    assert found["t0001"].data.metrics["folds_done"] == 1
    assert "objective_finished" not in found["t0001"].data.metrics


def test_one_event_that_is_rejected_takes_no_other_with_it(store: str, plan: Plan) -> None:
    happened = events()
    tracker = Tracker(plan, store)
    for event in happened:
        wrong = event["event"] == "report" and event["epoch"] == 1
        tracker.send({**event, "metrics": {"k" * 300: 0.5}} if wrong else event)
    assert isinstance(tracker.close("FINISHED", 60), MlflowException)
    found = runs_of(tracker.client, plan.name)
    history = tracker.client.get_metric_history(found["t0000"].info.run_id, "objective")
    assert [point.step for point in history] == [2, 3, 4]
    assert found["t0000"].info.status == "FINISHED"


def test_more_than_a_request_holds_goes_by_several(store: str, plan: Plan) -> None:
    begin = next(event for event in events() if event["event"] == "trial")
    many = [{"at": 1.0 + epoch, **report("t0000", epoch)} for epoch in range(1, 401)]
    end = {"at": 999.0, "event": "end", "trial": "t0000", "status": "stopped", "reason": "rung 2"}
    tracker = Tracker(plan, store)
    for event in (begin, *many, end):
        tracker.send(event)
    assert tracker.close("FINISHED", 120) is None
    assert_all_is_there_once(tracker.client, plan, [begin, *many])


@pytest.mark.slow
def test_a_server_that_takes_a_second_a_request_holds_nobody_up(proxy: Proxy, plan: Plan) -> None:
    happened = events(trials=4)
    tracker = Tracker(plan, proxy.address)
    before = len(proxy.asked)
    proxy.delay_s = 1.0
    for event in happened:
        began = time.monotonic()
        tracker.send(event)
        assert time.monotonic() - began < 0.1
        time.sleep(0.1)
    assert tracker.close("FINISHED", 120) is None
    asked = [path.rpartition("/")[2] for path in proxy.asked[before:]]
    reports = sum(event["event"] == "report" for event in happened)
    assert asked.count("log-batch") < reports, asked
    assert asked.count("create") == 4
    proxy.delay_s = 0.0
    assert_all_is_there_once(tracker.client, plan, happened)


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 1])
def test_a_lost_answer_makes_nothing_twice(
    proxy: Proxy, plan: Plan, monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(retries))
    happened = events(trials=3)
    tracker = Tracker(plan, proxy.address)
    proxy.losing = True
    for event in happened:
        tracker.send(event)
        time.sleep(0.1)
    deadline = time.monotonic() + 60
    while tracker.run_of("t0002") is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    error = tracker.close("FINISHED", 120)
    proxy.losing = False
    assert error is None
    assert_all_is_there_once(tracker.client, plan, happened)
    # MLflow's own client sends what makes a run again without asking whether it is there.
    found = tracker.client.get_experiment_by_name(plan.name)
    assert found is not None
    twins = tracker.client.search_runs([found.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert len(twins) == 3 * retries


@pytest.mark.slow
@pytest.mark.parametrize("by", ["SIGSTOP", "SIGKILL"])
def test_a_server_that_is_away_for_a_while_gets_it_all_once(
    server: Server, plan: Plan, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    happened = events(trials=3)
    tracker = Tracker(plan, server.address)
    for number, event in enumerate(happened):
        tracker.send(event)
        if number == 2:  # the third trial is told of, and not yet made
            server.signal(signal.Signals[by])
        time.sleep(0.3)
    time.sleep(2)
    server.go_on()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    assert tracker.close("FINISHED", 120) is None
    assert_all_is_there_once(MlflowClient(server.address), plan, happened)


@pytest.mark.slow
def test_a_tracker_that_was_killed_is_followed_by_one_that_sends_it_all(
    server: Server, plan: Plan
) -> None:
    happened = events(trials=3)
    for upto in (3, 9, 12):
        killed = Tracker(plan, server.address)
        for event in happened[:upto]:
            killed.send(event)
        time.sleep(1.0)
        assert killed.close("KILLED", 0.01) is not None  # its thread goes at the next chance
    last = Tracker(plan, server.address)
    for event in happened:
        last.send(event)
    assert last.close("FINISHED", 120) is None
    assert_all_is_there_once(MlflowClient(server.address), plan, happened)


@pytest.mark.slow
def test_a_server_that_does_not_come_back_costs_nothing_but_a_resume(
    server: Server, plan: Plan
) -> None:
    happened = events()
    tracker = Tracker(plan, server.address)
    for event in happened[:3]:
        tracker.send(event)
    until = time.monotonic() + 60
    while tracker.run_of("t0000") is None:
        assert time.monotonic() < until
        time.sleep(0.2)
    server.signal(signal.SIGKILL)
    for event in happened[3:]:
        tracker.send(event)
    began = time.monotonic()
    assert tracker.close("KILLED", 5) is not None
    assert time.monotonic() - began < 15
    server.go_on()
    again = Tracker(plan, server.address)
    for event in happened:
        again.send(event)
    assert again.close("FINISHED", 60) is None
    assert_all_is_there_once(again.client, plan, happened)
