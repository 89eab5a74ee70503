"""Lease locks on a simulated clock."""

from __future__ import annotations

import os
import socket

from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.lease_lock import LeaseLock

HERE = f"process {os.getpid()} on {socket.gethostname()}"


class Clock:
    """The clock of every machine; while one sleeps, the locks in `writers` write their lease."""

    def __init__(self) -> None:
        self.now = 1e9
        self.writers: list[LeaseLock] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        while self.writers:
            self.writers.pop()._write()

    def lock_of(self, folder: StudyFolder) -> LeaseLock:
        return LeaseLock(folder, lambda: self.now, lambda: self.now, self.sleep)
