"""The lock of a study in an object store, which has none that goes with a process."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from raysearch.errors import StudyError
from raysearch.search.journal.study_folder import StudyFolder

log = logging.getLogger(__name__)
BEAT_S = 15.0
# Whoever was silent for this long is dead.
SILENT_S = 60.0
# Of two that begin at once, each waits this long before it looks who came last.
SETTLE_S = 2.0


class LeaseLock:
    """An object with the lock's holder, a token and a time.

    Whoever wants the lock writes a token of their own, waits a moment, and has it if the token
    still stands. The holder renews the time
    every `BEAT_S`; one older than `SILENT_S` is a dead launcher's, and the lock is taken over. The
    clocks of machines that launch the same study must agree within some seconds. `wall` is the
    time that machines agree on, `steady` one that only goes on.
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
        self._beaten = steady()
        self._lost = ""
        self._guard = threading.Lock()

    def look(self) -> str:
        """Who died with the lock, in words, or nothing; StudyError where one that lives has it.

        A lock that is damaged is nobody's.
        """
        found = self._stored()
        if found is None:
            return ""
        silent = self._wall() - found["beat"]
        if silent <= SILENT_S and not found["dead"]:
            raise held_by(self._folder, found["holder"])
        return f"{found['holder']}, silent for {silent:.0f} s"

    def take(self) -> None:
        """Have the lock; StudyError where a launcher that lives has it, or came just before."""
        dead = self.look()
        self._write()
        self._sleep(SETTLE_S)
        found = self._stored()
        if found is None or found["token"] != self._token:
            raise held_by(self._folder, found["holder"] if found else "")
        if dead:
            log.warning("study %r was run by %s; taken over", self._folder.name, dead)

    def beat(self) -> None:
        """Renew the lock; StudyError, then and ever after, where it is another launcher's."""
        with self._guard:
            found = None if self._lost else self._stored()
            if found is None or found["token"] != self._token:
                by = found["holder"] if found else "another launcher"
                self._lost = self._lost or (
                    f"study {self._folder.name!r} was taken over by {by}, because this launcher"
                    " was not heard of for a while; it writes no more"
                )
                raise StudyError(self._lost)
            self._write()

    def assure(self) -> None:
        """StudyError where the lock is another launcher's; looks there after a silence only."""
        if self._lost or self._steady() - self._beaten > 2 * BEAT_S:
            self.beat()

    def leave(self) -> None:
        """Give the lock back, if it is still held."""
        with self._guard:
            found = self._stored()
            if found is not None and found["token"] == self._token:
                self._folder.remove(self._folder.LOCK)
            self._lost = self._lost or f"study {self._folder.name!r}: its launch is over"

    def _stored(self) -> dict[str, Any] | None:
        self._folder.fs.invalidate_cache()
        try:
            found = json.loads(self._folder.read(self._folder.LOCK))
            holder = f"process {int(found['pid'])} on {found['host']}"
            dead = found["host"] == socket.gethostname() and not _lives(int(found["pid"]))
            beat = float(found["beat"])
            return {"holder": holder, "token": found["token"], "beat": beat, "dead": dead}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _write(self) -> None:
        asked = self._steady()
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "token": self._token}
        content = json.dumps({**mine, "beat": self._wall()})
        self._folder.write(self._folder.LOCK, content.encode())
        self._beaten = asked


def _lives(pid: int) -> bool:
    """Whether a process of this machine has the number `pid`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def held_by(folder: StudyFolder, holder: str) -> StudyError:
    """What a launch is rejected by while `holder` runs the study."""
    holder = holder.strip() or "another launcher"
    return StudyError(f"study {folder.name!r} is being run by {holder}; wait for it, or stop it")
