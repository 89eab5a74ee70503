"""A local Ray that starts no worker is noticed, sooner if the clock was set back."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from raysearch.data.child_processes import descendants
from raysearch.search.engine import worker_stalls
from raysearch.search.engine.worker_stalls import (
    MAX_CHECKS,
    MAX_CHECKS_AFTER_CLOCK,
    StallDetector,
    has_worker,
    workers_expected,
)


class Clock:
    """The clocks of a machine, whose wall clock can be set; a check comes each `CHECK_S`."""

    def __init__(self) -> None:
        self.monotonic_s, self.offset_s = 0.0, 1e9

    def monotonic(self) -> float:
        self.monotonic_s += worker_stalls.CHECK_S
        return self.monotonic_s

    def time(self) -> float:
        return self.monotonic_s + self.offset_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(worker_stalls, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes of `process_named`: other tests may have left workers below this process."""
    started: list[int] = []
    real = descendants
    monkeypatch.setattr(worker_stalls, "descendants", lambda pid: {*real(pid)} & {*started})
    return started


@contextmanager
def process_named(name: str, started: list[int]) -> Iterator[None]:
    command = [name, "-c", "input()"]
    with subprocess.Popen(command, executable=sys.executable, stdin=subprocess.PIPE) as process:
        started.append(process.pid)
        try:
            yield
        finally:
            process.kill()


def num_checks(detector: StallDetector, most: int = 2 * MAX_CHECKS) -> tuple[int, str]:
    """The number of checks until one returns a text, and the text."""
    for number in range(1, most + 1):
        if text := detector.check():
            return number, text
    return most, ""


def test_a_process_below_this_one_with_the_name_of_a_worker_is_one(started: list[int]) -> None:
    until = time.monotonic() + 10
    with process_named("ray::ImplicitFunc.train", started):
        while not has_worker() and time.monotonic() < until:
            time.sleep(0.01)
        assert has_worker()
    for name in ("ray::IDLE", "ray::DashboardAgent", "raylet"):
        with process_named(name, started):
            time.sleep(0.05)
            assert not has_worker()


@pytest.mark.usefixtures("clock")
def test_no_worker_for_minutes_is_a_stall() -> None:
    detector = StallDetector()
    assert num_checks(detector) == (2 * MAX_CHECKS, "")  # nothing waits for a worker
    with workers_expected():
        number, text = num_checks(detector)
    assert number == MAX_CHECKS
    assert text == "Ray has started no worker on this machine for 360 s"
    assert num_checks(detector) == (2 * MAX_CHECKS, "")


@pytest.mark.usefixtures("clock")
def test_a_worker_ends_the_count(started: list[int]) -> None:
    detector = StallDetector()
    with workers_expected():
        num_checks(detector, MAX_CHECKS - 1)
        with process_named("ray::ImplicitFunc", started):
            time.sleep(0.2)
            assert detector.check() is None
        assert num_checks(detector)[0] == MAX_CHECKS


def test_a_clock_that_was_set_back_shortens_the_time_until_it_is_corrected(clock: Clock) -> None:
    detector = StallDetector()
    clock.offset_s -= 3600
    with workers_expected():
        number, text = num_checks(detector)
        assert number == MAX_CHECKS_AFTER_CLOCK
        assert text.endswith("for 60 s, after the clock was set back by 3,600 s")
        clock.offset_s += 3000
        text = detector.check() or ""
        assert text.endswith("after the clock was set back by 600 s")
        clock.offset_s += 600
        number, text = num_checks(detector)
    assert number == MAX_CHECKS - MAX_CHECKS_AFTER_CLOCK - 1
    assert text == "Ray has started no worker on this machine for 360 s"


def test_a_clock_that_was_set_back_shortens_the_time_until_it_is_where_it_was(
    clock: Clock,
) -> None:
    detector = StallDetector()
    clock.offset_s -= 3600
    num_checks(detector, 360)  # an hour passes
    clock.offset_s -= 1  # within the corrections of a time service
    with workers_expected():
        assert num_checks(detector)[0] == MAX_CHECKS
