"""A study's runs in MLflow, written from its journal's events by a thread of their own."""

from __future__ import annotations

import logging
import queue
import re
import threading
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)
from sqlalchemy.exc import SQLAlchemyError

from raysearch.errors import StudyError, without_passwords
from raysearch.scores.metrics import mean_of_all
from raysearch.search.journal import Event
from raysearch.search.plan import Plan
from raysearch.search.tracking.files import send_files

log = logging.getLogger(__name__)
DEFAULT_STORE = "sqlite:///mlflow.db"
RUN_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
ENDED = frozenset(RUN_STATUS.values())
# Between tries, while the store cannot be reached; the last one goes on until the study ends.
WAITS_S = (1.0, 2.0, 4.0, 8.0)
REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"})
SHOWN_KNOBS = ("architecture", "optimizer")


class Tracker:
    """Sends events to MLflow, off the search's loop; each may be sent again without harm.

    A run is found by its tags before one is made, a point is the same point when it is logged
    twice (same key, step, value and time), and a run whose status is an end has everything. So
    after a crash, the whole journal is sent again, and nothing appears twice. While the store
    cannot be reached, events wait: each is tried again until it is taken or refused.
    """

    def __init__(self, plan: Plan, store: str) -> None:
        self._plan, self.store = plan, store
        # It prints two lines for every run that ends, into the table.
        mlflow.environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
        self._runs: dict[str, str] = {}
        self._ended: set[str] = set()
        try:
            self.client = MlflowClient(tracking_uri=store, registry_uri=store)
            self.experiment = self._experiment()
            self._find_runs()
            self.parent = self._runs.get("study") or self._make_run("study", plan.name, "study", {})
            self.client.update_run(self.parent, "RUNNING")
        except (MlflowException, SQLAlchemyError, OSError) as fault:
            raise StudyError(
                f"the tracking store {store} cannot be used ({_brief(fault)}); put it right, or"
                " name another by MLFLOW_TRACKING_URI"
            ) from None
        self._fold_ends: dict[str, list[Mapping[str, float | None]]] = {}
        self._queue: queue.Queue[Event | None] = queue.Queue()
        self._fault: Exception | None = None  # of the last try
        self._refused: Exception | None = None  # of an event that was left out
        self._closing = threading.Event()
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

        After `timeout_s` it is given up: the journal has it all, and a resume sends it. It raises
        nothing: a study is not lost by its store.
        """
        self._closing.set()
        self._queue.put({"event": "close", "status": status})
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return TimeoutError(f"not all was sent within {timeout_s:g} s")
        return self._fault or self._refused

    def run_of(self, trial: str) -> str | None:
        """The id of the run of `trial`."""
        return self._runs.get(trial)

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            waits = iter(WAITS_S)
            while not self._taken(event):
                wait = next(waits, None)
                if wait is None and self._closing.is_set():
                    return
                self._closing.wait(WAITS_S[-1] if wait is None else wait)

    def _taken(self, event: Event) -> bool:
        """Whether `event` is dealt with: sent, or refused for what it is."""
        try:
            self._send(event)
        except Exception as fault:
            log.exception("MLflow did not take %s", event["event"])
            if not (isinstance(fault, MlflowException) and fault.error_code in REFUSALS):
                self._fault = fault
                return False
            self._refused = fault
        self._fault = None
        return True

    def _send(self, event: Event) -> None:
        trial = event.get("trial", "")
        if trial in self._ended:
            return
        match event["event"]:
            case "trial":
                self._start(event)
            case "report":
                self.client.log_batch(self._runs[trial], metrics=self._points(event))
            case "warning":
                self.client.set_tag(self._runs[trial], "warning", event["text"])
            case "end":
                tags = [RunTag("state", event["status"]), RunTag("reason", event["reason"])]
                self.client.log_batch(self._runs[trial], tags=tags)
                end = int(event["at"] * 1000)
                self.client.set_terminated(self._runs[trial], RUN_STATUS[event["status"]], end)
                self._ended.add(trial)
            case "champion":
                self.client.set_tag(self.parent, "champion", trial)
            case "files":
                send_files(self.client, self.parent, event["files"])
            case "close":
                self.client.set_terminated(self.parent, event["status"])

    def _start(self, event: Event) -> None:
        knobs = {name: event["knobs"][name] for name in SHOWN_KNOBS if name in event["knobs"]}
        name = " ".join([event["trial"], *map(str, knobs.values())])
        if event["kind"] != "trial":
            name = event["trial"]
        tags = {key: str(value) for key, value in knobs.items()}
        if event["kind"] == "trial":
            tags[MLFLOW_PARENT_RUN_ID] = self.parent
        start = int(event["at"] * 1000)
        run = self._runs.get(event["trial"]) or self._make_run(
            event["trial"], name, event["kind"], tags, start
        )
        params = {**event["knobs"], "trial_seed": event["seed"], "folds": event["folds"]}
        self.client.log_batch(
            run, params=[Param(name, str(value)) for name, value in params.items()]
        )

    def _make_run(
        self,
        trial: str,
        name: str,
        kind: str,
        tags: Mapping[str, str],
        start: int | None = None,
    ) -> str:
        plan = self._plan
        common = {
            MLFLOW_RUN_NAME: name,
            "raysearch.trial": trial,
            "raysearch.plan": plan.identity,
            "study": plan.name,
            "kind": kind,
            "seed": str(plan.space.seed),
            "data_hash": plan.fingerprint,
            "split_hash": ",".join(split.hash for split in plan.splits),
            MLFLOW_SOURCE_NAME: "raysearch launch",
            MLFLOW_SOURCE_TYPE: "JOB",
            MLFLOW_GIT_COMMIT: plan.git_commit,
        }
        run = self.client.create_run(self.experiment, start, {**common, **tags}, name)
        if kind == "study":
            rows = {key: value[:500] for key, value in plan.space.flat().items()}
            params = [Param(_plain(key), value) for key, value in rows.items()]
            self.client.log_batch(run.info.run_id, params=params)
        self._runs[trial] = str(run.info.run_id)
        return self._runs[trial]

    def _points(self, event: Event) -> list[Metric]:
        at, epochs = int(event["at"] * 1000), self._plan.space.epochs
        fold, epoch = event["fold"], event["epoch"]
        points = {"objective": event["objective"], "train_loss": event["loss"]}
        metrics: Mapping[str, float | None] = event["metrics"]
        in_fold = {f"fold_{fold}/{name}": value for name, value in metrics.items()}
        in_fold[f"fold_{fold}/train_loss"] = event["loss"]
        if epoch % epochs == 0:
            ends = self._fold_ends.setdefault(event["trial"], [])
            ends.append(metrics)
            points |= {name: mean_of_all([end[name] for end in ends]) for name in metrics}
            points["folds_done"] = len(ends)
            points["train_seconds"] = event["seconds"]
        return [
            Metric(_plain(name), value, at, step)
            for group, step in ((points, epoch), (in_fold, epoch - fold * epochs))
            for name, value in group.items()
            if value is not None
        ]

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self._plan.name)
        if found is None:
            return str(self.client.create_experiment(self._plan.name))
        if found.lifecycle_stage != "active":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _find_runs(self) -> None:
        token: str | None = None
        query = f"tags.`raysearch.plan` = '{self._plan.identity}'"
        while True:
            page = self.client.search_runs(
                [self.experiment], query, max_results=1000, page_token=token
            )
            for run in page:
                self._known(run)
            token = page.token
            if not token:
                return

    def _known(self, run: Run) -> None:
        trial = run.data.tags["raysearch.trial"]
        self._runs[trial] = run.info.run_id
        if run.info.status in ENDED and run.data.tags["kind"] != "study":
            self._ended.add(trial)


def store_fault(store: str) -> str:
    """Why the tracking store cannot be used from here, login included; empty where it can."""
    known = mlflow.environment_variables
    asked = {known.MLFLOW_HTTP_REQUEST_MAX_RETRIES: 1, known.MLFLOW_HTTP_REQUEST_TIMEOUT: 10}
    before = {name: name.get_raw() for name in asked}
    for name, value in asked.items():
        name.set(value)
    try:
        MlflowClient(tracking_uri=store).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as fault:
        return without_passwords(_brief(fault))
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


def _brief(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0][:200]


def _plain(name: str) -> str:
    return re.sub(r"[^\w ./-]", "_", name)
