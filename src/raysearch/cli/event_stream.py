"""Prints the messages of a study as lines of JSON, for a reader on another machine."""

from __future__ import annotations

import sys
import time

from raysearch.data.step_progress import StepProgress
from raysearch.search.journal.events import Event
from raysearch.search.study.remote_view import (
    EventMessage,
    Message,
    PlanMessage,
    ProgressMessage,
    StatusMessage,
    write_message,
)
from raysearch.search.study.study import Study

# The progress of a step is printed this often, so that the log of a long refit stays short.
PROGRESS_INTERVAL_S = 5.0


class EventStream:
    """Prints every message of a study; used in place of the live table."""

    def __init__(self) -> None:
        self._step = ""
        self._printed_s = 0.0

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_error: object) -> None:
        """Close nothing."""

    def on_status(self, text: str) -> None:
        """Print what the study does now."""
        _write(StatusMessage(text))

    def on_progress(self, progress: StepProgress) -> None:
        """Print how far the current step is, unless that was printed a moment ago."""
        now = time.monotonic()
        if progress.step != self._step or now - self._printed_s >= PROGRESS_INTERVAL_S:
            self._step, self._printed_s = progress.step, now
            _write(ProgressMessage(progress, time.time()))

    def on_study(self, study: Study) -> None:
        """Print the plan of a study and its events, and from now on each new event."""
        _write(PlanMessage(study.plan))
        for event in study.journal.events:
            self._event(event)
        study.add_listener(self._event)

    def _event(self, event: Event) -> None:
        _write(EventMessage(event))


def _write(message: Message) -> None:
    sys.stdout.write(write_message(message) + "\n")
    sys.stdout.flush()
