"""One launcher a study."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raysearch.errors import StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.lease_lock import BEAT_S, LeaseLock, held_by

log = logging.getLogger(__name__)
# A look at the local lock holds it for an instant, which a launcher that begins waits out.
LOOK_S = 0.2


@contextmanager
def launcher_lock(folder: StudyFolder) -> Iterator[Callable[[], None]]:
    """Hold the study's lock; StudyError, naming the holder, while another launcher has it.

    Gives what raises StudyError once the lock is another's; it is to be asked before each write.
    On a local path the kernel gives the lock back when its holder dies, however it dies. On any
    other address the lock is an object that its holder renews, see `LeaseLock`.
    """
    if folder.is_local:
        with _local_lock(folder):
            yield lambda: None
        return
    lease_lock = LeaseLock(folder)
    lease_lock.take()
    over = threading.Event()
    thread = threading.Thread(target=_renew, args=(lease_lock, over), name="lock", daemon=True)
    thread.start()
    try:
        yield lease_lock.assure
    finally:
        over.set()
        try:
            lease_lock.leave()
        except Exception:  # after a minute it is a dead launcher's
            log.exception("the lock of study %r was not given back", folder.name)


def reject_second(folder: StudyFolder) -> None:
    """StudyError, naming the holder, while a launcher has the study's lock; takes nothing."""
    if not folder.is_local:
        LeaseLock(folder).look()
        return
    path = folder.local / folder.LOCK
    if path.exists():
        with path.open(encoding="utf-8") as file:
            if not _flock(file.fileno(), fcntl.LOCK_SH):
                raise held_by(folder, file.read())


@contextmanager
def _local_lock(folder: StudyFolder) -> Iterator[None]:
    path = folder.local / folder.LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not _flock(file.fileno(), fcntl.LOCK_EX):
            time.sleep(LOOK_S)
            if not _flock(file.fileno(), fcntl.LOCK_EX):
                file.seek(0)
                raise held_by(folder, file.read())
        file.truncate(0)
        file.write(_here())
        file.flush()
        yield


def _flock(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _here() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _renew(lease_lock: LeaseLock, over: threading.Event) -> None:
    while not over.wait(BEAT_S):
        try:
            lease_lock.beat()
        except StudyError as error:
            log.error("%s", error)  # the study halts by it at its next event
            return
        except Exception:
            log.exception("the lock was not renewed; it is tried again")
