"""The launcher lock: at most one launcher runs a study, on any address."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raysearch.errors import StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study import launcher_lock as launcher_lock_module
from raysearch.search.study import lease_lock
from raysearch.search.study.launcher_lock import (
    check_no_launcher,
    launcher_lock,
    running_launcher,
)
from raysearch.search.study.lease_lock import UNKNOWN_HOLDER
from support.lease_locks import HERE

HOLD = """
import sys, time
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import launcher_lock
with launcher_lock(StudyFolder(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
READ = """
import sys
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import running_launcher
print(running_launcher(StudyFolder(sys.argv[1])))
"""


@pytest.fixture(params=["memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> StudyFolder:
    if request.param == "memory":
        return StudyFolder(f"memory://{tmp_path}/x")
    return StudyFolder(f"{request.getfixturevalue('bucket')}/{tmp_path.name}/x")


def test_the_lock_is_renewed_by_a_thread_and_released(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_lock_module, "RENEWAL_S", 0.05)
    monkeypatch.setattr(lease_lock, "SETTLE_S", 0.0)
    with launcher_lock(folder) as check_owner:
        first = json.loads(folder.read(folder.LOCK))
        until = time.monotonic() + 30
        while json.loads(folder.read(folder.LOCK))["renewed"] == first["renewed"]:
            assert time.monotonic() < until
            time.sleep(0.02)
        check_owner()
        with pytest.raises(StudyError, match=f"is being run by {HERE}"):
            check_no_launcher(folder)
        loss = None
        while loss is None:
            # A renewal that has already read the lock overwrites this one; the next does not.
            another = {**first, "token": "another", "pid": 7}
            folder.write(folder.LOCK, json.dumps(another).encode())
            time.sleep(0.5)
            assert time.monotonic() < until
            try:
                check_owner()
            except StudyError as error:
                loss = str(error)
        assert "was taken over by process 7 on" in loss
    assert folder.exists(folder.LOCK)


def test_the_lock_is_free_after_a_launch(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_lock, "SETTLE_S", 0.0)
    with launcher_lock(folder):
        pass
    check_no_launcher(folder)
    assert not folder.exists(folder.LOCK)


def test_a_check_of_a_local_lock_acquires_and_creates_nothing(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "x")
    check_no_launcher(folder)
    assert not (tmp_path / "x").exists()
    with launcher_lock(folder), pytest.raises(StudyError, match=f"is being run by {HERE}; wait"):
        check_no_launcher(folder)
    check_no_launcher(folder)
    with launcher_lock(folder):
        pass


def test_a_reader_of_a_lock_changes_nothing(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "x")
    with launcher_lock(folder):
        pass
    lock = folder.local / folder.LOCK
    for mode in (0o444, 0o755):  # as a mount of another system shows it
        lock.chmod(mode)
        before = lock.stat()
        assert running_launcher(folder) is None
        assert lock.stat() == before


def test_a_launcher_in_another_container_is_seen_on_a_mount_whose_files_are_open(
    tmp_path: Path,
) -> None:
    folder = StudyFolder(tmp_path / "x")
    with launcher_lock(folder):
        (folder.local / folder.LOCK).chmod(0o777)
        command = [sys.executable, "-c", READ, folder.address]
        container = ["unshare", "--fork", "--pid", "--mount-proc"]
        if subprocess.run([*container, "true"], check=False, capture_output=True).returncode:
            pytest.skip("this account cannot create a namespace of processes")
        for words in (command, [*container, *command]):
            seen = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
            assert seen.stdout == f"{HERE}\n"
        with pytest.raises(StudyError, match="is being run by"):
            check_no_launcher(folder)


@pytest.mark.parametrize(
    "text", ["process 0 on host", "process -1 on host", f"process {2**40} on host", "\xff"]
)
def test_a_lock_that_names_no_process_is_held_by_an_unknown_launcher(
    tmp_path: Path, text: str
) -> None:
    folder = StudyFolder(tmp_path / "x")
    with launcher_lock(folder):
        (folder.local / folder.LOCK).write_text(text)
        assert running_launcher(folder) == UNKNOWN_HOLDER


def test_a_full_disk_is_named_with_the_lock(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "x")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(OSError, match="bytes were not written") as caught:
            launcher_lock(folder).__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(folder.local / folder.LOCK)
    check_no_launcher(folder)


def test_a_launch_is_rejected_before_anything_heavy_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "space.yaml").write_text("trials: 1\nspace: {width: 4}\n")
    monkeypatch.setenv("RAYSEARCH_STUDIES", str(tmp_path))
    launch = (
        "import sys; from raysearch.cli import run; code = run(sys.argv[1:]);"
        "print(code, {'torch', 'ray', 'mlflow', 'pyarrow'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", launch, "launch", str(tmp_path / "space.yaml"), "--resume"]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "space")], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for words in (command, [*command[:-1], "--name", "space"]):
            process = subprocess.run(words, capture_output=True, text=True, check=False)
            assert process.stdout == "2 set()\n"
            message = f"is being run by process {holder.pid} on {socket.gethostname()}; wait for it"
            assert message in process.stderr
        holder.send_signal(signal.SIGKILL)
    check_no_launcher(StudyFolder(tmp_path / "space"))


def test_a_local_study_has_one_launcher(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "x")
    with (
        launcher_lock(folder),
        pytest.raises(StudyError, match=f"process {os.getpid()} on"),
        launcher_lock(folder),
    ):
        pass
    with launcher_lock(folder):
        pass
