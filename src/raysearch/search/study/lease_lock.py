"""The lock of a study in an object store, which has no locks that end with a process."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from raysearch.config.json_values import parse_json
from raysearch.data.child_processes import launcher_pid
from raysearch.errors import StudyError
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.study_command import study_command

log = logging.getLogger(__name__)
RENEWAL_S = 15.0
# A holder that has not renewed its lease for so long is dead.
EXPIRY_S = 60.0
# A launcher waits so long after writing its token, so that the last of two that started at once
# can be told.
SETTLE_S = 2.0


HOLDER = re.compile(r"process (\d+) on (\S+)")
# The kernel's limit. Zero and negative numbers name groups of processes.
MAX_PID = 2**22


@dataclass(frozen=True)
class Holder:
    """The launcher that holds a lock.

    Args:
        host: Its host; empty if the lock does not say it.
        pid: Its process; 0 if the lock does not say it.
    """

    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.host else "another launcher"

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()


UNKNOWN_HOLDER = Holder("", 0)


def _holder(host: str, pid: int) -> Holder:
    """Return the holder that a lock names; `UNKNOWN_HOLDER` if `pid` is no number of a process."""
    return Holder(host, pid) if 0 < pid <= MAX_PID else UNKNOWN_HOLDER


def parse_holder(text: str) -> Holder:
    """Parse the text of a holder; one without a host if it is none."""
    match = HOLDER.fullmatch(text.strip())
    return _holder(match[2], int(match[1])) if match else UNKNOWN_HOLDER


@dataclass(frozen=True)
class Lease:
    """The content of the lock.

    Args:
        host: Host of the holder.
        pid: Process of the holder.
        token: A random identifier of the holder.
        renewed: Seconds since the epoch, at which the holder renewed the lease.
    """

    host: str
    pid: int
    token: str
    renewed: float

    @property
    def holder(self) -> Holder:
        """The holder."""
        return _holder(self.host, self.pid)

    def is_dead(self) -> bool:
        """Whether the holder was a process of this machine that does not exist any more."""
        return self.holder.is_here and not _process_exists(self.pid)


class LeaseLock:
    """An object that contains the lock's lease.

    To acquire the lock, a launcher writes a lease with its own token, waits a moment, and has the
    lock if its token is still there. The holder renews the lease every `RENEWAL_S`. If a lease is
    older than `EXPIRY_S`, its holder is dead, and the lock may be taken over. The clocks of
    machines that launch the same study must agree within some seconds.

    Args:
        folder: Folder of the study.
        wall: Clock in seconds since the epoch, on which the machines agree.
        steady: Monotonic clock in seconds.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        folder: StudyFolder,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder, self._wall, self._steady, self._sleep = folder, wall, steady, sleep
        self._token = uuid.uuid4().hex
        self._renewed = steady()
        self._loss = ""
        self._lock = threading.Lock()

    def living_holder(self) -> Holder | None:
        """The launcher that holds the lock; None if the lock is free, or its holder is dead."""
        lease = self._read()
        if lease is None or self._wall() - lease.renewed > EXPIRY_S or lease.is_dead():
            return None
        return lease.holder

    def inspect(self) -> str:
        """Describe the dead holder of the lock; empty if the lock is free or damaged.

        Raises:
            StudyError: If a living launcher holds the lock.
        """
        lease = self._read()
        if lease is None:
            return ""
        age = self._wall() - lease.renewed
        if age <= EXPIRY_S and not lease.is_dead():
            raise held_error(self._folder, lease.holder)
        return f"{lease.holder}, silent for {age:.0f} s"

    def acquire(self) -> None:
        """Acquire the lock.

        Raises:
            StudyError: If a living launcher holds it, or has just acquired it.
        """
        dead_holder = self.inspect()
        self._write()
        self._sleep(SETTLE_S)
        lease = self._read()
        if lease is None or lease.token != self._token:
            raise held_error(self._folder, lease.holder if lease else UNKNOWN_HOLDER)
        if dead_holder:
            log.warning("study %r was run by %s; taken over", self._folder.name, dead_holder)

    def renew(self) -> None:
        """Renew the lease.

        Raises:
            StudyError: If another launcher holds the lock; then at every later call, too.
        """
        with self._lock:
            lease = None if self._loss else self._read()
            if lease is None or lease.token != self._token:
                holder = lease.holder if lease else "another launcher"
                self._loss = self._loss or (
                    f"study {self._folder.name!r} was taken over by {holder}, because this launcher"
                    " did not renew its lock for a while; it writes nothing more"
                )
                raise StudyError(self._loss)
            self._write()

    def check_owner(self) -> None:
        """Raise StudyError if another launcher holds the lock; reads it only after a silence."""
        if self._loss or self._steady() - self._renewed > 2 * RENEWAL_S:
            self.renew()

    def release(self) -> None:
        """Release the lock, if it is still held."""
        with self._lock:
            lease = self._read()
            if lease is not None and lease.token == self._token:
                self._folder.remove(self._folder.LOCK)
            self._loss = self._loss or f"study {self._folder.name!r}: its launch has ended"

    def _read(self) -> Lease | None:
        self._folder.fs.invalidate_cache()
        try:
            return record_from_json(Lease, parse_json(self._folder.read(self._folder.LOCK)))
        except (FileNotFoundError, ValueError, StudyError):
            return None

    def _write(self) -> None:
        started = self._steady()
        lease = Lease(socket.gethostname(), launcher_pid(), self._token, self._wall())
        self._folder.write(self._folder.LOCK, json.dumps(record_to_json(lease)).encode())
        self._renewed = started


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def held_error(folder: StudyFolder, holder: Holder) -> StudyError:
    """The error of a launch while `holder` runs the study."""
    return StudyError(
        f"study {folder.name!r} is being run by {holder}; wait for it, or end it"
        f" with `{study_command('stop', folder)}`"
    )
