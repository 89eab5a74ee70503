"""Attacks of another account of the same machine, run for real; they require root."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from raysearch.cli import run as run_command
from raysearch.data.child_processes import is_running
from raysearch.data.files import Folder
from raysearch.errors import StudyError
from raysearch.search.engine.cluster_ssh import control_folder
from raysearch.search.engine.cluster_tunnel import cluster_tunnel
from raysearch.search.engine.worker_logs import copy_logs
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import check_no_launcher, launcher_lock
from support.other_accounts import (
    ListeningSocket,
    OtherAccount,
    listening_sockets,
    other_account,
    process_tree,
    umask,
)

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="a second account on this machine requires root"
)
# A group that exists on every Linux.
GROUP, GROUP_NAME = 100, "users"
SPACE = """
data: synthetic:6:120:0
epochs: 1
trials: 1
resources: {cpus: 1, gpus: 0}
space: {folds: 2, width: 4, convolutions: 1, learning_rate: {loguniform: [1.0e-3, 1.0e-2]}}
"""
START_TIMEOUT_S = 300.0


@pytest.fixture
def public() -> Iterator[Path]:
    """An empty folder that every account can enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="rs-public-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def attacker() -> Iterator[OtherAccount]:
    with other_account() as account:
        yield account


@dataclass
class AttackedLaunch:
    """What the other account reached during a launch, and what the launch left."""

    home: Path
    work: Path
    temporary: Path
    sockets: list[ListeningSocket] = field(default_factory=list)
    open_paths: dict[str, object] = field(default_factory=dict)
    joined: dict[str, object] = field(default_factory=dict)
    requests: dict[tuple[str, str], object] = field(default_factory=dict)
    token_seen: object = None
    planted: object = None
    secret: str = ""
    output: str = ""


@pytest.fixture(scope="module")
def launch() -> Iterator[AttackedLaunch]:
    """A launch with the umask 0 in a folder that every account can enter, attacked as it runs."""
    with tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp") as top, other_account() as attacker:
        attacked = AttackedLaunch(Path(top) / "home", Path(top) / "work", Path(top) / "t")
        Path(top).chmod(0o755)
        for folder in (attacked.home, attacked.work, attacked.home / ".ray"):
            folder.mkdir(mode=0o755)
        attacked.temporary.mkdir()
        attacked.temporary.chmod(0o1777)
        token_file = attacked.home / ".ray" / "auth_token"
        token_file.write_text("an-older-token")
        token_file.chmod(0o644)
        (attacked.work / "mlflow.db").touch(0o644)
        (attacked.work / "small.yaml").write_text(SPACE)
        (attacked.work / "small.yaml").chmod(0o600)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY")},
            "HOME": str(attacked.home),
            "TMPDIR": str(attacked.temporary),
        }
        with umask(0):
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("raysearch")), "launch", "small.yaml"],
                cwd=attacked.work,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        try:
            await_trials(attacked, process)
            attack(attacked, attacker, process.pid)
            attacked.output, _ = process.communicate(timeout=600)
            assert process.returncode == 0, attacked.output
            attacked.open_paths["at the end"] = attacker("open_paths", top)
        finally:
            process.kill()
        yield attacked


def await_trials(attacked: AttackedLaunch, process: subprocess.Popen[str]) -> None:
    """Wait until a trial has reported: Ray, its workers and the tracking store are running."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (attacked.work / "studies" / "small" / "scores").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def attack(attacked: AttackedLaunch, attacker: OtherAccount, process: int) -> None:
    (folder,) = attacked.temporary.glob("rs-ray-*")
    processes = process_tree(process)
    attacked.sockets = listening_sockets(processes)
    (gcs,) = (listening for listening in attacked.sockets if listening.process == "gcs_server")
    raylet = next(number for number in processes if is_running(number, "raylet"))
    environment = Path(f"/proc/{raylet}/environ").read_bytes()
    (attacked.secret,) = (
        entry.removeprefix(b"RAY_AUTH_TOKEN=").decode()
        for entry in environment.split(b"\0")
        if entry.startswith(b"RAY_AUTH_TOKEN=")
    )
    address = f"127.0.0.1:{gcs.port}"
    attacked.joined = {
        "without a token": attacker("join_ray", address, ""),
        "with another token": attacker("join_ray", address, "0" * 64),
        "with the older token": attacker("join_ray", address, "an-older-token"),
        "with the token": attacker("join_ray", address, attacked.secret),
    }
    (session,) = folder.glob("r/session_2*")
    attacked.planted = attacker(
        "link", session / "logs" / "worker-planted.out", attacked.home / ".ray" / "auth_token"
    )
    attacked.open_paths["during the launch"] = attacker("open_paths", attacked.work.parent)
    attacked.token_seen = attacker("processes_with", attacked.secret)
    for listening in attacked.sockets:
        for method, path in (("GET", "/metrics"), ("POST", "/get_or_create_runtime_env")):
            status = attacker("request", listening.port, method, path)
            attacked.requests[listening.process, f"{method} {path}"] = status


@pytest.mark.slow
def test_a_local_launch_listens_on_loopback_only(launch: AttackedLaunch) -> None:
    table = [f"{item.process:20} {item.address}:{item.port}" for item in launch.sockets]
    sys.stdout.write("\n".join(table) + "\n")
    processes = {listening.process for listening in launch.sockets}
    assert processes >= {"gcs_server", "raylet", "raysearch"}
    assert {listening.address for listening in launch.sockets} == {"127.0.0.1"}


@pytest.mark.slow
def test_ray_rejects_another_account(launch: AttackedLaunch) -> None:
    assert launch.joined == {
        "without a token": "AuthenticationError",
        "with another token": "AuthenticationError",
        "with the older token": "AuthenticationError",
        "with the token": "1 nodes",
    }
    statuses = {
        status for (_, request), status in launch.requests.items() if request.startswith("POST")
    }
    assert not statuses & {200, 201, 202, 204}
    assert 401 in statuses
    assert [request for request, status in launch.requests.items() if status == 200] == []


@pytest.mark.slow
def test_the_token_is_in_no_file_and_no_command_line(launch: AttackedLaunch) -> None:
    assert len(launch.secret) == 64
    assert launch.token_seen == []
    content = [path.read_bytes() for path in launch.work.parent.rglob("*") if path.is_file()]
    assert len(content) > 20
    assert not [text for text in content if launch.secret.encode() in text]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["during the launch", "at the end"])
def test_another_account_reaches_no_file_of_a_launch(launch: AttackedLaunch, moment: str) -> None:
    # The folders of the fixture, and nothing of what the launch wrote.
    assert launch.open_paths[moment] == [
        f"{launch.work.parent}: list",
        f"{launch.home}: list",
        f"{launch.temporary}: list, plant",
        f"{launch.work}: list",
        f"{launch.home}/.ray: list",
    ]
    assert launch.planted == "PermissionError"


@pytest.mark.slow
def test_the_files_of_a_launch_have_closed_modes_whatever_the_umask(launch: AttackedLaunch) -> None:
    files = [path for path in launch.work.rglob("*") if path.is_file()]
    folders = [path for path in launch.work.rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    names = {path.name for path in (*files, *folders)}
    assert names >= {"mlflow.db", "mlruns", "launcher.lock", "champion.pt", "launch.log", ".shards"}
    token_file = launch.home / ".ray" / "auth_token"
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    assert token_file.read_text() == "an-older-token"


@pytest.mark.slow
def test_rays_private_folder_is_removed_and_the_logs_are_copied(launch: AttackedLaunch) -> None:
    assert list(launch.temporary.iterdir()) == []
    logs = [path.name for path in (launch.work / "studies" / "small" / "logs").iterdir()]
    assert len([name for name in logs if name.startswith("worker-")]) > 0


def test_links_pipes_and_files_of_others_are_not_copied_as_logs(
    public: Path, attacker: OtherAccount
) -> None:
    logs, study = public / "logs", StudyFolder(public / "study")
    logs.mkdir()
    logs.chmod(0o777)  # as Ray makes it on a cluster
    secret = public / "secret"
    secret.write_text("a secret")
    secret.chmod(0o600)
    (logs / "worker-own.out").write_text("a line")
    (logs / "worker-empty.out").touch()
    assert attacker("link", logs / "worker-link.out", secret) == ""
    assert attacker("make_file", logs / "worker-other.out", "planted") == ""
    os.mkfifo(logs / "worker-pipe.out")
    os.link(secret, logs / "worker-hard.out")
    copy_logs(logs, study)
    assert {path.name: path.read_text() for path in (study.local / "logs").iterdir()} == {
        "worker-own.out": "a line"
    }
    moved = public / "moved"
    moved.symlink_to(logs)
    copy_logs(moved, StudyFolder(public / "second"))
    assert not (public / "second").exists()


def test_a_link_among_the_copied_logs_is_replaced(public: Path) -> None:
    logs, study, target = public / "logs", StudyFolder(public / "study"), public / "target"
    logs.mkdir()
    (logs / "worker-1.out").write_text("a line")
    target.write_text("untouched")
    (study.local / "logs").mkdir(parents=True)
    (study.local / "logs" / "worker-1.out").symlink_to(target)
    copy_logs(logs, study)
    assert target.read_text() == "untouched"
    assert (study.local / "logs" / "worker-1.out").read_text() == "a line"


def test_another_account_cannot_lock_a_study(public: Path, attacker: OtherAccount) -> None:
    folder = StudyFolder(public / "study")
    with umask(0), launcher_lock(folder):
        pass
    assert attacker("open_paths", folder.local) == []
    assert attacker("lock", folder.local / folder.LOCK) == "PermissionError"
    with launcher_lock(folder):
        pass


def test_a_lock_that_another_account_holds_does_not_stop_a_study(
    public: Path, attacker: OtherAccount
) -> None:
    folder = StudyFolder(public / "study")
    folder.local.mkdir()
    lock = folder.local / folder.LOCK
    lock.write_text("process 1 on elsewhere")
    lock.chmod(0o644)  # as earlier versions made it
    assert attacker("lock", lock) == ""
    check_no_launcher(folder)
    with launcher_lock(folder), pytest.raises(StudyError, match="is being run by process"):
        check_no_launcher(folder)
    assert attacker("lock", lock) == "PermissionError"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.local.stat().st_mode) == 0o700


def test_a_launcher_of_an_earlier_version_holds_its_lock(public: Path) -> None:
    folder = StudyFolder(public / "study")
    with launcher_lock(folder):
        (folder.local / folder.LOCK).chmod(0o644)
        with pytest.raises(StudyError, match="is being run by process"):
            check_no_launcher(folder)


def test_shards_pages_and_the_cache_are_closed_whatever_the_umask(
    public: Path, attacker: OtherAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(public)
    monkeypatch.setenv("RAYSEARCH_CACHE", str(public / "cache"))
    (public / "page.html").touch(0o644)
    with umask(0):
        assert run_command(["shard", "12:60:0", "shards", "--format", "synthetic"]) == 0
        assert run_command(["split", "shards"]) == 0
        assert run_command(["inspect", "shards", "--out", "page.html"]) in (0, 1)
        Folder(public / "scores").write("scores.csv", b"path,label\n")
        assert os.umask(0) == 0
    assert {path.name for path in public.iterdir()} >= {"shards", "page.html", "scores"}
    assert attacker("open_paths", public) == [f"{public}: list"]


def test_a_group_shares_the_files_and_nobody_else(
    public: Path, attacker: OtherAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(public)
    monkeypatch.setenv("RAYSEARCH_SHARED_GROUP", "")
    command = ["shard", "12:60:0", "shards", "--format", "synthetic", "--shared", GROUP_NAME]
    with umask(0o077):
        assert run_command(command) == 0
    monkeypatch.delenv("RAYSEARCH_SHARED_GROUP")
    # Without the option: what is in a shared folder is shared, too.
    Folder(public / "shards").write("splits/label.json", b"{}")
    paths = list((public / "shards").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o660}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o2770}
    assert {path.stat().st_gid for path in paths} == {GROUP}
    assert attacker("open_paths", public / "shards") == []
    with other_account(GROUP) as member:
        reached = member("open_paths", public / "shards")
        assert isinstance(reached, list)
        assert f"{public}/shards/manifest.json: read, write" in reached
        assert member("lock", public / "shards" / "manifest.json") == ""


def test_a_control_folder_of_another_account_is_rejected(
    public: Path, attacker: OtherAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", f"raysearch-test-{public.name}")  # which Ray takes the name from
    cluster = public / "cluster.yaml"
    cluster.write_text("cluster_name: test\n")
    folder = control_folder()
    assert attacker("make_folder", folder, 0o777) == ""
    try:
        with (
            pytest.raises(StudyError, match=f"{folder}: belongs to another account"),
            cluster_tunnel(cluster, lambda _text: None),
        ):
            pass
        assert run_command(["ray", "up", str(cluster)]) == 2
        folder.rmdir()
        folder.symlink_to(public)
        with pytest.raises(StudyError), cluster_tunnel(cluster, lambda _text: None):
            pass
        folder.unlink()
        folder.mkdir(mode=0o700)
        folder.chmod(0o777)
        with (
            pytest.raises(StudyError, match=f"rm -r {folder}"),
            cluster_tunnel(cluster, lambda _text: None),
        ):
            pass
    finally:
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            folder.rmdir()
    assert json.dumps(attacker("read", cluster)) == '"cluster_name: test\\n"'
