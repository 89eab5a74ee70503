"""From `ray up` to `ray down` on three hosts, with what goes wrong in between.

The tests run in the order in which they stand: the cluster that one leaves is the next one's.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysearch.training.checkpoint import unpack

from .ground import PASSWORD, TOKEN, TOP, Ground
from .hosts import GATEWAY, Host, ssh

SPACE = str(Path(__file__).with_name("space.yaml"))
TRIALS = 24
FEWER = 6
NOTICED_S = 10.0
# What Ray's client server answers without a token, with a wrong one, and with the cluster's.
CLIENT = """
import os, pathlib, grpc
from ray.core.generated import ray_client_pb2 as messages, ray_client_pb2_grpc as services
token = (pathlib.Path.home() / ".ray" / "auth_token").read_text()
request = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
for sent in ("", "w" * 64, token):
    channel = grpc.insecure_channel(os.environ["RAY_HEAD"] + ":10001")
    login = [("authorization", "Bearer " + sent)] if sent else []
    try:
        stub = services.RayletDriverStub(channel)
        stub.ClusterInfo(request, metadata=[("client_id", "test"), *login], timeout=30)
        print("OK")
    except grpc.RpcError as error:
        print(error.code().name)
"""
STUDIES = "s3://raysearch/studies"


def wait_for(what: Callable[[], Any], timeout_s: float, step_s: float = 0.5) -> Any:
    until = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < until, f"not within {timeout_s} s"
        time.sleep(step_s)
    return found


def launch_words(ground: Ground, study: str, trials: int = FEWER) -> list[str]:
    """The launch of `study` on the cluster."""
    words = ["raysearch", "launch", SPACE, "--cluster", str(ground.file), "--name", study]
    return [*words, "--trials", str(trials)]


def reports(events: list[dict[str, Any]], kind: str = "report") -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def check_complete(ground: Ground, study: str, trials: int = FEWER) -> None:
    """The study is whole: the planned trials, each fold-epoch once, each run once."""
    events = ground.events(study)
    started = [one["trial"] for one in reports(events, "trial") if one["kind"] == "trial"]
    assert sorted(started) == [f"t{number:04d}" for number in range(trials)]
    ended = [one["trial"] for one in reports(events, "end")]
    assert len(ended) == len(set(ended)) == trials + 2
    seen = [(one["trial"], one["epoch"]) for one in reports(events)]
    assert len(seen) == len(set(seen))
    assert not [one for one in reports(events, "end") if one["status"] == "failed"]
    runs = mlflow_runs(ground, study)
    children = [run for run in runs if "mlflow.parentRunId" in run["tags"]]
    assert sorted(run["tags"]["raysearch.trial"] for run in children) == sorted(started)
    assert {run["status"] for run in runs} <= {"FINISHED", "KILLED"}


def running_trials(ground: Ground, study: str) -> list[str]:
    """The trials that have begun and not ended."""
    events = ground.events(study)
    over = {one["trial"] for one in reports(events, "end")}
    return [one["trial"] for one in reports(events, "trial") if one["trial"] not in over]


def work_lost(ground: Ground, study: str, host: str | None) -> tuple[int, float]:
    """The most fold-epochs, and seconds, that a running trial has done since its checkpoint.

    Of the trials that reported from `host` last, where one is given.
    """
    fs, most = ground.bucket(), (0, 0.0)
    for trial in running_trials(ground, study):
        name = f"raysearch/studies/{study}/checkpoints/{trial}.pt"
        kept = unpack(fs.cat_file(name))["epoch"] if fs.exists(name) else 0
        mine = [one for one in reports(ground.events(study)) if one["trial"] == trial]
        if host is not None and (not mine or mine[-1].get("host") != host):
            continue
        again = [one["seconds"] for one in mine if one["epoch"] > kept]
        most = max(most, (len(again), sum(again)))
    return most


def note_recovery(
    ground: Ground, study: str, error: str, at: float, host: Host | None = None
) -> None:
    """Write down what `error`, at the time `at` on `host`, costs, and wait until it is over."""
    lost = work_lost(ground, study, host.name if host else None)
    assert lost[0] <= 1 or lost[1] < 15  # a checkpoint every ten seconds, and one fold-epoch
    waiting = set(running_trials(ground, study))

    def back() -> bool:
        later = [one for one in ground.events(study) if one["at"] > at + 1]
        return waiting <= {one.get("trial") for one in later if one["event"] in ("report", "end")}

    wait_for(back, 120)
    ground.errors.append((error, *lost, time.time() - at))


def trained_on(ground: Ground, study: str, host: Host, since: float) -> bool:
    """Whether a fold-epoch was reported from `host` after `since`."""
    found = reports(ground.events(study))
    return any(one.get("host") == host.name and one["at"] > since for one in found)


@contextmanager
def ec2_metadata(ground: Ground, host: Host) -> Iterator[threading.Event]:
    """On `host`, what `cluster.yaml` runs on a spot machine, and the service that it asks.

    Once the event is set, the service says that the machine will be taken away.
    """
    tell = threading.Event()

    class Service(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._say(200, b"planted-token")

        def do_GET(self) -> None:
            known = self.headers.get("X-aws-ec2-metadata-token") == "planted-token"
            asked = self.path == "/latest/meta-data/spot/instance-action"
            self._say(200 if known and asked and tell.is_set() else 404, b"{}")

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer((GATEWAY, 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tree = yaml.safe_load((TOP / "cluster.yaml").read_text())
    (script,) = [one for one in tree["setup_commands"] if "spot-notice.sh" in one]
    start = tree["worker_start_ray_commands"][-1]
    service = f"export AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{GATEWAY}:{server.server_port}"
    try:
        for command in (script, f"{service}; {start}"):
            said = ssh(host, ground.network.key, command)
            assert said.returncode == 0, said.stderr
        yield tell
    finally:
        server.shutdown()
        server.server_close()


def mlflow_runs(ground: Ground, study: str) -> list[dict[str, Any]]:
    import base64

    store = re.search(r"MLFLOW_TRACKING_URI=(\S+)", ground.file.read_text())
    assert store is not None
    login = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()

    def call(path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(f"{store[1]}/api/2.0/mlflow/{path}")
        request.add_header("Authorization", f"Basic {login}")
        request.add_header("Content-Type", "application/json")
        data = json.dumps(body).encode() if body is not None else None
        return json.load(urllib.request.urlopen(request, data, timeout=30))

    experiment = call(f"experiments/get-by-name?experiment_name={study}")["experiment"]
    body = {"experiment_ids": [experiment["experiment_id"]], "max_results": 1000}
    return [
        {
            "status": run["info"]["status"],
            "tags": {one["key"]: one["value"] for one in run["data"].get("tags", [])},
            "params": {one["key"]: one["value"] for one in run["data"].get("params", [])},
        }
        for run in call("runs/search", body).get("runs", [])
    ]


def arguments(pid: int) -> str:
    """The command line of a process, its words apart by NUL; empty where it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def workers_of_trials(host: Host) -> list[int]:
    """The processes on `host` that train."""
    found = []
    for pid in host.processes():
        line = arguments(pid)
        if line.startswith("ray::") and "IDLE" not in line:
            found.append(pid)
    return found


def test_doctor_finds_nothing_on_a_fresh_cluster(cluster: Ground) -> None:
    said = cluster.run("raysearch", "doctor", "--cluster", str(cluster.file), "--json")
    checks = json.loads(said[said.index("[{") :])
    assert all(check["good"] for check in checks)
    assert {check["name"] for check in checks} >= {
        "nodes", "versions", "GPUs", "shared storage", "tracking server", "clocks", "disk",
        "token", "token file", "dashboard",
    }  # fmt: skip
    assert "3 answered of 3" in checks[0]["seen"]


def test_requests_without_the_token_are_rejected(cluster: Ground) -> None:
    jobs = "http://127.0.0.1:8265/api/jobs/"
    ask = f"curl -s -o /dev/null -w %{{http_code}} {jobs}"
    head, key = cluster.head, cluster.network.key
    assert ssh(head, key, ask).stdout == "401"
    assert ssh(head, key, f"{ask} -H 'Authorization: Bearer wrong'").stdout == "403"
    assert ssh(head, key, f"{ask} -H 'Authorization: Bearer {TOKEN}'").stdout == "200"
    join = f". ~/raysearch.env; RAY_AUTH_TOKEN={'w' * 64} ray status --address {head.address}:6379"
    rejected = ssh(cluster.workers[0], key, join)
    assert rejected.returncode != 0
    allowed = ssh(
        cluster.workers[0], key, f". ~/raysearch.env; ray status --address {head.address}:6379"
    )
    assert allowed.returncode == 0, allowed.stderr
    answers = ssh(
        cluster.workers[0],
        key,
        f". ~/raysearch.env; RAY_HEAD={head.address} python -c {shlex.quote(CLIENT)}",
    )
    assert answers.stdout.split() == ["UNAUTHENTICATED", "UNAUTHENTICATED", "OK"], answers.stderr


def test_the_dashboard_cannot_be_reached_from_outside(cluster: Ground) -> None:
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen(f"http://{cluster.head.address}:8265/", timeout=3)


def test_a_host_that_dies_loses_no_trial_and_trains_again_once_it_is_back(cluster: Ground) -> None:
    process = cluster.start(*launch_words(cluster, "dies", TRIALS))
    victim = cluster.workers[0]
    try:
        wait_for(lambda: len(reports(cluster.events("dies"))) > 8, 180)
        assert workers_of_trials(victim)
        watch = cluster.watch(victim.address)
        assert watch.stdout is not None
        assert watch.stdout.readline() == "watching True\n"
        lost_at = time.time()
        victim.kill()
        noticed_at = float(watch.communicate(timeout=60)[0].splitlines()[-1])
        assert noticed_at - lost_at < NOTICED_S
        note_recovery(cluster, "dies", "a host lost", lost_at, victim)
        cluster.network.revive(victim)
        back_at = time.time()
        wait_for(lambda: trained_on(cluster, "dies", victim, back_at), 120)
        said, _ = process.communicate(timeout=400)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    assert "Champion" in said
    check_complete(cluster, "dies", TRIALS)
    assert "t0000" in cluster.run("raysearch", "results", "dies", "--cluster", str(cluster.file))
    assert "dies" in cluster.run("raysearch", "status", "--cluster", str(cluster.file))


def test_a_killed_worker_process_loses_one_report_at_most(cluster: Ground) -> None:
    process = cluster.start(*launch_words(cluster, "worker"))
    wait_for(lambda: len(reports(cluster.events("worker"))) > 15, 180)
    for pid in wait_for(lambda: workers_of_trials(cluster.workers[1]), 30):
        os.kill(pid, signal.SIGKILL)
    note_recovery(cluster, "worker", "a worker process killed", time.time(), cluster.workers[1])
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    check_complete(cluster, "worker")


def test_trials_leave_a_machine_that_is_given_notice(cluster: Ground) -> None:
    process = cluster.start(*launch_words(cluster, "notice"))
    wait_for(lambda: len(reports(cluster.events("notice"))) > 15, 180)
    leaving = cluster.workers[1]
    with ec2_metadata(cluster, leaving) as tell:
        assert not tell.is_set()
        time.sleep(6)  # the script asks every 5 seconds
        assert workers_of_trials(leaving)
        tell.set()
        told_at = time.time()
        wait_for(lambda: not workers_of_trials(leaving), 60)
    leaving.kill()
    note_recovery(cluster, "notice", "notice, then the host lost", told_at, leaving)
    said_there, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said_there
    check_complete(cluster, "notice")


def test_a_stopped_study_is_resumed_and_its_refit_outlives_the_host_it_was_on(
    cluster: Ground,
) -> None:
    cluster.network.revive(cluster.workers[1])
    cluster.run("ray", "up", "-y", "--no-config-cache", "--restart-only", str(cluster.file))
    launch = launch_words(cluster, "stopped")
    process = cluster.start(*launch)
    wait_for(lambda: len(reports(cluster.events("stopped"))) > 15, 180)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "raysearch attach stopped" in said
    attached = cluster.start("raysearch", "attach", "stopped", "--cluster", str(cluster.file))
    assert attached.stdout is not None
    assert any("searching" in line for line in iter(attached.stdout.readline, ""))
    os.killpg(attached.pid, signal.SIGINT)
    assert "raysearch attach stopped" in attached.communicate(timeout=30)[0]
    stop = cluster.run("raysearch", "stop", "stopped", "--cluster", str(cluster.file))
    assert "all is saved" in stop
    before = cluster.events("stopped")
    assert reports(before)
    assert len(reports(before, "end")) < FEWER + 2
    again = cluster.start(*launch, "--resume")
    assert again.stdout is not None
    assert any("refitting t" in line for line in iter(again.stdout.readline, ""))
    refits = wait_for(lambda: [one for one in cluster.workers if workers_of_trials(one)], 60, 0.1)
    refits[0].kill()
    said, _ = again.communicate(timeout=400)
    assert again.returncode == 0, said
    check_complete(cluster, "stopped")
    assert [one for one in cluster.events("stopped") if one["n"] < len(before)] == before


def test_a_killed_launcher_is_resumed(cluster: Ground) -> None:
    for host in cluster.workers:
        cluster.network.revive(host)
    cluster.await_nodes()
    launch = launch_words(cluster, "killed")
    process = cluster.start(*launch)
    wait_for(lambda: len(reports(cluster.events("killed"))) > 15, 180)
    launchers = [
        pid for pid in cluster.head.processes() if "--events" in arguments(pid).split("\0")
    ]
    assert launchers
    for pid in launchers:
        os.kill(pid, signal.SIGKILL)
    killed_at = time.time()
    process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    again = cluster.start(*launch, "--resume")
    note_recovery(cluster, "killed", "the launcher killed, then --resume", killed_at)
    said, _ = again.communicate(timeout=400)
    assert again.returncode == 0, said
    check_complete(cluster, "killed")


def test_no_secret_lies_where_people_look(cluster: Ground) -> None:
    planted = [PASSWORD, TOKEN, cluster.environment["AWS_SECRET_ACCESS_KEY"]]
    fs = cluster.bucket()
    stored = [name for name in fs.find("raysearch/studies") if not name.endswith(".parquet")]
    assert stored
    places = {name: fs.cat_file(name) for name in stored}
    for host in cluster.network.hosts:
        for path in (host.folder / "ray").rglob("*"):
            if path.is_file() and not path.is_symlink():
                places[str(path)] = path.read_bytes()
        for pid in host.processes():
            places[f"{host.name}: arguments of {pid}"] = arguments(pid).encode()
    studies = {name.split("/")[2] for name in stored} - {".shards"}
    assert studies
    for study in studies:
        places[study] = json.dumps(mlflow_runs(cluster, study)).encode()
    found = [
        (name, word) for name, kept in places.items() for word in planted if word.encode() in kept
    ]
    assert not found


def test_ray_down_leaves_no_process(cluster: Ground) -> None:
    cluster.run("ray", "down", "-y", str(cluster.file))
    until = time.monotonic() + 60
    while left := left_behind(cluster):
        assert time.monotonic() < until, left
        time.sleep(1)


def left_behind(ground: Ground) -> list[str]:
    """The command lines of Ray's processes on the hosts."""
    found = [arguments(pid) for host in ground.network.hosts for pid in host.processes()]
    return [line[:80] for line in found if "ray" in line and "ssh" not in line]
