"""Prints the messages of a study as lines of JSON, for a reader on another machine."""

from __future__ import annotations

import sys

from raysearch.search.journal.events import Event
from raysearch.search.study.remote_view import (
    EventMessage,
    Message,
    PlanMessage,
    StatusMessage,
    write_message,
)
from raysearch.search.study.study import Study


class EventStream:
    """Prints every message of a study; used in place of the live table."""

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_error: object) -> None:
        """Close nothing."""

    def on_status(self, text: str) -> None:
        """Print what the study does now."""
        _write(StatusMessage(text))

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
