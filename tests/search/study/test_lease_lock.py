"""The lease lock: at most one launcher runs a study in an object store."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from raysearch.errors import StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import launcher_lock
from raysearch.search.study.lease_lock import (
    EXPIRY_S,
    RENEWAL_S,
    SETTLE_S,
    UNKNOWN_HOLDER,
    LeaseLock,
)
from support.lease_locks import HERE, Clock


@pytest.fixture(params=["memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> StudyFolder:
    if request.param == "memory":
        return StudyFolder(f"memory://{tmp_path}/x")
    return StudyFolder(f"{request.getfixturevalue('bucket')}/{tmp_path.name}/x")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_second_launch_is_rejected_with_the_firsts_host_and_process(
    folder: StudyFolder, clock: Clock
) -> None:
    first = clock.lock_of(folder)
    first.acquire()
    for _ in range(20):
        clock.sleep(RENEWAL_S)
        first.renew()
        with pytest.raises(StudyError, match=f"'x' is being run by {HERE}; wait for it, or end it"):
            clock.lock_of(folder).acquire()
    first.check_owner()
    first.release()
    assert not folder.exists(folder.LOCK)
    clock.lock_of(folder).acquire()


def test_a_dead_launchers_lock_is_taken_over_after_a_minute_with_a_warning(
    folder: StudyFolder, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.lock_of(folder).acquire()
    clock.sleep(EXPIRY_S - SETTLE_S)
    with pytest.raises(StudyError, match="is being run by"):
        clock.lock_of(folder).acquire()
    clock.sleep(1)
    with caplog.at_level(logging.WARNING):
        clock.lock_of(folder).acquire()
    assert f"study 'x' was run by {HERE}, silent for 61 s; taken over" in caplog.text


def test_a_launcher_whose_lease_expired_writes_nothing_more(
    folder: StudyFolder, clock: Clock
) -> None:
    stopped, other = clock.lock_of(folder), clock.lock_of(folder)
    stopped.acquire()
    clock.sleep(EXPIRY_S + 1)
    other.acquire()
    stored = folder.read(folder.LOCK)
    for check in (stopped.check_owner, stopped.renew, stopped.check_owner):
        with pytest.raises(StudyError, match=f"'x' was taken over by {HERE}.*writes nothing more"):
            check()
    stopped.release()
    assert folder.read(folder.LOCK) == stored
    other.check_owner()
    other.renew()


def test_of_two_simultaneous_launches_the_last_writer_has_the_lock(
    folder: StudyFolder, clock: Clock
) -> None:
    first, second = clock.lock_of(folder), clock.lock_of(folder)
    clock.writers.append(second)
    with pytest.raises(StudyError, match="is being run by"):
        first.acquire()
    second.renew()


def test_a_holder_reads_the_lock_only_after_missed_renewals(
    folder: StudyFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = clock.lock_of(folder)
    holder.acquire()
    with monkeypatch.context() as patch:
        patch.setattr(LeaseLock, "_read", lambda _self: pytest.fail("looked"))
        holder.check_owner()
    clock.sleep(3 * RENEWAL_S)
    holder.check_owner()
    assert json.loads(folder.read(folder.LOCK))["renewed"] == clock.now


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"renewed": "then"}'])
def test_a_damaged_lock_is_free(folder: StudyFolder, clock: Clock, content: bytes) -> None:
    folder.write(folder.LOCK, content)
    clock.lock_of(folder).acquire()
    with pytest.raises(StudyError, match=f"is being run by {HERE}"):
        clock.lock_of(folder).acquire()


def test_a_lock_of_a_dead_process_of_this_machine_is_taken_over_at_once(
    bucket: str,
) -> None:
    folder = StudyFolder(f"{bucket}/gone")
    script = (
        "import os; from raysearch.search.study.lease_lock import LeaseLock;"
        "from raysearch.search.journal.study_folder import StudyFolder;"
        f"LeaseLock(StudyFolder({folder.address!r}), sleep=lambda _s: None).acquire(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert folder.exists(folder.LOCK)
    with launcher_lock(folder):
        pass


@pytest.mark.parametrize("pid", [-1, 0, 2**40])
def test_a_lease_that_names_no_process_is_held_by_an_unknown_launcher(
    folder: StudyFolder, clock: Clock, pid: int
) -> None:
    clock.lock_of(folder).acquire()
    lease = json.loads(folder.read(folder.LOCK)) | {"pid": pid}
    folder.write(folder.LOCK, json.dumps(lease).encode())
    assert clock.lock_of(folder).living_holder() == UNKNOWN_HOLDER
    with pytest.raises(StudyError, match="is being run by another launcher"):
        clock.lock_of(folder).acquire()
