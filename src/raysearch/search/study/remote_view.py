"""A study as its messages tell it to somebody who is not its launcher.

The launcher on a cluster's head writes a line of JSON a message; the log of its job is the whole
story, so that whoever comes later reads it from the first line and knows as much.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.journal import Event
from raysearch.search.study.plan import Plan, load_plan

Message = Mapping[str, Any]
# What every message line begins with; all else in a job's log is talk.
MARK = '{"raysearch": '


def phase_message(text: str) -> str:
    """The line that says where the study is."""
    return _line("phase", text)


def plan_message(plan: Plan) -> str:
    """The line that says what the study does."""
    return _line("plan", json.loads(plan.dump()))


def event_message(event: Event) -> str:
    """The line of an event of the journal."""
    return _line("event", event)


def end_message(outcome: Mapping[str, Any]) -> str:
    """The line that says how it ended."""
    return _line("end", outcome)


def read_message(line: str) -> tuple[str, Any] | None:
    """The kind and the content of a message's line; None for any other line."""
    if not line.startswith(MARK):
        return None
    try:
        message = json.loads(line)
        return message["raysearch"], message["is"]
    except (ValueError, KeyError):
        return None


def _line(kind: str, content: Any) -> str:
    return json.dumps({"raysearch": kind, "is": content}, separators=(", ", ": "))


class RemoteStudyView:
    """The plan and the history of a study that runs elsewhere."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.history = History()
        self.guard = threading.RLock()
        self.listeners: list[Callable[[Event], None]] = []
        self._next = 0

    def take(self, event: Event) -> None:
        """Take in `event`; one that is known already, as after a lost connection, is left out."""
        if event["n"] < self._next:
            return
        with self.guard:
            self._next = event["n"] + 1
            self.history.apply(event)
            for listener in self.listeners:
                listener(event)

    def whole(self, trial: Trial) -> int:
        """The fold-epochs after which `trial` is finished."""
        return self.plan.whole(trial.folds)


def mirror_of(plan: Mapping[str, Any]) -> RemoteStudyView:
    """The mirror of the study whose plan a message brought."""
    return RemoteStudyView(load_plan(json.dumps(plan).encode()))
