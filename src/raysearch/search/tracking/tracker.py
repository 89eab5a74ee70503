"""Sends a study's events to MLflow from a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import mlflow
from mlflow.tracking import MlflowClient

from raysearch.errors import StudyError, first_line
from raysearch.search.journal.events import (
    ChampionSelected,
    Event,
    StudyLaunched,
    TrialEnded,
    TrialsExtended,
    TrialStarted,
)
from raysearch.search.study.plan import Plan
from raysearch.search.tracking.log_batches import LogBatch, TrialLogBatches
from raysearch.search.tracking.parent_run import log_files
from raysearch.search.tracking.study_runs import STUDY, StudyRuns
from raysearch.search.tracking.tracking_store import STORE_ERRORS

log = logging.getLogger(__name__)
# Seconds between the attempts while the store is unreachable; the last one repeats.
RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0)
# Events within this time of the first one share its requests, such as a report and its pause.
COLLECT_S = 0.5
# MLflow accepts this many metrics, parameters and tags in a request.
MAX_BATCH_SIZE = 1000


@dataclass(frozen=True)
class _LogFiles:
    """A request to log files to the parent run."""

    files: Mapping[str, bytes]


@dataclass(frozen=True)
class _Close:
    """A request to end the parent run with an MLflow status."""

    status: str


_Request = Event | _LogFiles | _Close


class Tracker:
    """Sends events to MLflow outside the search's loop; sending an event twice changes nothing.

    A run is searched by its tags before it is created. A metric that is logged twice with the same
    name, step, value and time is stored once. A run with a final status is complete. Therefore the
    whole journal is sent again after a crash, and nothing is duplicated. While the store is slow or
    unreachable, events wait, and the events of one run then share a request. The waiting events are
    those of the journal, so there is no second copy of them.

    Args:
        plan: The study's plan.
        store: The tracking store.

    Raises:
        StudyError: If the store cannot be used.
    """

    def __init__(self, plan: Plan, store: str) -> None:
        self._epochs, self.store = plan.space.epochs, store
        # MLflow would print two lines into the live table for every run that ends.
        mlflow.environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
        try:
            self.client = MlflowClient(tracking_uri=store, registry_uri=store)
            self._runs = StudyRuns(plan, self.client)
        except STORE_ERRORS as error:
            raise StudyError(
                f"the tracking store {store} cannot be used ({first_line(error)}); fix it, or set"
                " MLFLOW_TRACKING_URI to another store"
            ) from None
        self.parent_run_id = self._runs.parent_id
        self._pending: dict[str, _PendingRun] = {}
        # The runs with pending events, the longest waiting first.
        self._due: dict[str, None] = {}
        self._queue: queue.Queue[_Request] = queue.Queue()
        self._error: Exception | None = None  # of the last attempt
        self._closing, self._abandoned = threading.Event(), threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def send(self, event: Event) -> None:
        """Queue an event of the journal; return at once."""
        self._queue.put(event)

    def send_files(self, files: Mapping[str, bytes]) -> None:
        """Queue files of the parent run, by their names; return at once."""
        self._queue.put(_LogFiles(files))

    def close(self, status: str, timeout_s: float | None = None) -> Exception | None:
        """Send what is queued, then end the parent run with `status`.

        After `timeout_s` the rest is abandoned: the journal has it, and a resumed study sends it.
        The method raises nothing, because a study must not fail by its store.

        Returns:
            The error if something was not sent or was rejected.
        """
        self._queue.put(_Close(status))
        self._closing.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._abandoned.set()
            return self._error or TimeoutError(f"not everything was sent within {timeout_s:g} s")
        return self._runs.rejection

    def run_id(self, trial: str) -> str | None:
        """Return the id of the run of `trial`."""
        return self._runs.run_id(trial)

    def _work(self) -> None:
        delays = iter(RETRY_DELAYS_S)
        while (self._due or not self._closed) and not self._abandoned.is_set():
            self._collect()
            if self._send_longest_waiting():
                delays = iter(RETRY_DELAYS_S)
                continue
            # The first close triggers an attempt at once; then only an abandonment ends a delay.
            wake_up = self._abandoned if self._closing.is_set() else self._closing
            wake_up.wait(next(delays, RETRY_DELAYS_S[-1]))

    def _collect(self) -> None:
        """Assign what is queued to its runs; if no run is due, wait for a request."""
        if not self._due and not self._closed:
            self._assign(self._queue.get())
            self._closing.wait(COLLECT_S)
        with suppress(queue.Empty):
            while True:
                self._assign(self._queue.get_nowait())

    def _assign(self, request: _Request) -> None:
        name = _run_name(request)
        if name is None or name in self._runs.closed:
            return
        if isinstance(request, _Close):
            self._closed = True
            self._due.pop(name, None)  # after all others
        self._due.setdefault(name)
        if name not in self._pending:
            self._pending[name] = _PendingRun(self._epochs)
        self._pending[name].add(request)

    def _send_longest_waiting(self) -> bool:
        """Send what waits longest; return False if the store did not accept it."""
        name = next(iter(self._due), None)
        if name is None:
            return True
        try:
            self._send_run(name, self._pending[name])
        except Exception as error:
            log.warning("MLflow did not accept %s: %s", name, error, exc_info=not self._error)
            self._error = error
            return False
        self._error = None
        del self._due[name]
        if name in self._runs.closed:
            del self._pending[name]
        return True

    def _send_run(self, name: str, pending: _PendingRun) -> None:
        if pending.start is not None:
            self._runs.start(pending.start)
            pending.start = None
        for batches in pending.batches():
            self._runs.log(name, batches)
        if pending.files:
            log_files(self.client, self.parent_run_id, pending.files)
            pending.files = {}
        if pending.close is not None:
            self._runs.close(pending.close.status)
        if pending.end is not None:
            self._runs.end(pending.end)


def _run_name(request: _Request) -> str | None:
    """Return the name of the run that a request belongs to; None for an event without one."""
    match request:
        case ChampionSelected() | _LogFiles() | _Close():
            return STUDY
        case StudyLaunched() | TrialsExtended():
            return None
        case _:
            return request.trial


class _PendingRun:
    """What waits for one run, in the order of the events.

    Args:
        epochs: Epochs of a fold.
    """

    def __init__(self, epochs: int) -> None:
        self.start: TrialStarted | None = None
        self.end: TrialEnded | None = None
        self.close: _Close | None = None
        self.files: Mapping[str, bytes] = {}
        self._events: deque[Event] = deque()
        self._batches: list[LogBatch] = []
        self._converter = TrialLogBatches(epochs)

    def add(self, request: _Request) -> None:
        """Append a request to what waits."""
        match request:
            case _LogFiles():
                self.files = request.files
                return
            case _Close():
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
