"""From `ray up` to `ray down` on three hosts, with failures in between.

The tests run in the order of this file, because each one uses the cluster that the previous one
left.
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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from raysearch.search.journal.events import Event, FoldReport, TrialEnded, TrialStarted
from raysearch.training.checkpoint import unpack_checkpoint

from .hosts import GATEWAY, Host, ssh
from .testbed import PASSWORD, START_S, TOKEN, TOP, ClusterTestbed, Recovery

T = TypeVar("T")
E = TypeVar("E", bound=Event)
SPACE = str(Path(__file__).with_name("space.yaml"))
NUM_TRIALS, FEW_TRIALS = 24, 6
MAX_DETECTION_S = 10.0
# Prints the answers of Ray's client server without a token, with a wrong and with the right one.
CLIENT = """
import os, pathlib, grpc
from ray.core.generated import ray_client_pb2 as messages, ray_client_pb2_grpc as services
token = (pathlib.Path.home() / ".ray" / "auth_token").read_text()
request = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
for secret in ("", "w" * 64, token):
    channel = grpc.insecure_channel(os.environ["RAY_HEAD"] + ":10001")
    login = [("authorization", "Bearer " + secret)] if secret else []
    try:
        stub = services.RayletDriverStub(channel)
        stub.ClusterInfo(request, metadata=[("client_id", "test"), *login], timeout=30)
        print("OK")
    except grpc.RpcError as error:
        print(error.code().name)
"""
STUDIES = "s3://raysearch/studies"


def wait_for(condition: Callable[[], T], timeout_s: float, step_s: float = 0.5) -> T:
    """Wait until the value of `condition` is true; return it."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(step_s)
    return value


def launch_command(testbed: ClusterTestbed, study: str, num_trials: int = FEW_TRIALS) -> list[str]:
    """The command that launches `study` on the cluster."""
    command = ["raysearch", "launch", SPACE, "--on", str(testbed.file), "--name", study]
    return [*command, "--trials", str(num_trials)]


def of_type(events: list[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def reports(testbed: ClusterTestbed, study: str) -> list[FoldReport]:
    return of_type(testbed.events(study), FoldReport)


def check_complete(testbed: ClusterTestbed, study: str, num_trials: int = FEW_TRIALS) -> None:
    """Check that the study has the planned trials, each fold-epoch once and each run once."""
    events = testbed.events(study)
    started = [event.trial for event in of_type(events, TrialStarted) if event.kind == "trial"]
    assert sorted(started) == [f"t{number:04d}" for number in range(num_trials)]
    ends = of_type(events, TrialEnded)
    assert len(ends) == len({event.trial for event in ends}) == num_trials + 2
    fold_epochs = [(report.trial, report.epoch) for report in of_type(events, FoldReport)]
    assert len(fold_epochs) == len(set(fold_epochs))
    assert not [event for event in ends if event.status == "failed"]
    runs = mlflow_runs(testbed, study)
    children = [run for run in runs if "mlflow.parentRunId" in run["tags"]]
    assert sorted(run["tags"]["raysearch.trial"] for run in children) == sorted(started)
    assert {run["status"] for run in runs} <= {"FINISHED", "KILLED"}


def running_trials(testbed: ClusterTestbed, study: str) -> list[str]:
    """The trials that have started and not ended."""
    events = testbed.events(study)
    ended = {event.trial for event in of_type(events, TrialEnded)}
    return [event.trial for event in of_type(events, TrialStarted) if event.trial not in ended]


def lost_work(testbed: ClusterTestbed, study: str, host: str | None) -> tuple[int, float, float]:
    """The largest number of fold-epochs of a running trial since its checkpoint; their seconds.

    The last number is the seconds of the trial's longest fold-epoch. If `host` is a name, only
    trials whose last report is from that host count.
    """
    fs, largest = testbed.bucket(), (0, 0.0, 0.0)
    for trial in running_trials(testbed, study):
        name = f"raysearch/studies/{study}/checkpoints/{trial}.pt"
        saved_epoch = 0
        if fs.exists(name):
            saved_epoch = unpack_checkpoint(fs.cat_file(name)).history[-1].epoch
        of_trial = [report for report in reports(testbed, study) if report.trial == trial]
        if host is not None and (not of_trial or of_trial[-1].host != host):
            continue
        lost_s = [report.seconds for report in of_trial if report.epoch > saved_epoch]
        longest_s = max((report.seconds for report in of_trial), default=0.0)
        largest = max(largest, (len(lost_s), sum(lost_s), longest_s))
    return largest


def await_recovery(
    testbed: ClusterTestbed, study: str, failure: str, failed_at: float, host: Host | None = None
) -> None:
    """Wait until every trial continues after a failure of `host`; record what that cost."""
    lost_epochs, lost_s, longest_s = lost_work(testbed, study, host.name if host else None)
    # A checkpoint every ten seconds; one fold-epoch ends after that time, and one while it is sent.
    assert lost_epochs <= 1 or lost_s < 10 + 2 * longest_s + 5
    interrupted = set(running_trials(testbed, study))

    def have_continued() -> bool:
        later = [event for event in testbed.events(study) if event.time > failed_at + 1]
        return interrupted <= {
            event.trial for event in later if isinstance(event, (FoldReport, TrialEnded))
        }

    wait_for(have_continued, START_S)
    testbed.recoveries.append(Recovery(failure, lost_epochs, lost_s, time.time() - failed_at))


def trained_on(testbed: ClusterTestbed, study: str, host: Host, since: float) -> bool:
    """Whether a fold-epoch was reported from `host` after `since`."""
    return any(
        report.host == host.name and report.time > since for report in reports(testbed, study)
    )


@contextmanager
def ec2_metadata(testbed: ClusterTestbed, host: Host) -> Iterator[threading.Event]:
    """Run the script of `cluster.yaml` for spot machines on `host`, with a metadata service.

    Once the yielded event is set, the service announces that the machine will be interrupted.
    """
    notice = threading.Event()

    class Service(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer(200, b"planted-token")

        def do_GET(self) -> None:
            has_token = self.headers.get("X-aws-ec2-metadata-token") == "planted-token"
            is_action = self.path == "/latest/meta-data/spot/instance-action"
            self._answer(200 if has_token and is_action and notice.is_set() else 404, b"{}")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Log nothing."""

    server = http.server.ThreadingHTTPServer((GATEWAY, 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = yaml.safe_load((TOP / "cluster.yaml").read_text())
    (script,) = [command for command in config["setup_commands"] if "spot-notice.sh" in command]
    start = config["worker_start_ray_commands"][-1]
    service = f"export AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{GATEWAY}:{server.server_port}"
    try:
        for command in (script, f"{service}; {start}"):
            finished = ssh(host, testbed.network.key, command)
            assert finished.returncode == 0, finished.stderr
        yield notice
    finally:
        server.shutdown()
        server.server_close()


def mlflow_runs(testbed: ClusterTestbed, study: str) -> list[dict[str, Any]]:
    import base64

    store = re.search(r"MLFLOW_TRACKING_URI=(\S+)", testbed.file.read_text())
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
            "tags": {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])},
            "params": {param["key"]: param["value"] for param in run["data"].get("params", [])},
        }
        for run in call("runs/search", body).get("runs", [])
    ]


def command_line(pid: int) -> str:
    """The arguments of a process, separated by NUL; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def training_processes(host: Host) -> list[int]:
    """The processes on `host` that train."""
    lines = {pid: command_line(pid) for pid in host.processes()}
    return [pid for pid, line in lines.items() if line.startswith("ray::") and "IDLE" not in line]


def test_all_checks_of_the_doctor_pass_on_a_new_cluster(cluster: ClusterTestbed) -> None:
    output = cluster.run("raysearch", "doctor", "--on", str(cluster.file), "--json")
    checks = json.loads(output[output.index('{"checks"') :])["checks"]
    assert all(check["passed"] for check in checks)
    assert {check["name"] for check in checks} >= {
        "nodes", "versions", "GPUs", "shared storage", "tracking server", "clocks", "disk",
        "token", "token file", "dashboard",
    }  # fmt: skip
    assert "3 answered of 3" in checks[0]["details"]


def test_requests_without_the_token_are_rejected(cluster: ClusterTestbed) -> None:
    jobs = "http://127.0.0.1:8265/api/jobs/"
    curl = f"curl -s -o /dev/null -w %{{http_code}} {jobs}"
    head, key = cluster.head, cluster.network.key
    assert ssh(head, key, curl).stdout == "401"
    assert ssh(head, key, f"{curl} -H 'Authorization: Bearer wrong'").stdout == "403"
    assert ssh(head, key, f"{curl} -H 'Authorization: Bearer {TOKEN}'").stdout == "200"
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


def test_the_dashboard_cannot_be_reached_from_outside(cluster: ClusterTestbed) -> None:
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen(f"http://{cluster.head.address}:8265/", timeout=3)


@pytest.mark.timeout(2400)
def test_no_trial_is_lost_with_a_host_and_a_restarted_host_trains(
    cluster: ClusterTestbed,
) -> None:
    process = cluster.start(*launch_command(cluster, "dies", NUM_TRIALS))
    victim = cluster.workers[0]
    try:
        wait_for(lambda: len(reports(cluster, "dies")) > 8, START_S)
        assert training_processes(victim)
        watch = cluster.watch(victim.address)
        assert watch.stdout is not None
        assert watch.stdout.readline() == "watching True\n"
        killed_at = time.time()
        victim.kill()
        detected_at = float(watch.communicate(timeout=60)[0].splitlines()[-1])
        assert detected_at - killed_at < MAX_DETECTION_S
        await_recovery(cluster, "dies", "a host lost", killed_at, victim)
        cluster.network.revive(victim)
        restarted_at = time.time()
        wait_for(lambda: trained_on(cluster, "dies", victim, restarted_at), START_S)
        output, _ = process.communicate(timeout=400)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    assert "Champion" in output
    check_complete(cluster, "dies", NUM_TRIALS)
    assert "t0000" in cluster.run("raysearch", "results", "dies", "--on", str(cluster.file))
    assert "dies" in cluster.run("raysearch", "status", "--on", str(cluster.file))


@pytest.mark.long
def test_a_killed_worker_process_loses_one_report_at_most(cluster: ClusterTestbed) -> None:
    process = cluster.start(*launch_command(cluster, "worker"))
    wait_for(lambda: len(reports(cluster, "worker")) > 15, START_S)
    assert wait_for(lambda: killed_processes(cluster.workers[1]), 30)
    await_recovery(cluster, "worker", "a worker process killed", time.time(), cluster.workers[1])
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    check_complete(cluster, "worker")


def killed_processes(host: Host) -> list[int]:
    """Kill the training processes of `host`; return those that had not ended by themselves."""
    killed = []
    for pid in training_processes(host):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    return killed


@pytest.mark.long
def test_trials_move_off_a_spot_machine_after_its_notice(cluster: ClusterTestbed) -> None:
    process = cluster.start(*launch_command(cluster, "notice"))
    wait_for(lambda: len(reports(cluster, "notice")) > 15, START_S)
    draining = cluster.workers[1]
    with ec2_metadata(cluster, draining) as notice:
        assert not notice.is_set()
        time.sleep(6)  # the script polls every 5 seconds
        assert training_processes(draining)
        notice.set()
        noticed_at = time.time()
        wait_for(lambda: not training_processes(draining), 60)
    draining.kill()
    await_recovery(cluster, "notice", "notice, then the host lost", noticed_at, draining)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    check_complete(cluster, "notice")


@pytest.mark.long
def test_a_stopped_study_is_resumed_and_its_refit_survives_the_loss_of_its_host(
    cluster: ClusterTestbed,
) -> None:
    cluster.network.revive(cluster.workers[1])
    cluster.run("ray", "up", "-y", "--no-config-cache", "--restart-only", str(cluster.file))
    launch = launch_command(cluster, "stopped")
    process = cluster.start(*launch)
    wait_for(lambda: len(reports(cluster, "stopped")) > 15, START_S)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "raysearch attach stopped" in output
    attached = cluster.start("raysearch", "attach", "stopped", "--on", str(cluster.file))
    assert attached.stdout is not None
    assert any("searching" in line for line in iter(attached.stdout.readline, ""))
    os.killpg(attached.pid, signal.SIGINT)
    assert "raysearch attach stopped" in attached.communicate(timeout=30)[0]
    stop = cluster.run("raysearch", "stop", "stopped", "--on", str(cluster.file))
    assert "state saved" in stop
    before = cluster.events("stopped")
    assert of_type(before, FoldReport)
    assert len(of_type(before, TrialEnded)) < FEW_TRIALS + 2
    resumed = cluster.start(*launch, "--resume")
    assert resumed.stdout is not None
    assert any("refitting t" in line for line in iter(resumed.stdout.readline, ""))
    refitting = wait_for(
        lambda: [host for host in cluster.workers if training_processes(host)], 60, 0.1
    )
    refitting[0].kill()
    output, _ = resumed.communicate(timeout=400)
    assert resumed.returncode == 0, output
    check_complete(cluster, "stopped")
    assert cluster.events("stopped")[: len(before)] == before


def test_a_killed_launcher_is_resumed(cluster: ClusterTestbed) -> None:
    for host in cluster.workers:
        cluster.network.revive(host)
    cluster.await_nodes()
    launch = launch_command(cluster, "killed")
    process = cluster.start(*launch)
    wait_for(lambda: len(reports(cluster, "killed")) > 15, START_S)
    launchers = [
        pid for pid in cluster.head.processes() if "--events" in command_line(pid).split("\0")
    ]
    assert launchers
    for pid in launchers:
        os.kill(pid, signal.SIGKILL)
    killed_at = time.time()
    process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    resumed = cluster.start(*launch, "--resume")
    await_recovery(cluster, "killed", "the launcher killed, then --resume", killed_at)
    output, _ = resumed.communicate(timeout=400)
    assert resumed.returncode == 0, output
    check_complete(cluster, "killed")


def test_no_secret_is_in_files_logs_arguments_or_runs(cluster: ClusterTestbed) -> None:
    secrets = [PASSWORD, TOKEN, cluster.environment["AWS_SECRET_ACCESS_KEY"]]
    fs = cluster.bucket()
    stored = [name for name in fs.find("raysearch/studies") if not name.endswith(".parquet")]
    assert stored
    contents = {name: fs.cat_file(name) for name in stored}
    for host in cluster.network.hosts:
        for path in (host.folder / "ray").rglob("*"):
            with suppress(FileNotFoundError):  # Ray removes it meanwhile
                if path.is_file() and not path.is_symlink():
                    contents[str(path)] = path.read_bytes()
        for pid in host.processes():
            contents[f"{host.name}: command line of {pid}"] = command_line(pid).encode()
    studies = {name.split("/")[2] for name in stored} - {".shards"}
    assert studies
    for study in studies:
        contents[study] = json.dumps(mlflow_runs(cluster, study)).encode()
    leaks = [
        (name, secret)
        for name, content in contents.items()
        for secret in secrets
        if secret.encode() in content
    ]
    assert not leaks


def test_ray_down_leaves_no_process(cluster: ClusterTestbed) -> None:
    cluster.run("ray", "down", "-y", str(cluster.file))
    deadline = time.monotonic() + 60
    while processes := ray_processes(cluster):
        assert time.monotonic() < deadline, processes
        time.sleep(1)


def ray_processes(testbed: ClusterTestbed) -> list[str]:
    """The command lines of Ray's processes on the hosts."""
    lines = [command_line(pid) for host in testbed.network.hosts for pid in host.processes()]
    return [line[:80] for line in lines if "ray" in line and "ssh" not in line]
