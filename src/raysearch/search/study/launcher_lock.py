"""The lock of a study: at most one launcher runs it."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from raysearch.data.child_processes import launcher_pid
from raysearch.data.disk_errors import disk_errors
from raysearch.data.file_access import create_folder, flock_owners, open_lock_file, restrict
from raysearch.errors import StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.lease_lock import RENEWAL_S, Holder, LeaseLock, held_error, parse_holder

log = logging.getLogger(__name__)
# `check_no_launcher` holds a local lock for an instant, so a launcher tries again after this.
RETRY_S = 0.2
MAX_HOLDER = 300


@contextmanager
def launcher_lock(folder: StudyFolder) -> Iterator[Callable[[], None]]:
    """Hold the lock of the study in `folder`.

    On a local path, the kernel releases the lock when its holder dies in any way. The lock file
    contains the name of the holder, which a lock library would erase. It is closed to other
    accounts, like the study's folder: whoever can read a file can lock it. On any other address,
    the lock is a `LeaseLock`.

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


def running_launcher(folder: StudyFolder) -> Holder | None:
    """Return the launcher that holds the study's lock, or None.

    The lock is only read: nothing is acquired, created or replaced.

    Raises:
        OSError: If the lock of a local study cannot be read.
    """
    if not folder.is_local:
        return LeaseLock(folder).living_holder()
    path = folder.local / folder.LOCK
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(descriptor, "rb") as file:
        if _try_lock(descriptor, fcntl.LOCK_SH) or _is_held_by_strangers(path, descriptor):
            return None
        return parse_holder(file.read(MAX_HOLDER).decode(errors="replace"))


def _is_held_by_strangers(path: Path, descriptor: int) -> bool:
    """Whether only other accounts hold the lock, whose file is open to all.

    A launcher replaces such a file. If another machine or container holds the lock, its account is
    not known, and it counts as a launcher.
    """
    status = os.fstat(descriptor)
    group = stat.S_IRWXG if path.parent.stat().st_mode & stat.S_ISGID else 0
    is_open = bool(status.st_mode & 0o077 & ~group)
    owners = flock_owners(descriptor)
    return is_open and bool(owners) and owners.isdisjoint({0, os.geteuid(), status.st_uid})


def check_no_launcher(folder: StudyFolder) -> None:
    """Raise StudyError, with its name, if a launcher holds the study's lock; acquires nothing."""
    holder = running_launcher(folder)
    if holder is not None:
        raise held_error(folder, holder)


@contextmanager
def _local_lock(folder: StudyFolder) -> Iterator[None]:
    create_folder(folder.local)
    restrict(folder.local)  # whatever is in it is then closed to others, too
    descriptor = open_lock_file(folder.local / folder.LOCK)
    try:
        if not _try_lock(descriptor, fcntl.LOCK_EX):
            time.sleep(RETRY_S)
            if not _try_lock(descriptor, fcntl.LOCK_EX):
                holder = os.pread(descriptor, MAX_HOLDER, 0).decode(errors="replace")
                raise held_error(folder, parse_holder(holder))
        content = str(Holder(socket.gethostname(), launcher_pid())).encode()
        # Not by a buffered file, which would write the rest again when it is closed.
        with disk_errors(folder.local / folder.LOCK, len(content)):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, content, 0)
        yield
    finally:
        os.close(descriptor)


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
