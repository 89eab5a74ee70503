"""The remaining time of a running study, kept up to date for its live table, or of a stored one."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from dataclasses import replace
from typing import Protocol

from raysearch.cli.time_probe import known_seconds, local_slots
from raysearch.cli.time_text import PlanTimes
from raysearch.errors import UserError
from raysearch.search.journal.events import Event, StudyLaunched, TrialsExtended
from raysearch.search.journal.history import History
from raysearch.search.sampling.searched_networks import networks_of
from raysearch.search.scheduling.cost_estimate import simulate_search
from raysearch.search.scheduling.remaining_seconds import RemainingSeconds
from raysearch.search.scheduling.remaining_time import RemainingTime
from raysearch.search.study.plan import Plan
from raysearch.search.study.stored_study import StudySnapshot

log = logging.getLogger(__name__)
# The time is estimated again after so many seconds, or this multiple of the time that it took.
INTERVAL_S, INTERVAL_FACTOR = 1.0, 20.0
# The slots of a simulated search whose number of slots is unknown.
DEFAULT_SLOTS = 4


class EstimatedStudy(Protocol):
    """A study whose remaining time is estimated."""

    plan: Plan
    history: History
    lock: threading.RLock


class LiveEstimate:
    """Estimates the remaining time of a study from its events, in a thread of its own.

    Args:
        study: The study.
        is_local: Whether its trials run on this machine, whose measured speeds then apply.
    """

    def __init__(self, study: EstimatedStudy, is_local: bool) -> None:
        self._study, self._is_local = study, is_local
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._remaining: RemainingTime | None = None
        # When the last estimate was made, and the estimate.
        self._estimate: tuple[float, RemainingSeconds] | None = None
        self._is_closed = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """Let the thread end."""
        self._is_closed.set()

    def _run(self) -> None:
        duration_s = 0.0
        try:
            while not self._is_closed.wait(max(INTERVAL_S, INTERVAL_FACTOR * duration_s)):
                start = time.monotonic()
                self.update()
                duration_s = time.monotonic() - start
        except (UserError, OSError):
            log.exception("the remaining time cannot be estimated")

    def on_event(self, event: Event) -> None:
        """Follow the study's next event."""
        with self._lock:
            if self._remaining is None:
                self._events.append(event)
            else:
                self._remaining.apply(event)

    def update(self) -> None:
        """Estimate the remaining time now."""
        if self._remaining is None:
            self._prepare()
        now = time.time()
        with self._study.lock, self._lock:
            if self._remaining is None:
                return
            finish = self._remaining.begin_estimate(self._study.history, now)
        estimate = finish()
        self._estimate = None if estimate is None else (now, estimate)

    def _prepare(self) -> None:
        plan = self._study.plan
        with self._study.lock:
            num_trials = self._study.history.planned(plan.space.trials)
        remaining = remaining_time(plan, self._is_local, num_trials)
        with self._lock:
            for event in self._events:
                remaining.apply(event)
            self._events.clear()
            self._remaining = remaining

    def remaining(self) -> RemainingSeconds | None:
        """Return what the study still needs; None if it is unknown."""
        made = self._estimate  # the thread may set another one
        if made is None:
            return None
        estimated_at, estimate = made
        return estimate.after(max(0.0, time.time() - estimated_at))


def estimated_remaining(study: StudySnapshot) -> RemainingSeconds | None:
    """Return what a running study still needs, by its journal; None if it is unknown.

    The slots and the speeds of this machine apply if the study was launched here.
    """
    plan, history = study.plan, study.history
    launches = [event for event in study.events if isinstance(event, StudyLaunched)]
    is_local = bool(launches) and launches[-1].host == socket.gethostname()
    remaining = remaining_time(plan, is_local, history.planned(plan.space.trials))
    for event in study.events:
        remaining.apply(event)
    return remaining.estimate(history, time.time())


def times_of_resume(stored: StudySnapshot, num_trials: int, times: PlanTimes) -> PlanTimes:
    """Return the time that a stored study still needs on this machine if it is resumed now.

    Args:
        stored: The study.
        num_trials: The planned number of trials from now on.
        times: The time of the whole study with so many trials.
    """
    plan, now = stored.plan, time.time()
    num_cpus = len(os.sched_getaffinity(0))
    remaining = RemainingTime(
        plan.space, times.search, times.epoch_seconds, times.num_slots, num_cpus
    )
    history = History()
    resume: list[Event] = [StudyLaunched("", 0, time=now)]
    if num_trials > stored.history.planned(plan.space.trials):
        resume.append(TrialsExtended(num_trials, time=now))
    for event in (*stored.events, *resume):
        history.apply(event)
        remaining.apply(event)
    return replace(times, is_resumed=True, remaining=remaining.estimate(history, now))


def remaining_time(plan: Plan, is_local: bool, num_trials: int) -> RemainingTime:
    """Return the estimator of the remaining time of a study, before its first event.

    Args:
        plan: The plan of the study.
        is_local: Whether its trials run on this machine.
        num_trials: The planned number of trials.
    """
    seconds = known_seconds(plan) if is_local else {}
    num_slots = local_slots(plan) if is_local else None
    num_cpus = len(os.sched_getaffinity(0)) if is_local else None
    expected = {name: value.expected for name, value in seconds.items()}
    if not set(networks_of(plan.space)) <= expected.keys():
        expected = {}
    search = simulate_search(plan.space, expected, num_slots or DEFAULT_SLOTS, num_trials)
    return RemainingTime(plan.space, search, seconds, num_slots, num_cpus)
