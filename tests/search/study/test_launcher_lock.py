"""Two launches of one study: one of them runs it, whatever the address and whoever dies."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raysearch.errors import StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study import launcher_lock as lock
from raysearch.search.study import lease_lock as lease_lock
from raysearch.search.study.launcher_lock import launcher_lock, reject_second
from raysearch.search.study.lease_lock import BEAT_S, SETTLE_S, SILENT_S, LeaseLock

HERE = f"process {os.getpid()} on {socket.gethostname()}"
HOLD = """
import sys, time
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import launcher_lock
with launcher_lock(StudyFolder(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


class Clock:
    """The time of every machine; `sleep` lets it pass, and `meanwhile` happens in it."""

    def __init__(self) -> None:
        self.now = 1e9
        self.meanwhile: list[LeaseLock] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        while self.meanwhile:
            self.meanwhile.pop()._write()

    def lease_lock(self, folder: StudyFolder) -> LeaseLock:
        return LeaseLock(folder, lambda: self.now, lambda: self.now, self.sleep)


@pytest.fixture(params=["memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> StudyFolder:
    if request.param == "memory":
        return StudyFolder(f"memory://{tmp_path}/x")
    return StudyFolder(f"{request.getfixturevalue('bucket')}/{tmp_path.name}/x")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_second_launch_is_rejected_by_the_firsts_host_and_process(
    folder: StudyFolder, clock: Clock
) -> None:
    first = clock.lease_lock(folder)
    first.take()
    for _ in range(20):
        clock.sleep(BEAT_S)
        first.beat()
        with pytest.raises(StudyError, match=f"'x' is being run by {HERE}; wait for it, or stop"):
            clock.lease_lock(folder).take()
    first.assure()
    first.leave()
    assert not folder.exists(folder.LOCK)
    clock.lease_lock(folder).take()


def test_a_dead_launchers_lock_is_taken_over_after_a_minute_and_the_log_says_so(
    folder: StudyFolder, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.lease_lock(folder).take()
    clock.sleep(SILENT_S - SETTLE_S)
    with pytest.raises(StudyError, match="is being run by"):
        clock.lease_lock(folder).take()
    clock.sleep(1)
    with caplog.at_level(logging.WARNING):
        clock.lease_lock(folder).take()
    assert f"study 'x' was run by {HERE}, silent for 61 s; taken over" in caplog.text


def test_a_launcher_that_was_taken_for_dead_writes_no_more(
    folder: StudyFolder, clock: Clock
) -> None:
    stopped, other = clock.lease_lock(folder), clock.lease_lock(folder)
    stopped.take()
    clock.sleep(SILENT_S + 1)
    other.take()
    stored = folder.read(folder.LOCK)
    for ask in (stopped.assure, stopped.beat, stopped.assure):
        with pytest.raises(StudyError, match=f"'x' was taken over by {HERE}.*writes no more"):
            ask()
    stopped.leave()
    assert folder.read(folder.LOCK) == stored
    other.assure()
    other.beat()


def test_of_two_launches_at_once_the_one_that_wrote_last_has_the_lock(
    folder: StudyFolder, clock: Clock
) -> None:
    first, second = clock.lease_lock(folder), clock.lease_lock(folder)
    clock.meanwhile.append(second)
    with pytest.raises(StudyError, match="is being run by"):
        first.take()
    second.beat()


def test_a_holder_that_beats_looks_for_the_lock_no_more_often_than_that(
    folder: StudyFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = clock.lease_lock(folder)
    holder.take()
    with monkeypatch.context() as patch:
        patch.setattr(LeaseLock, "_stored", lambda _self: pytest.fail("looked"))
        holder.assure()
    clock.sleep(3 * BEAT_S)
    holder.assure()
    assert json.loads(folder.read(folder.LOCK))["beat"] == clock.now


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"beat": "then"}'])
def test_a_damaged_lock_is_nobodys(folder: StudyFolder, clock: Clock, content: bytes) -> None:
    folder.write(folder.LOCK, content)
    clock.lease_lock(folder).take()
    with pytest.raises(StudyError, match=f"is being run by {HERE}"):
        clock.lease_lock(folder).take()


def test_the_lock_is_renewed_by_a_thread_and_given_back(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    monkeypatch.setattr(lease_lock, "SETTLE_S", 0.0)
    with launcher_lock(folder) as assure:
        first = json.loads(folder.read(folder.LOCK))
        until = time.monotonic() + 30
        while json.loads(folder.read(folder.LOCK))["beat"] == first["beat"]:
            assert time.monotonic() < until
            time.sleep(0.02)
        assure()
        with pytest.raises(StudyError, match=f"is being run by {HERE}"):
            reject_second(folder)
        told = None
        while told is None:
            # A renewal that had read the lock before writes over this one; the next does not.
            another = {**first, "token": "another", "pid": 7}
            folder.write(folder.LOCK, json.dumps(another).encode())
            time.sleep(0.5)
            assert time.monotonic() < until
            try:
                assure()
            except StudyError as error:
                told = str(error)
        assert "was taken over by process 7 on" in told
    assert folder.exists(folder.LOCK)


def test_the_lock_is_free_after_a_launch(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_lock, "SETTLE_S", 0.0)
    with launcher_lock(folder):
        pass
    reject_second(folder)
    assert not folder.exists(folder.LOCK)


def test_a_look_at_a_local_lock_takes_and_makes_nothing(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "x")
    reject_second(folder)
    assert not (tmp_path / "x").exists()
    with launcher_lock(folder), pytest.raises(StudyError, match=f"is being run by {HERE}; wait"):
        reject_second(folder)
    reject_second(folder)
    with launcher_lock(folder):
        pass


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
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.stdout == "2 set()\n"
            said = f"is being run by process {holder.pid} on {socket.gethostname()}; wait for it"
            assert said in done.stderr
        holder.send_signal(signal.SIGKILL)
    reject_second(StudyFolder(tmp_path / "space"))


def test_a_lock_of_a_process_of_this_machine_that_is_gone_is_taken_over_at_once(
    bucket: str,
) -> None:
    import subprocess
    import sys

    folder = StudyFolder(f"{bucket}/gone")
    script = (
        "import os; from raysearch.search.study.lease_lock import Beacon;"
        "from raysearch.search.journal.study_folder import StudyFolder;"
        f"Beacon(StudyFolder({folder.address!r}), sleep=lambda _s: None).take(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert folder.exists(folder.LOCK)
    with launcher_lock(folder):
        pass
