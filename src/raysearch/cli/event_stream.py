"""A study told as lines of JSON, for whoever follows it from another machine."""

from __future__ import annotations

import sys

from raysearch.search.journal.journal import Event
from raysearch.search.study.remote_view import event_message, phase_message, plan_message
from raysearch.search.study.study import Study


class EventStream:
    """Writes every message of a study to the standard output; a `Watch` of the study."""

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing is left open."""

    def phase(self, text: str) -> None:
        """The study is at `text` now."""
        _write(phase_message(text))

    def study(self, study: Study) -> None:
        """The study is open: its plan, all that happened, and from now on what happens."""
        _write(plan_message(study.plan))
        for event in study.journal.events:
            self._event(event)
        study.listeners.append(self._event)

    def _event(self, event: Event) -> None:
        _write(event_message(event))


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
