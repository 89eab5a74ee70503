"""The tracker sends all events exactly once, also if the store is slow, away or lossy."""

import dataclasses
import re
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.space_file import parse_space
from raysearch.errors import StudyError
from raysearch.metrics.interval import Interval
from raysearch.search.journal.events import (
    ChampionDecision,
    ChampionSelected,
    Event,
    FoldReport,
    ModelCosts,
    StudyLaunched,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialsExtended,
    TrialStarted,
    TrialWarning,
)
from raysearch.search.study.plan import Plan
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.tracking import study_runs, study_summary
from raysearch.search.tracking import tracker as tracker_module
from raysearch.search.tracking.log_batches import TrialLogBatches
from raysearch.search.tracking.study_runs import StudyRuns
from raysearch.search.tracking.study_summary import RankedTrial, StudySummary
from raysearch.search.tracking.tracker import Tracker
from support.tracking_server import Proxy, Server

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def plan(shards: Path, request: pytest.FixtureRequest) -> Plan:
    tree = {"epochs": 2, "trials": 2, "space": {"folds": 2, "width": {"choice": [4, 8]}}}
    name = "of-" + re.sub(r"\W", "-", request.node.name)[-60:]
    return make_plan(parse_space(tree, "x"), name, str(shards))[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in a file, in which each test has a study of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.signal(signal.SIGKILL)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def short_retry_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own retries and the tracker's, without their delays."""
    monkeypatch.setattr(tracker_module, "RETRY_DELAYS_S", (0.2,))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")


def events(num_trials: int = 2) -> list[Event]:
    """The numbered events of a study of `num_trials`."""
    recorded = [StudyLaunched("a", 1), *study_events(num_trials)]
    return [
        dataclasses.replace(event, number=number, time=1_700_000_000.0 + number)
        for number, event in enumerate(recorded)
    ]


def study_events(num_trials: int) -> Iterator[Event]:
    """Trials of two folds of two epochs, which pause at the first rung and are then promoted."""
    names = [f"t{number:04d}" for number in range(num_trials)]
    for trial in names:
        hparams: Hparams = {"width": 4, "folds": 2, "optimizer": "sgd"}
        yield TrialStarted(trial=trial, kind="trial", hparams=hparams, seed=1, folds=2)
    yield from (report(trial, 1) for trial in names)
    for trial in names:
        yield report(trial, 2)
        yield TrialPaused(trial)
    yield TrialsExtended(num_trials + 1)
    yield TrialWarning(names[0], "it starts again")
    for trial in names:
        yield TrialPromoted(trial)
        yield report(trial, 3)
        if trial == names[-1]:
            yield TrialEnded(trial, "stopped", "rung 2")
            continue
        yield dataclasses.replace(report(trial, 4), micro_batch=16)
        yield TrialEnded(trial, "finished", "all folds done")
    yield ChampionSelected(names[0], DECISION)


def report(trial: str, epoch: int) -> FoldReport:
    return FoldReport(
        trial=trial,
        fold=(epoch - 1) // 2,
        epoch=epoch,
        objective=0.1 * epoch,
        metrics={"auroc": 0.1 * epoch, "f1": None},
        train_metrics={"auroc": 0.2 * epoch, "f1": None},
        loss=1 / 3,
        seconds=0.1,
        samples=30,
        inference_ms=1 / epoch,
        peak_rss_bytes=2**30 - epoch,
        rung=epoch == 2,
        costs=COSTS if epoch == 1 else None,
    )


COSTS = ModelCosts(effective_batch_size=16, parameters=1234, flops=5_000_000_000)
DECISION = ChampionDecision(
    margin=0.0,
    kind="refit",
    repeats=0,
    temperature=1.0,
    threshold=0.5,
    criterion="balanced_accuracy",
    error_before=None,
    error=None,
)
Point = tuple[str, float, int, int]


def points_of(study: list[Event]) -> dict[str, list[Point]]:
    """The metrics that the run of each trial must have: name, value, time, step."""
    converters: dict[str, TrialLogBatches] = defaultdict(lambda: TrialLogBatches(2))
    points: dict[str, list[Point]] = defaultdict(list)
    for event in study:
        if isinstance(event, (TrialStarted, FoldReport, TrialEnded)):
            batch = converters[event.trial].convert(event)
            points[event.trial] += [point(metric) for metric in batch.metrics]
    return {trial: sorted(values) for trial, values in points.items()}


def point(metric: Metric) -> Point:
    return metric.key, metric.value, metric.timestamp, metric.step


def runs_of(client: MlflowClient, study: str) -> dict[str, Run]:
    """The runs of a study by their names in it; each must exist once."""
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    names = [run.data.tags["raysearch.trial"] for run in runs]
    assert len(names) == len(set(names)), names
    return dict(zip(names, runs, strict=True))


def assert_everything_is_stored_once(client: MlflowClient, plan: Plan, study: list[Event]) -> None:
    runs = runs_of(client, plan.name)
    expected = points_of(study)
    assert set(runs) == {"study", *expected}
    for trial, points in expected.items():
        run = runs[trial]
        stored = [
            point(metric)
            for name in run.data.metrics
            for metric in client.get_metric_history(run.info.run_id, name)
        ]
        assert sorted(stored) == points
    assert {run.info.status for run in runs.values()} == {"FINISHED", "KILLED"}


@pytest.mark.parametrize("content", [b"", b"no database at all" * 300])
def test_a_store_that_cannot_be_used_is_rejected_in_one_line(
    tmp_path: Path, plan: Plan, content: bytes
) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(content)
    if not content:  # the folder does not exist
        path = tmp_path / "none" / "mlflow.db"
        (tmp_path / "none").write_bytes(b"a file")
    with pytest.raises(StudyError, match=r"cannot be used .*MLFLOW_TRACKING_URI"):
        Tracker(plan, f"sqlite:///{path}")


def test_a_run_has_the_state_the_costs_and_the_metrics_of_its_trial(store: str, plan: Plan) -> None:
    study = events()
    last = [event.number for event in study if isinstance(event, TrialPaused)][-1]
    tracker = Tracker(plan, store)
    for event in study[: last + 1]:
        tracker.send(event)
    assert tracker.close("KILLED", 60) is None
    paused = runs_of(tracker.client, plan.name)["t0000"]
    assert paused.info.status == "KILLED"
    assert paused.data.tags.items() >= {"state": "interrupted", "rung": "2"}.items()
    resumed = Tracker(plan, store)
    states = {run.info.status for run in runs_of(resumed.client, plan.name).values()}
    assert states == {"RUNNING"}
    for event in study:
        resumed.send(event)
    assert resumed.close("FINISHED", 60) is None
    assert_everything_is_stored_once(resumed.client, plan, study)
    runs = runs_of(resumed.client, plan.name)
    assert runs["study"].data.tags["champion"] == "t0000"
    first = runs["t0000"]
    tags = {"state": "finished", "reason": "all folds done", "rung": "2", "micro_batch": "16"}
    tags |= {"architecture": "cnn", "optimizer": "sgd", "mlflow.runName": "t0000 sgd"}
    tags |= {"trial_seed": "1", "folds": "2"}
    assert first.data.tags.items() >= tags.items()
    assert first.data.metrics["objective"] == first.data.metrics["objective_finished"] == 0.4
    assert first.data.metrics["folds_done"] == 2
    assert first.data.metrics["auroc"] == pytest.approx(0.3)
    assert first.data.metrics["train_seconds"] == pytest.approx(0.4)
    costs = {"effective_batch_size": "16", "parameters": "1234", "flops": "5000000000"}
    assert first.data.params == {"width": "4", **costs}  # what no trial varies is a tag
    assert first.data.metrics["samples_seen"] == 120
    assert first.data.metrics["inference_ms"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert first.data.metrics["peak_rss_bytes"] == 2**30 - 1
    history = resumed.client.get_metric_history(first.info.run_id, "samples_seen")
    assert [(metric.step, metric.value) for metric in history] == [
        (epoch, 30.0 * epoch) for epoch in (1, 2, 3, 4)
    ]
    assert runs["t0001"].data.tags["state"] == "stopped"
    assert runs["t0001"].data.metrics["folds_done"] == 1
    assert "objective_finished" not in runs["t0001"].data.metrics


def test_a_run_is_ended_by_the_launch_after_a_kill(store: str, plan: Plan) -> None:
    study = events()
    killed = Tracker(plan, store)  # a killed launcher closes nothing
    for event in study[:8]:
        killed.send(event)
    until = time.monotonic() + 60
    while len(runs_of(killed.client, plan.name)) < 3 and time.monotonic() < until:
        time.sleep(0.1)
    before = {run.info.status for run in runs_of(killed.client, plan.name).values()}
    assert before == {"RUNNING"}
    resumed = Tracker(plan, store)
    for event in study[:8]:
        resumed.send(event)
    assert resumed.close("FAILED", 60) is None
    runs = runs_of(resumed.client, plan.name)
    statuses = {name: run.info.status for name, run in runs.items()}
    assert statuses == {"study": "FAILED", "t0000": "KILLED", "t0001": "KILLED"}
    assert all(run.info.end_time for run in runs.values())


def delay(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let each batch take so many seconds."""
    log = StudyRuns.log

    def log_late(runs: StudyRuns, *arguments: Any) -> None:
        time.sleep(seconds)
        log(runs, *arguments)

    monkeypatch.setattr(StudyRuns, "log", log_late)


def statuses_of(client: MlflowClient, study: str) -> dict[str, str]:
    return {name: run.info.status for name, run in runs_of(client, study).items()}


def test_a_signal_while_the_tracker_closes_leaves_no_run_running(
    store: str, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted `Thread.join` of Python 3.11 would take the thread for ended."""
    delay(monkeypatch, 0.5)
    tracker = Tracker(plan, store)
    for event in events(4)[:8]:
        tracker.send(event)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(1.0, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        tracker.close("FINISHED", 60)
    timer.join()
    assert tracker.interrupt("KILLED", 30) is None
    assert set(statuses_of(tracker.client, plan.name).values()) == {"KILLED"}


def test_an_interrupt_ends_the_open_runs_before_it_sends_what_waits(
    store: str, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(plan, store)
    study = events(6)
    for event in study[:7]:  # their starts
        tracker.send(event)
    until = time.monotonic() + 60
    while len(runs_of(tracker.client, plan.name)) < 7 and time.monotonic() < until:
        time.sleep(0.1)
    delay(monkeypatch, 1.0)
    for event in study[7:]:
        tracker.send(event)
    time.sleep(1.5)  # more than a second of work waits for each of six runs
    tracker.interrupt("KILLED", 3)
    runs = runs_of(tracker.client, plan.name)
    assert len(runs) == 7
    assert {run.info.status for run in runs.values()} <= {"KILLED", "FINISHED"}
    assert runs["study"].info.status == "KILLED"
    assert runs["t0005"].data.tags["state"] == "interrupted"


def test_an_interrupt_while_the_summary_is_sent_ends_the_study(
    plan: Plan, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = {f"t{number:04d}": RankedTrial(Interval(0.1, 0.2, 0.3), "") for number in range(500)}
    started = threading.Event()

    def send_slowly(_client: object, _ranked: object, _step: int, _run_id: str) -> None:
        started.set()
        time.sleep(0.1)

    monkeypatch.setattr(study_summary, "_log_ranked_trial", send_slowly)
    monkeypatch.setattr(StudyRuns, "update", lambda _runs, trial, send: send(trial))
    tracker = Tracker(plan, store)
    tracker.send_summary(StudySummary("", "The best is t0000.", trials, "1"))
    closing = threading.Thread(target=tracker.close, args=("FINISHED",))
    closing.start()
    assert started.wait(30)
    assert tracker.interrupt("KILLED", 30) is None  # the whole summary would take 50 s
    closing.join(30)
    parent = tracker.client.get_run(tracker.parent_run_id)
    assert parent.info.status == "KILLED"


def interrupt(*_arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("status", ["KILLED", "FINISHED"])
def test_an_interrupt_while_the_runs_are_opened_leaves_none_running(
    store: str, plan: Plan, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    client = MlflowClient(store, store)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_experiment_tag", interrupt)  # after the run is created
        with pytest.raises(KeyboardInterrupt):
            Tracker(plan, store, status)
    assert {run.info.status for run in runs_of(client, plan.name).values()} == {status}


def test_an_interrupt_while_the_runs_are_opened_does_not_wait_for_a_slow_store(
    store: str, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(tracker_module, "ABANDON_TIMEOUT_S", 0.2)
    monkeypatch.setattr(MlflowClient, "set_experiment_tag", interrupt)
    monkeypatch.setattr(StudyRuns, "abandon", lambda *_arguments: answers.wait(60))
    start_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Tracker(plan, store)
    assert time.monotonic() - start_s < 30
    answers.set()


def test_an_interrupt_while_many_runs_are_opened_reads_the_running_ones_alone(
    store: str, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent_tracker(plan, store, num_trials=3).interrupt("KILLED", 30)
    client = MlflowClient(store, store)
    assert len(runs_of(client, plan.name)) == 4
    update_run, search_runs = MlflowClient.update_run, MlflowClient.search_runs
    interrupt_run, updated = StudyRuns._interrupt_run, []

    def interrupt_after_last_update(*arguments: object) -> None:
        update_run(*arguments)
        updated.append(arguments)
        if len(updated) == 4:
            monkeypatch.setattr(MlflowClient, "search_runs", only_running)
            raise KeyboardInterrupt

    def only_running(client: MlflowClient, ids: list[str], query: str, **more: Any) -> object:
        time.sleep(0 if "attributes.status = 'RUNNING'" in query else 60)
        return search_runs(client, ids, query, **more)

    def interrupt_slowly(runs: StudyRuns, run_id: str) -> None:
        time.sleep(1.2)
        interrupt_run(runs, run_id)

    monkeypatch.setattr(tracker_module, "ABANDON_TIMEOUT_S", 2.0)  # less than all take
    monkeypatch.setattr(StudyRuns, "_interrupt_run", interrupt_slowly)
    monkeypatch.setattr(MlflowClient, "update_run", interrupt_after_last_update)
    with pytest.raises(KeyboardInterrupt):
        Tracker(plan, store)
    monkeypatch.setattr(MlflowClient, "search_runs", search_runs)
    statuses = {name: run.info.status for name, run in runs_of(client, plan.name).items()}
    assert "RUNNING" not in statuses.values()


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the tracker warns of, also if another test has changed the settings of the log."""
    texts: list[str] = []

    def warn(text: str, *values: object) -> None:
        texts.append(text % values)

    for module in (study_runs, tracker_module):
        monkeypatch.setattr(module.log, "warning", warn)
    return texts


def sent_tracker(plan: Plan, store: str, num_events: int = 8, num_trials: int = 2) -> Tracker:
    """A tracker that has sent the first events of a study."""
    tracker = Tracker(plan, store)
    for event in events(num_trials)[:num_events]:
        tracker.send(event)
    deadline = time.monotonic() + 60
    while tracker.run_id(f"t{num_trials - 1:04d}") is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return tracker


def test_a_deleted_run_of_a_trial_is_left_out_and_named_once(
    store: str, plan: Plan, warnings: list[str]
) -> None:
    tracker = sent_tracker(plan, store)
    deleted = tracker.run_id("t0001")
    assert deleted is not None
    tracker.client.delete_run(deleted)
    for event in events()[8:]:
        tracker.send(event)
    assert "t0001 was deleted in MLflow" in str(tracker.close("FINISHED", 60))
    assert set(runs_of(tracker.client, plan.name)) == {"study", "t0000"}
    assert warnings == ["MLflow: the run of t0001 was deleted in MLflow and is left out"]
    resumed = Tracker(plan, store)
    for event in events():
        resumed.send(event)
    assert resumed.close("FINISHED", 60) is None
    assert_everything_is_stored_once(resumed.client, plan, events())


@pytest.mark.parametrize("what", ["the parent run", "the experiment"])
def test_what_a_study_needs_is_restored_once_after_it_was_deleted(
    store: str, plan: Plan, warnings: list[str], what: str
) -> None:
    tracker = sent_tracker(plan, store)
    experiment = tracker.client.get_experiment_by_name(plan.name)
    assert experiment is not None
    if what == "the experiment":
        tracker.client.delete_experiment(experiment.experiment_id)
    else:
        tracker.client.delete_run(tracker.parent_run_id)
    for event in events()[8:]:
        tracker.send(event)
    assert tracker.close("FINISHED", 60) is None
    assert_everything_is_stored_once(tracker.client, plan, events())
    assert warnings == [f"MLflow: {what} of {plan.name} was deleted; it is restored"]


def test_an_error_that_repeats_is_logged_once(
    store: str, plan: Plan, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    attempts = []

    def reject(*_arguments: object) -> None:
        attempts.append(1)
        raise OSError("no answer")

    tracker = sent_tracker(plan, store)
    monkeypatch.setattr(StudyRuns, "end", reject)
    monkeypatch.setattr(tracker_module, "RETRY_DELAYS_S", (0.01,))
    for event in events()[8:]:
        tracker.send(event)
    deadline = time.monotonic() + 60
    while len(attempts) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert tracker.close("KILLED", 0.1) is not None
    assert len([text for text in warnings if "no answer" in text]) == 1


def test_empty_duplicates_on_several_pages_are_all_deleted(
    store: str, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_runs, "PAGE_SIZE", 2)
    tracker = Tracker(plan, store)
    tags = {"raysearch.plan": plan.identity, "raysearch.trial": "t0000", "kind": "trial"}
    experiment = tracker.client.get_experiment_by_name(plan.name)
    assert experiment is not None
    for _number in range(5):
        tracker.client.create_run(experiment.experiment_id, tags=tags)
    assert tracker.close("FINISHED", 60) is None
    runs = tracker.client.search_runs([experiment.experiment_id])
    assert [run.info.run_id for run in runs] == [tracker.parent_run_id]


def test_an_event_that_mlflow_rejects_does_not_affect_others(store: str, plan: Plan) -> None:
    study = events()
    tracker = Tracker(plan, store)
    for event in study:
        tracker.send(with_long_name(event))
    assert isinstance(tracker.close("FINISHED", 60), MlflowException)
    runs = runs_of(tracker.client, plan.name)
    history = tracker.client.get_metric_history(runs["t0000"].info.run_id, "objective")
    assert [metric.step for metric in history] == [2, 3, 4]
    assert runs["t0000"].info.status == "FINISHED"


def with_long_name(event: Event) -> Event:
    """A first report with a metric whose name is too long for MLflow; other events unchanged."""
    if isinstance(event, FoldReport) and event.epoch == 1:
        return dataclasses.replace(event, metrics={"k" * 300: 0.5})
    return event


def test_more_than_a_request_accepts_is_sent_by_several(store: str, plan: Plan) -> None:
    start = next(event for event in events() if isinstance(event, TrialStarted))
    reports: list[Event] = [
        dataclasses.replace(report("t0000", epoch), time=1.0 + epoch) for epoch in range(1, 401)
    ]
    end = TrialEnded("t0000", "stopped", "rung 2", time=999.0)
    tracker = Tracker(plan, store)
    for event in (start, *reports, end):
        tracker.send(event)
    assert tracker.close("FINISHED", 120) is None
    assert_everything_is_stored_once(tracker.client, plan, [start, *reports])


@pytest.mark.slow
def test_a_server_that_takes_a_second_for_a_request_delays_no_caller(
    proxy: Proxy, plan: Plan
) -> None:
    study = events(num_trials=4)
    tracker = Tracker(plan, proxy.address)
    num_before = len(proxy.paths)
    proxy.delay_s = 1.0
    for event in study:
        start = time.monotonic()
        tracker.send(event)
        assert time.monotonic() - start < 0.9
        time.sleep(0.1)
    assert tracker.close("FINISHED", 120) is None
    methods = [path.rpartition("/")[2] for path in proxy.paths[num_before:]]
    num_reports = sum(isinstance(event, FoldReport) for event in study)
    assert methods.count("log-batch") < num_reports, methods
    assert methods.count("create") == 4
    proxy.delay_s = 0.0
    assert_everything_is_stored_once(tracker.client, plan, study)


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 1])
def test_a_lost_answer_creates_no_duplicate(
    proxy: Proxy, plan: Plan, monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(retries))
    study = events(num_trials=3)
    tracker = Tracker(plan, proxy.address)
    proxy.loses_answers = True
    for event in study:
        tracker.send(event)
        time.sleep(0.1)
    deadline = time.monotonic() + 60
    while tracker.run_id("t0002") is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    error = tracker.close("FINISHED", 120)
    proxy.loses_answers = False
    assert error is None
    assert_everything_is_stored_once(tracker.client, plan, study)
    # MLflow's own client repeats the creation of a run without a search for it.
    experiment = tracker.client.get_experiment_by_name(plan.name)
    assert experiment is not None
    duplicates = tracker.client.search_runs(
        [experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY
    )
    assert len(duplicates) == 3 * retries


@pytest.mark.slow
@pytest.mark.parametrize("signal_name", ["SIGSTOP", "SIGKILL"])
def test_a_server_that_is_away_for_a_while_receives_everything_once(
    server: Server, plan: Plan, monkeypatch: pytest.MonkeyPatch, signal_name: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    study = events(num_trials=3)
    tracker = Tracker(plan, server.address)
    for number, event in enumerate(study):
        tracker.send(event)
        if number == 2:  # the start of the third trial is sent, and its run not yet created
            server.signal(signal.Signals[signal_name])
        time.sleep(0.3)
    time.sleep(2)
    server.resume()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    assert tracker.close("FINISHED", 120) is None
    assert_everything_is_stored_once(MlflowClient(server.address), plan, study)


@pytest.mark.slow
def test_a_tracker_after_killed_ones_sends_everything_once(server: Server, plan: Plan) -> None:
    study = events(num_trials=3)
    for num_sent in (3, 9, 12):
        killed = Tracker(plan, server.address)
        for event in study[:num_sent]:
            killed.send(event)
        time.sleep(1.0)
        assert killed.close("KILLED", 0.01) is not None  # its thread ends after its request
    last = Tracker(plan, server.address)
    for event in study:
        last.send(event)
    assert last.close("FINISHED", 120) is None
    assert_everything_is_stored_once(MlflowClient(server.address), plan, study)


@pytest.mark.slow
def test_a_resume_sends_what_a_lost_server_did_not_receive(server: Server, plan: Plan) -> None:
    study = events()
    tracker = Tracker(plan, server.address)
    for event in study[:3]:
        tracker.send(event)
    deadline = time.monotonic() + 60
    while tracker.run_id("t0000") is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    server.signal(signal.SIGKILL)
    for event in study[3:]:
        tracker.send(event)
    start = time.monotonic()
    assert tracker.close("KILLED", 5) is not None
    assert time.monotonic() - start < 15
    server.resume()
    resumed = Tracker(plan, server.address)
    for event in study:
        resumed.send(event)
    assert resumed.close("FINISHED", 60) is None
    assert_everything_is_stored_once(resumed.client, plan, study)
