"""Notices that the Ray of this machine starts no worker although the study waits for one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raysearch.data.child_processes import descendants

# Ray names its workers after what they run; these run nothing of a study.
WORKER_PREFIX = b"ray::"
OTHER_WORKERS = (b"ray::IDLE", b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")
CHECK_S = 10.0
# After so many checks without a worker, it is a stall: workers start within 100 s on a machine
# that has ten times more work than cores.
MAX_CHECKS = 36
# If its clock is set back, Ray 2.60 places no new worker until the clock is where it was.
MAX_CHECKS_AFTER_CLOCK = 6
# A smaller step is a correction of the clock by its service.
MIN_CLOCK_STEP_S = 5.0

_waiting: list[object] = []


@contextmanager
def workers_expected() -> Iterator[None]:
    """Expect workers on this machine inside the `with` block."""
    token = object()
    _waiting.append(token)
    try:
        yield
    finally:
        _waiting.remove(token)


class StallDetector:
    """Counts the checks in a row that found no worker while workers are expected.

    A process that was stopped meanwhile makes no checks, so that the time does not count.
    """

    def __init__(self) -> None:
        self._num_checks = 0
        self._checked_s = time.monotonic()
        self._clock_offset = time.time() - self._checked_s
        self._set_back_s = 0.0
        # At this time of the monotonic clock, the clock is where it was before it was set back.
        self._behind_until_s = self._checked_s

    def check(self) -> str | None:
        """Return that Ray starts no worker, in a few words; None as long as that is not known."""
        now = time.monotonic()
        if now - self._checked_s < CHECK_S:
            return None
        self._checked_s = now
        self._follow_clock(now)
        is_behind = now < self._behind_until_s
        self._num_checks = 0 if not _waiting or has_worker() else self._num_checks + 1
        if self._num_checks < (MAX_CHECKS_AFTER_CLOCK if is_behind else MAX_CHECKS):
            return None
        seconds = self._num_checks * CHECK_S
        text = f"Ray has started no worker on this machine for {seconds:g} s"
        if is_behind:
            return f"{text}, after the clock was set back by {self._set_back_s:,.0f} s"
        return text

    def _follow_clock(self, now: float) -> None:
        """Find out by how much the clock was set since the last check.

        Args:
            now: The time of the monotonic clock.
        """
        offset = time.time() - now
        step_s = offset - self._clock_offset
        self._clock_offset = offset
        if abs(step_s) < MIN_CLOCK_STEP_S:
            return
        behind_s = max(0.0, self._behind_until_s - now)
        set_back_s = self._set_back_s if behind_s else 0.0
        self._set_back_s = max(0.0, set_back_s - step_s)
        self._behind_until_s = now + max(0.0, behind_s - step_s)


def has_worker() -> bool:
    """Return whether Ray runs a worker of a study below this process."""
    return any(map(_is_worker, descendants(os.getpid())))


def _is_worker(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return False
    return command.startswith(WORKER_PREFIX) and not command.startswith(OTHER_WORKERS)
