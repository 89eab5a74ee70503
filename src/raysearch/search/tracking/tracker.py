"""Sends a study's events to MLflow from a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress

import mlflow

from raysearch.errors import StudyError, without_passwords
from raysearch.search.journal.events import (
    Event,
)
from raysearch.search.study.plan import Plan
from raysearch.search.tracking.pending_run import (
    Close,
    LogFiles,
    LogSummary,
    PendingRun,
    Request,
    run_name,
)
from raysearch.search.tracking.store_errors import store_error_text
from raysearch.search.tracking.study_runs import RUN_STATUS, StudyRuns
from raysearch.search.tracking.study_summary import (
    StudySummary,
    SummaryInterruptedError,
    log_files,
    log_summary,
)
from raysearch.search.tracking.study_view import searched_hparams, study_page
from raysearch.search.tracking.tracking_store import (
    STORE_ERRORS,
    connect,
    restrict_artifacts,
    restrict_local_store,
    store_problem,
)

log = logging.getLogger(__name__)
# Seconds between the attempts while the store is unreachable; the last one repeats.
RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0)
# Events within this time of the first one share its requests, such as a report and its pause.
COLLECT_S = 0.5
# After an interrupt while the runs are opened, the store gets so many seconds to end them.
ABANDON_TIMEOUT_S = 15.0
# While the store accepts requests, an interrupted launch waits so many times its timeout.
MAX_INTERRUPT_WAITS = 3


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
        interrupt_status: The status of the parent run if an interrupt ends the constructor.
        command: The command that launched the study; empty if it is unknown.

    Raises:
        StudyError: If the store cannot be used.
    """

    def __init__(
        self,
        plan: Plan,
        store: str,
        interrupt_status: str = RUN_STATUS["stopped"],
        command: str = "",
    ) -> None:
        self._epochs, self.store = plan.space.epochs, store
        self._searched = frozenset(searched_hparams(plan))
        # MLflow would print two lines into the live table for every run that ends.
        mlflow.environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
        restrict_local_store(store)
        try:
            self.client = connect(store)
            self._runs = StudyRuns(plan, self.client, command)
            self._open_runs(interrupt_status)
        except STORE_ERRORS as error:
            raise StudyError(store_problem(store, store_error_text(error, store))) from None
        self._pending: dict[str, PendingRun] = {}
        # The runs with pending events, the longest waiting first.
        self._due: dict[str, None] = {}
        self._queue: queue.Queue[Request] = queue.Queue()
        self._error: Exception | None = None  # of the last attempt
        self._closing, self._abandoned = threading.Event(), threading.Event()
        self._interrupted = threading.Event()
        self._closed = False
        # An interrupted `Thread.join` of Python 3.11 takes the thread for ended.
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    @property
    def parent_run_id(self) -> str:
        """The id of the parent run."""
        return self._runs.parent_id

    @property
    def comparison(self) -> str:
        """The address of the page that compares the trials; empty if the store is no server."""
        is_server = self.store.startswith("http")
        return study_page(self.store.rstrip("/"), self._runs.experiment_id) if is_server else ""

    def send(self, event: Event) -> None:
        """Queue an event of the journal; return at once."""
        self._queue.put(event)

    def send_files(self, files: Mapping[str, bytes]) -> None:
        """Queue files of the parent run, by their names; return at once."""
        self._queue.put(LogFiles(files))

    def send_summary(self, summary: StudySummary) -> None:
        """Queue the summary of an ended study; return at once."""
        self._queue.put(LogSummary(summary))

    def close(self, status: str, timeout_s: float | None = None) -> Exception | None:
        """Send what is queued, then end the parent run with `status`.

        After `timeout_s` the rest is abandoned: the journal has it, and a resumed study sends it.
        The method raises nothing, because a study must not fail by its store.

        Returns:
            The error if something was not sent or was rejected.
        """
        self._queue.put(Close(status))
        self._closing.set()
        return self._await_end(timeout_s, 1)

    def interrupt(self, status: str, timeout_s: float) -> Exception | None:
        """End the open runs before anything else is sent, the parent run with `status`.

        Then the queued events of ended trials are sent; those of others are left out, because a
        resumed study sends them. The method waits for `timeout_s`, and longer while runs are ended.

        Returns:
            The error if not all runs were ended.
        """
        self._queue.put(Close(status, at_once=True))
        self._interrupted.set()
        self._closing.set()
        return self._await_end(timeout_s, MAX_INTERRUPT_WAITS)

    def _await_end(self, timeout_s: float | None, max_waits: int) -> Exception | None:
        """Wait for the thread's end; return the error if it does not come, or of what was sent."""
        if self._await(self._ended, timeout_s, max_waits):
            restrict_artifacts(self.store, self._runs.experiment_id)
            return self._runs.rejection
        self._abandoned.set()
        return self._error or TimeoutError(f"not everything was sent within {timeout_s:g} s")

    def _await(self, end: threading.Event, timeout_s: float | None, max_waits: int) -> bool:
        """Wait for `end`, again after each timeout within which a run was ended."""
        for _wait in range(max_waits):
            num_closed = self._runs.num_closed
            if end.wait(timeout_s):
                return True
            if self._runs.num_closed == num_closed:
                break
        return False

    def run_id(self, trial: str) -> str | None:
        """Return the id of the run of `trial`."""
        return self._runs.run_id(trial)

    def restore_parent(self) -> None:
        """Restore the parent run and the experiment if somebody deleted them.

        Raises:
            MlflowException: If the store does not accept it.
        """
        self._runs.restore_parent()

    def _open_runs(self, interrupt_status: str) -> None:
        try:
            self._runs.open()
        except BaseException:
            end = threading.Event()

            def abandon() -> None:
                self._runs.abandon(interrupt_status)
                end.set()

            threading.Thread(target=abandon, name="abandon", daemon=True).start()
            self._await(end, ABANDON_TIMEOUT_S, MAX_INTERRUPT_WAITS)
            raise

    def _work(self) -> None:
        try:
            self._send_until_closed()
        finally:
            self._ended.set()

    def _send_until_closed(self) -> None:
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

    def _assign(self, request: Request) -> None:
        name = run_name(request)
        if name is None or name in self._runs.closed:
            return
        if isinstance(request, Close):
            self._closed = True
            self._due.pop(name, None)  # after all others
        self._due.setdefault(name)
        if name not in self._pending:
            self._pending[name] = PendingRun(self._epochs, self._searched)
        self._pending[name].add(request)
        if isinstance(request, Close) and request.at_once:
            self._due = {name: None, **dict.fromkeys(filter(self._is_ended, self._due))}

    def _is_ended(self, name: str) -> bool:
        """Return whether a trial has ended and has a run."""
        return self._pending[name].end is not None and self._runs.run_id(name) is not None

    def _send_longest_waiting(self) -> bool:
        """Send what waits longest; return False if the store did not accept it."""
        name = next(iter(self._due), None)
        if name is None:
            return True
        try:
            self._send_run(name, self._pending[name])
        except SummaryInterruptedError:
            return True  # the interrupt is queued
        except Exception as error:
            # Each error is logged once; exceptions of libraries may repeat the store's address.
            if str(error) != str(self._error):
                text = str(error) if self._error else traceback.format_exc()
                log.warning("MLflow did not accept %s: %s", name, without_passwords(text))
            self._error = error
            return False
        self._error = None
        del self._due[name]
        if name in self._runs.closed:
            del self._pending[name]
        return True

    def _send_run(self, name: str, pending: PendingRun) -> None:
        if pending.close is not None and pending.close.at_once:
            self._runs.interrupt(pending.close.status)
            # A resumed study sends its summary again.
            pending.close = pending.summary = None
        if pending.start is not None:
            self._runs.start(pending.start)
            pending.start = None
        for batches in pending.batches():
            self._runs.log(name, batches)
        if pending.files or pending.summary:
            self._runs.restore_parent()
        if pending.files:
            log_files(self.client, self.parent_run_id, pending.files)
            pending.files = {}
        if pending.summary is not None:
            log_summary(self.client, self._runs, pending.summary, self._interrupted.is_set)
            pending.summary = None
        if pending.close is not None:
            self._runs.close(pending.close.status)
        if pending.end is not None:
            self._runs.end(pending.end)
