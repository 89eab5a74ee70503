"""What waits to be sent to one MLflow run."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from raysearch.search.journal.events import (
    ChampionSelected,
    Event,
    StudyLaunched,
    TrialEnded,
    TrialSelected,
    TrialsExtended,
    TrialStarted,
    ValueExcluded,
)
from raysearch.search.tracking.log_batches import LogBatch, TrialLogBatches
from raysearch.search.tracking.study_runs import STUDY
from raysearch.search.tracking.study_summary import StudySummary

# MLflow accepts this many metrics, parameters and tags in a request.
MAX_BATCH_SIZE = 1000


@dataclass(frozen=True)
class LogFiles:
    """A request to log files to the parent run."""

    files: Mapping[str, bytes]


@dataclass(frozen=True)
class LogSummary:
    """A request to log how the study ended, to its parent run, its trials and the experiment."""

    summary: StudySummary


@dataclass(frozen=True)
class Close:
    """A request to end the parent run with an MLflow status; `at_once` if before all others."""

    status: str
    at_once: bool = False


Request = Event | LogFiles | LogSummary | Close


def run_name(request: Request) -> str | None:
    """Return the name of the run that a request belongs to; None for an event without one."""
    match request:
        case ChampionSelected() | LogFiles() | LogSummary() | Close():
            return STUDY
        case StudyLaunched() | TrialsExtended() | ValueExcluded() | TrialSelected():
            return None
        case _:
            return request.trial


class PendingRun:
    """What waits for one run, in the order of the events.

    Args:
        epochs: Epochs of a fold.
        searched: The hyperparameters that differ between trials.
    """

    def __init__(self, epochs: int, searched: Collection[str]) -> None:
        self.start: TrialStarted | None = None
        self.end: TrialEnded | None = None
        self.close: Close | None = None
        self.files: Mapping[str, bytes] = {}
        self.summary: StudySummary | None = None
        self._events: deque[Event] = deque()
        self._batches: list[LogBatch] = []
        self._converter = TrialLogBatches(epochs, searched)

    def add(self, request: Request) -> None:
        """Append a request to what waits."""
        match request:
            case LogFiles():
                self.files = request.files
                return
            case LogSummary():
                self.summary = request.summary
                return
            case Close():
                self.close = request
                return
            case TrialStarted():
                self.start = request
            case TrialEnded():
                self.end = request
            case _:
                pass
        self._events.append(request)

    def batches(self) -> Iterator[list[LogBatch]]:
        """Yield what waits, as much at once as a request accepts.

        Batches are removed when the caller asks for the next ones, so that a failed request is
        repeated with the same batches. Each event is converted once.
        """
        while self._events or self._batches:
            size = sum(batch.size for batch in self._batches)
            while self._events and size < MAX_BATCH_SIZE:
                self._batches.append(self._converter.convert(self._events.popleft()))
                size += self._batches[-1].size
            # If the last batch exceeds the limit, it waits for the next request.
            count = len(self._batches) - (size > MAX_BATCH_SIZE and len(self._batches) > 1)
            yield self._batches[:count]
            del self._batches[:count]
