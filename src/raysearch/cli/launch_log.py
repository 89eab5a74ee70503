"""What a launch in another process has reported so far, by the lines that it prints."""

from __future__ import annotations

from raysearch.cli.live_table import LiveView
from raysearch.cli.study_end import StudyEnd
from raysearch.search.journal.codec import record_from_json
from raysearch.search.journal.events import Event
from raysearch.search.study.remote_view import (
    EndMessage,
    EventMessage,
    PlanMessage,
    ProgressMessage,
    RemoteStudyView,
    StatusMessage,
    read_message,
)
from raysearch.search.study.stored_study import StudySnapshot
from raysearch.selection.stored_intervals import Intervals

# The start of the line by which a command reports a UserError.
ERROR_START = "raysearch: "


class LaunchLog:
    """What the log of a launch has reported so far.

    Attributes:
        study: The study; None before it is open.
        events: The events of the study.
        outcome: How it ended; None before its end.
        error: The error that ended the launch; empty without one.
    """

    def __init__(self) -> None:
        self.study: RemoteStudyView | None = None
        self.events: list[Event] = []
        self.outcome: StudyEnd | None = None
        self.error = ""

    def read(self, line: str, view: LiveView | None = None) -> None:
        """Read the next line of the log; show it in `view`."""
        match read_message(line):
            case StatusMessage(text) if view is not None:
                view.on_status(text)
            case ProgressMessage(progress, reported_s) if view is not None:
                view.on_progress(progress, reported_s)
            case PlanMessage(plan):
                self.study, self.events = RemoteStudyView(plan), []
                if view is not None:
                    view.on_study(self.study)
            case EventMessage(event) if self.study is not None:
                if self.study.apply(event):
                    self.events.append(event)
            case EndMessage(outcome):
                self.outcome = record_from_json(StudyEnd, outcome)
            case None if line.startswith(ERROR_START):
                # Each error of a space is a line.
                self.error = f"{self.error}\n{line.removeprefix(ERROR_START)}".strip()
            case _:
                pass

    def snapshot(self) -> StudySnapshot | None:
        """Return the state of the study; None before it is open."""
        if self.study is None:
            return None
        return StudySnapshot(self.study.plan, self.events, self.study.history)

    def intervals(self) -> Intervals:
        """Return the intervals of the objectives, which are known at the end of the launch."""
        return {} if self.outcome is None else self.outcome.intervals
