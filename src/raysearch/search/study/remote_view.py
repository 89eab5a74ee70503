"""A study that runs elsewhere, followed by the messages that its launcher prints.

The launcher on a cluster's head prints a line of JSON per message. The log of its job contains all
of them, so that a reader who joins later still rebuilds the whole study.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raysearch.config.json_values import parse_json
from raysearch.data.step_progress import StepProgress
from raysearch.errors import StudyError
from raysearch.search.journal.codec import (
    event_from_json,
    event_to_json,
    record_from_json,
    record_to_json,
)
from raysearch.search.journal.events import Event
from raysearch.search.journal.history import History, Trial, total_fold_epochs
from raysearch.search.study.plan import Plan, load_plan

# The start of every message line; the other lines of a job's log are no messages.
LINE_START = '{"raysearch": '


@dataclass(frozen=True)
class StatusMessage:
    """What the launcher is doing, in a few words."""

    text: str


@dataclass(frozen=True)
class ProgressMessage:
    """How far a long step of the launcher is.

    Args:
        progress: How far it is.
        time: Seconds since the epoch, by the clock of the launcher.
    """

    progress: StepProgress
    time: float


@dataclass(frozen=True)
class PlanMessage:
    """The plan of the study, before its first event."""

    plan: Plan


@dataclass(frozen=True)
class EventMessage:
    """An event of the study's journal."""

    event: Event


@dataclass(frozen=True)
class EndMessage:
    """How the study ended, as JSON values."""

    outcome: Any


Message = StatusMessage | ProgressMessage | PlanMessage | EventMessage | EndMessage


def _read_plan(content: Any) -> PlanMessage:
    return PlanMessage(load_plan(json.dumps(content).encode()))


READERS: Mapping[str, Callable[[Any], Message]] = {
    "status": StatusMessage,
    "progress": lambda content: record_from_json(ProgressMessage, content),
    "plan": _read_plan,
    "event": lambda content: EventMessage(event_from_json(content)),
    "end": EndMessage,
}


def write_message(message: Message) -> str:
    """Convert `message` to its line."""
    content: Any
    match message:
        case StatusMessage(text):
            kind, content = "status", text
        case ProgressMessage():
            kind, content = "progress", record_to_json(message)
        case PlanMessage(plan):
            kind, content = "plan", json.loads(plan.dump())
        case EventMessage(event):
            kind, content = "event", event_to_json(event)
        case EndMessage(outcome):
            kind, content = "end", record_to_json(outcome)
    return json.dumps({"raysearch": kind, "content": content}, separators=(", ", ": "))


def read_message(line: str) -> Message | None:
    """Convert a line of a job's log to its message; None if it contains none.

    Raises:
        StudyError: If another version of raysearch has written the message.
    """
    if not line.startswith(LINE_START):
        return None
    try:
        fields = parse_json(line)
        if not isinstance(fields, dict):
            return None
        return READERS[fields["raysearch"]](fields["content"])
    except (ValueError, KeyError, TypeError):
        return None
    except StudyError as error:
        raise StudyError(
            f"a message of the launch cannot be read ({error}); use the version of raysearch that"
            " runs on the cluster"
        ) from None


class RemoteStudyView:
    """The plan and the history of a study that runs elsewhere.

    Attributes:
        lock: Held while the history changes.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.history = History()
        self.lock = threading.RLock()
        self._listeners: list[Callable[[Event], None]] = []
        self._next_number = 0

    def add_listener(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with each further event."""
        self._listeners.append(listener)

    def apply(self, event: Event) -> bool:
        """Update the history by `event`; a repeated one, as after a reconnection, is ignored.

        Returns:
            Whether the event is a new one.
        """
        if event.number < self._next_number:
            return False
        with self.lock:
            self._next_number = event.number + 1
            self.history.apply(event)
            for listener in self._listeners:
                listener(event)
        return True

    def total_fold_epochs(self, trial: Trial) -> int:
        """The fold-epochs after which `trial` is finished."""
        return total_fold_epochs(self.plan.space, trial)
