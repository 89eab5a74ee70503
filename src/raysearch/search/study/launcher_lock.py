"""The lock of a study: at most one launcher runs it."""

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
from raysearch.search.study.lease_lock import RENEWAL_S, LeaseLock, held_error

log = logging.getLogger(__name__)
# `check_no_launcher` holds a local lock for an instant, so a launcher tries again after this.
RETRY_S = 0.2


@contextmanager
def launcher_lock(folder: StudyFolder) -> Iterator[Callable[[], None]]:
    """Hold the lock of the study in `folder`.

    On a local path, the kernel releases the lock when its holder dies in any way. The lock file
    contains the name of the holder, which a lock library would erase. On any other address, the
    lock is a `LeaseLock`.

    Yields:
        A function that raises StudyError if another launcher has taken the lock over; it is to be
        called before each write.

    Raises:
        StudyError: If another launcher holds the lock.
    """
    if folder.is_local:
        with _local_lock(folder):
            yield lambda: None
        return
    lease_lock = LeaseLock(folder)
    lease_lock.acquire()
    released = threading.Event()
    thread = threading.Thread(target=_renew, args=(lease_lock, released), name="lock", daemon=True)
    thread.start()
    try:
        yield lease_lock.check_owner
    finally:
        released.set()
        try:
            lease_lock.release()
        except Exception:  # the lease expires after a minute
            log.exception("the lock of study %r could not be released", folder.name)


def check_no_launcher(folder: StudyFolder) -> None:
    """Raise StudyError, with its name, if a launcher holds the study's lock; acquires nothing."""
    if not folder.is_local:
        LeaseLock(folder).inspect()
        return
    path = folder.local / folder.LOCK
    if path.exists():
        with path.open(encoding="utf-8") as file:
            if not _try_lock(file.fileno(), fcntl.LOCK_SH):
                raise held_error(folder, file.read())


@contextmanager
def _local_lock(folder: StudyFolder) -> Iterator[None]:
    path = folder.local / folder.LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not _try_lock(file.fileno(), fcntl.LOCK_EX):
            time.sleep(RETRY_S)
            if not _try_lock(file.fileno(), fcntl.LOCK_EX):
                file.seek(0)
                raise held_error(folder, file.read())
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _try_lock(file_descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(file_descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _renew(lease_lock: LeaseLock, released: threading.Event) -> None:
    while not released.wait(RENEWAL_S):
        try:
            lease_lock.renew()
        except StudyError as error:
            log.error("%s", error)  # the study halts with this error at its next event
            return
        except Exception:
            log.exception("the lock could not be renewed; the next renewal tries it again")
