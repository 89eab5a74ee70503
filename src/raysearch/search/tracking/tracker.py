"""A study's runs in MLflow, written from its journal's events by a thread of their own."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from raysearch.errors import StudyError, without_passwords
from raysearch.search.journal.journal import Event
from raysearch.search.study.plan import Plan
from raysearch.search.tracking.artifacts import send_files
from raysearch.search.tracking.log_batches import LogBatch, TrialLogBatches
from raysearch.search.tracking.study_runs import STUDY, StudyRuns

log = logging.getLogger(__name__)
DEFAULT_STORE = "sqlite:///mlflow.db"
# Between tries, while the store cannot be reached; the last one goes on until the study ends.
WAITS_S = (1.0, 2.0, 4.0, 8.0)
# What happens within this of a first event goes by the same requests: a report and its pause, say.
JOIN_S = 0.5
# MLflow takes this many points, parameters and tags a request.
MOST = 1000


class Tracker:
    """Sends events to MLflow, off the search's loop; each may be sent again without harm.

    A run is found by its tags before one is made, a point is the same point when it is logged
    twice (same key, step, value and time), and a run whose status is an end has everything. So
    after a crash, the whole journal is sent again, and nothing appears twice. While the store
    is slow or cannot be reached, events wait, and those of one run then go by one request; what
    waits are the very events that the journal holds, so there is no second copy of them.
    """

    def __init__(self, plan: Plan, store: str) -> None:
        self._epochs, self.store = plan.space.epochs, store
        # It prints two lines for every run that ends, into the table.
        mlflow.environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
        try:
            self.client = MlflowClient(tracking_uri=store, registry_uri=store)
            self._runs = StudyRuns(plan, self.client)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise StudyError(
                f"the tracking store {store} cannot be used ({_brief(error)}); put it right, or"
                " name another by MLFLOW_TRACKING_URI"
            ) from None
        self.parent = self._runs.parent
        self._waiting: dict[str, _Waiting] = {}
        # The runs that something waits for, the longest waiting first.
        self._due: dict[str, None] = {}
        self._queue: queue.Queue[Event] = queue.Queue()
        self._error: Exception | None = None  # of the last try
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def send(self, event: Event) -> None:
        """Queue the journal's `event`; returns at once."""
        self._queue.put(event)

    def attach(self, files: Mapping[str, bytes]) -> None:
        """Queue `files` of the study as a whole, by their names; returns at once."""
        self._queue.put({"event": "files", "files": files})

    def close(self, status: str, timeout_s: float | None = None) -> Exception | None:
        """Send what is queued, end the parent run with `status`; what failed, if anything did.

        After `timeout_s` it is given up, without one never: the journal has it all, and a resume
        sends it. It raises nothing: a study is not lost by its store.
        """
        self._queue.put({"event": "close", "status": status})
        self._closing.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._given_up.set()
            return self._error or TimeoutError(f"not all was sent within {timeout_s:g} s")
        return self._runs.rejected

    def run_of(self, trial: str) -> str | None:
        """The id of the run of `trial`."""
        return self._runs.of(trial)

    def _work(self) -> None:
        waits = iter(WAITS_S)
        while (self._due or not self._closed) and not self._given_up.is_set():
            self._take_in()
            if self._forwarded():
                waits = iter(WAITS_S)
                continue
            # A close is worth a try at once; after it, only giving up ends a wait.
            pause = self._given_up if self._closing.is_set() else self._closing
            pause.wait(next(waits, WAITS_S[-1]))

    def _take_in(self) -> None:
        """Take in what is queued; where nothing is due, wait for it."""
        if not self._due and not self._closed:
            self._note(self._queue.get())
            self._closing.wait(JOIN_S)
        with suppress(queue.Empty):
            while True:
                self._note(self._queue.get_nowait())

    def _note(self, event: Event) -> None:
        kind = event["event"]
        name = STUDY if kind in ("champion", "files", "close") else event.get("trial")
        if name is None or name in self._runs.over:
            return
        if kind == "close":
            self._closed = True
            self._due.pop(name, None)  # after all others
        self._due.setdefault(name)
        if name not in self._waiting:
            self._waiting[name] = _Waiting(self._epochs)
        self._waiting[name].add(event)

    def _forwarded(self) -> bool:
        """Whether the store took what waits longest, where anything does."""
        name = next(iter(self._due), None)
        if name is None:
            return True
        try:
            self._forward(name, self._waiting[name])
        except Exception as error:
            log.warning("MLflow did not take %s: %s", name, error, exc_info=not self._error)
            self._error = error
            return False
        self._error = None
        del self._due[name]
        if name in self._runs.over:
            del self._waiting[name]
        return True

    def _forward(self, name: str, waiting: _Waiting) -> None:
        if waiting.begin is not None:
            self._runs.begin(waiting.begin)
            waiting.begin = None
        for pieces in waiting.batches():
            self._runs.add(name, pieces)
        if waiting.files:
            send_files(self.client, self.parent, waiting.files)
            waiting.files = {}
        if waiting.end is None:
            return
        if name == STUDY:
            self._runs.close(waiting.end["status"])
        else:
            self._runs.end(name, waiting.end)


class _Waiting:
    """What waits for one run, in the order in which it happened."""

    def __init__(self, epochs: int) -> None:
        self.begin: Event | None = None
        self.end: Event | None = None
        self.files: Mapping[str, bytes] = {}
        self._events: deque[Event] = deque()
        self._pieces: list[LogBatch] = []
        self._trial = TrialLogBatches(epochs)

    def add(self, event: Event) -> None:
        """Let `event` wait behind what waits already."""
        if event["event"] == "files":
            self.files = event["files"]
            return
        if event["event"] == "trial":
            self.begin = event
        elif event["event"] in ("end", "close"):
            self.end = event
        self._events.append(event)

    def batches(self) -> Iterator[list[LogBatch]]:
        """What waits, as much at a time as one request holds; it waits until the next is asked for.

        An event is turned into its piece once, however often that is sent.
        """
        while self._events or self._pieces:
            size = sum(piece.size for piece in self._pieces)
            while self._events and size < MOST:
                self._pieces.append(self._trial.of(self._events.popleft()))
                size += self._pieces[-1].size
            # What goes beyond the limit with the last of them waits for the next.
            whole = len(self._pieces) - (size > MOST and len(self._pieces) > 1)
            yield self._pieces[:whole]
            del self._pieces[:whole]


def store_error(store: str) -> str:
    """Why the tracking store cannot be used from here, login included; empty where it can."""
    known = mlflow.environment_variables
    asked = {known.MLFLOW_HTTP_REQUEST_MAX_RETRIES: 1, known.MLFLOW_HTTP_REQUEST_TIMEOUT: 10}
    before = {name: name.get_raw() for name in asked}
    for name, value in asked.items():
        name.set(value)
    try:
        MlflowClient(tracking_uri=store).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        return without_passwords(_brief(error))
    finally:
        for name, value in before.items():
            name.unset() if value is None else name.set(value)
    return ""


def default_store() -> str:
    """The tracking store: MLFLOW_TRACKING_URI, or `mlflow.db` in the working directory.

    A server's address is given back without the login that is in it, which MLflow would print with
    the address of every run; this process logs in with it all the same.
    """
    known = mlflow.environment_variables
    store = str(known.MLFLOW_TRACKING_URI.get() or DEFAULT_STORE)
    parts = urlsplit(store)
    if parts.scheme not in ("http", "https") or parts.password is None:
        return store
    known.MLFLOW_TRACKING_USERNAME.set(unquote(parts.username or ""))
    known.MLFLOW_TRACKING_PASSWORD.set(unquote(parts.password))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
