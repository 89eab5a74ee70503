"""Creates the MLflow runs of a study, or finds them again by their tags."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from mlflow.entities import Param, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)

from raysearch.config.hyperparameters import resolve
from raysearch.data.pseudonyms import without_folders
from raysearch.errors import without_passwords
from raysearch.search.journal.events import TrialEnded, TrialStarted
from raysearch.search.journal.history import MAJORITY
from raysearch.search.study.plan import Plan
from raysearch.search.tracking.log_batches import LogBatch, merge_batches, mlflow_name
from raysearch.search.tracking.study_summary import COMMAND, command_lines
from raysearch.search.tracking.study_view import study_page, view_tags
from raysearch.search.tracking.tracking_store import lifecycle_stage

log = logging.getLogger(__name__)
RUN_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
END_STATUSES = frozenset(RUN_STATUS.values())
# The statuses of a run without an end, and its tag `state` after the launcher has ended.
OPEN_STATUSES = frozenset({"RUNNING", "SCHEDULED"})
INTERRUPTED = "interrupted"
REJECTIONS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"})
ACTIVE = "active"
# These hyperparameters are in the name of a trial's run, and among its tags.
SHOWN_HPARAMS = ("architecture", "optimizer")
# The name of the parent run among the runs of the trials.
STUDY = "study"
MAX_PARAM_CHARACTERS = 500
# MLflow returns this many runs at once.
PAGE_SIZE = 1000


class StudyRuns:
    """One run for each trial below the study's parent run; every method may be repeated.

    Content that MLflow rejects as invalid is left out, and `rejection` keeps the error. Every other
    error is raised.

    If somebody deletes the experiment or the parent run, they are restored, or created again, by
    one thread at a time. The deleted run of a trial is left out, until a resumed study creates it
    again.

    While a launcher runs the study, the runs of its unfinished trials are RUNNING. When the
    launcher ends, `close` ends them too, with the tag `state` at `interrupted`.

    Args:
        plan: The study's plan.
        client: The client of the tracking store.
        command: The command that launched the study; empty if it is unknown.
    """

    def __init__(self, plan: Plan, client: MlflowClient, command: str = "") -> None:
        self._plan, self._client, self._command = plan, client, command
        self.name = plan.name
        self._run_ids: dict[str, str] = {}
        # Trials whose run is complete in MLflow, or was rejected by it.
        self.closed: set[str] = set()
        self.rejection: Exception | None = None
        # Trials whose run somebody deleted, which are among `closed`, too.
        self._deleted: set[str] = set()
        # Trials whose run may exist although the request to create it failed.
        self._attempted: set[str] = set()
        self.experiment_id = self.parent_id = ""
        self._interrupted: set[str] = set()
        # The number of runs that `interrupt`, `close` and `abandon` have ended.
        self.num_closed = 0
        self._restoring = threading.Lock()
        self._num_restored = 0

    def open(self) -> None:
        """Find the runs of earlier launches, and set those of unfinished trials to RUNNING."""
        self.experiment_id = self._find_or_create_experiment(self._plan.name)
        ended = []
        for run in self._search():
            self._register(run)
            if run.info.status not in OPEN_STATUSES:
                ended.append(run.info.run_id)
        self.parent_id = self._run_ids.get(STUDY) or self._create_parent()
        self._set_view()
        for name, run_id in self._run_ids.items():
            if name not in self.closed and run_id in ended:
                self._client.update_run(run_id, "RUNNING")

    def run_id(self, trial: str) -> str | None:
        """Return the id of the run of `trial`."""
        return self._run_ids.get(trial)

    def start(self, event: TrialStarted) -> None:
        """Create the run of the trial that starts, unless it exists."""
        trial = event.trial
        if trial in self._attempted and trial not in self._run_ids:
            for run in self._search(f" and tags.`raysearch.trial` = '{trial}'"):
                self._register(run)
        if trial in self._run_ids:
            return
        shown = {name: event.hparams[name] for name in SHOWN_HPARAMS if name in event.hparams}
        tags = {"kind": event.kind, "state": "running"}
        name = " ".join([trial, *map(str, shown.values())]) if event.kind == "trial" else trial
        if trial != MAJORITY:
            tags |= {name: str(getattr(resolve(event.hparams), name)) for name in SHOWN_HPARAMS}
        try:
            self._restored(trial, lambda: self._create(trial, name, tags, int(event.time * 1000)))
        except MlflowException as error:
            if not self._is_rejection(error):
                raise
            self.closed.add(trial)

    def log(self, trial: str, batches: Sequence[LogBatch]) -> None:
        """Log `batches` to the run of `trial` by one request; one by one if MLflow rejects that."""
        merged = merge_batches(batches)
        if not merged.size or trial in self.closed:
            return
        try:
            self._restored(
                trial, lambda: self._client.log_batch(self._run_ids[trial], **merged.arguments())
            )
        except MlflowException as error:
            if trial in self._deleted:
                return
            if not self._is_rejection(error):
                raise
            if len(batches) > 1:
                for batch in batches:
                    self.log(trial, [batch])

    def update(self, trial: str, send: Callable[[str], None]) -> None:
        """Send a request for the run of `trial`, which may be complete; a deleted one is left out.

        Args:
            trial: The trial; nothing is sent if it has no run.
            send: Called with the id of the run.
        """
        if trial not in self._run_ids or trial in self._deleted:
            return
        try:
            self._restored(trial, lambda: send(self._run_ids[trial]))
        except MlflowException as error:
            if trial not in self._deleted and not self._is_rejection(error):
                raise

    def end(self, event: TrialEnded) -> None:
        """Set the status and the end time of the run of the trial that ended."""
        if event.trial not in self.closed:
            self._terminate(event.trial, RUN_STATUS[event.status], int(event.time * 1000))
            self.closed.add(event.trial)

    def close(self, status: str) -> None:
        """End the parent run with `status`, and the runs of trials that have not ended as KILLED.

        Empty duplicates of runs are deleted. If the answer to a request is lost, the request is
        sent again, also by MLflow's client. If it creates a run, there are two runs then, and one
        remains empty.
        """
        if self.parent_id:
            self.restore_parent()
        self._interrupt_runs(status)
        if self.parent_id:
            self._terminate(STUDY, status, None)

    def _interrupt_runs(self, status: str, condition: str = "") -> None:
        """End the open runs of trials that fulfil a condition, and delete empty duplicates.

        A parent run that is not known yet is ended with `status`.
        """
        used = set(self._run_ids.values())
        # A page begins at an offset: all are read before the first run is deleted.
        for run in list(self._search(condition)):
            run_id = run.info.run_id
            if run_id not in used and not run.data.metrics and not run.data.params:
                self._client.delete_run(run_id)
            elif run_id != self.parent_id and run.info.status in OPEN_STATUSES:
                if run.data.tags["raysearch.trial"] == STUDY:
                    self._client.set_terminated(run_id, status)
                else:
                    self._interrupt_run(run_id)

    def interrupt(self, status: str) -> None:
        """End the parent run with `status`, then the runs of trials that have not ended as KILLED.

        It sends as few requests as possible: duplicates of runs are left to the resumed study.
        """
        self._terminate(STUDY, status, None)
        self.num_closed += 1
        for trial in list(self._run_ids):
            if trial != STUDY and trial not in self.closed | self._interrupted:
                self.update(trial, self._interrupt_run)
                self._interrupted.add(trial)

    def _interrupt_run(self, run_id: str) -> None:
        self._client.set_terminated(run_id, RUN_STATUS["stopped"])
        self._client.set_tag(run_id, "state", INTERRUPTED)
        self.num_closed += 1

    def abandon(self, status: str) -> None:
        """End the runs of a launcher that was interrupted before it sent anything, if possible.

        It reads the running ones only: reading thousands of runs takes too long.

        Args:
            status: The status of the parent run.
        """
        self.parent_id = self._run_ids.get(STUDY, "")
        with suppress(Exception):  # the interrupt is raised again, and a resume ends the runs
            if self.parent_id:
                self._terminate(STUDY, status, None)
                self.num_closed += 1
            if self.experiment_id:
                self._interrupt_runs(status, " and attributes.status = 'RUNNING'")

    def restore_parent(self) -> None:
        """Restore the parent run and the experiment if somebody deleted them."""
        self._restored(STUDY, lambda: self._client.set_tag(self.parent_id, "kind", STUDY))

    def _terminate(self, name: str, status: str, end_ms: int | None) -> None:
        def send() -> None:
            self._client.set_terminated(self._run_ids[name], status, end_ms)

        try:
            self._restored(name, send)
        except MlflowException:
            if name not in self._deleted:
                raise

    def _restored(self, name: str, send: Callable[[], None]) -> None:
        """Send a request for the run `name`; if something it needs was deleted, restore it first.

        Raises:
            MlflowException: If the request is rejected; if the run of a trial was deleted, the
                trial is among `_deleted` then.
        """
        num_restored = self._num_restored
        try:
            send()
        except MlflowException as error:
            if error.error_code not in REJECTIONS:
                raise
            with self._restoring:
                self._num_restored += self._restore(name)
            if self._num_restored == num_restored:  # another thread has restored nothing, either
                raise
            send()

    def _restore(self, name: str) -> bool:
        """Restore what the run `name` needs; return whether its request can be repeated."""
        is_restored = lifecycle_stage(self._client.get_experiment, self.experiment_id) != ACTIVE
        if is_restored:
            log.warning("MLflow: the experiment of %s was deleted; it is restored", self.name)
            self.experiment_id = self._find_or_create_experiment(self.name)
            self._set_view()
            if lifecycle_stage(self._client.get_run, self.parent_id) != ACTIVE:
                self.parent_id = self._create_parent()
        if name not in self._run_ids:
            return is_restored
        stage = lifecycle_stage(self._client.get_run, self._run_ids[name])
        if stage == ACTIVE:
            return is_restored
        if name != STUDY:
            self._deleted.add(name)
            self.closed.add(name)
            text = f"the run of {name} was deleted in MLflow and is left out"
            log.warning("MLflow: %s", text)
            self.rejection = self.rejection or LookupError(text)
            return False
        log.warning("MLflow: the parent run of %s was deleted; it is restored", self.name)
        if stage:
            self._client.restore_run(self.parent_id)
        else:
            self.parent_id = self._create_parent()
        return True

    def _set_view(self) -> None:
        for key, value in view_tags(self._plan, int(time.time() * 1000)).items():
            self._client.set_experiment_tag(self.experiment_id, key, value)

    def _is_rejection(self, error: MlflowException) -> bool:
        if error.error_code not in REJECTIONS:
            return False
        log.error("MLflow rejected a request: %s", without_passwords(str(error)))
        self.rejection = error
        return True

    def _create(self, trial: str, name: str, tags: Mapping[str, str], start_ms: int | None) -> None:
        plan = self._plan
        common_tags = {
            MLFLOW_RUN_NAME: name,
            "raysearch.trial": trial,
            "raysearch.plan": plan.identity,
            "study": plan.name,
            "seed": str(plan.space.seed),
            "data_hash": plan.fingerprint,
            "split_hash": ",".join(split.hash for split in plan.splits),
            MLFLOW_SOURCE_NAME: "raysearch launch",
            MLFLOW_SOURCE_TYPE: "JOB",
            MLFLOW_GIT_COMMIT: plan.git_commit,
        }
        if tags["kind"] == "trial":
            common_tags[MLFLOW_PARENT_RUN_ID] = self.parent_id
        self._attempted.add(trial)
        run = self._client.create_run(self.experiment_id, start_ms, {**common_tags, **tags}, name)
        self._run_ids[trial] = str(run.info.run_id)

    def _create_parent(self) -> str:
        page = f"[Charts]({study_page('', self.experiment_id)})"
        space = self._plan.space
        text = f"Study {self.name}: {space.mode}imizes {space.metric} over {space.trials:,} trials."
        note = "\n\n".join([text, *command_lines(self._command), page])
        tags = {"kind": STUDY, COMMAND: self._command, MLFLOW_RUN_NOTE: note}
        tags = {name: text for name, text in tags.items() if text}
        self._create(STUDY, self._plan.name, tags, None)
        params = [
            Param(mlflow_name(name), without_folders(text)[:MAX_PARAM_CHARACTERS])
            for name, text in self._plan.space.settings().items()
        ]
        self._client.log_batch(self._run_ids[STUDY], params=params)
        return self._run_ids[STUDY]

    def _find_or_create_experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return str(self._client.create_experiment(name))
        if experiment.lifecycle_stage != ACTIVE:
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _search(self, condition: str = "") -> Iterator[Run]:
        """Yield the study's runs that fulfil an additional condition."""
        token: str | None = None
        query = f"tags.`raysearch.plan` = '{self._plan.identity}'{condition}"
        while True:
            page = self._client.search_runs(
                [self.experiment_id], query, max_results=PAGE_SIZE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _register(self, run: Run) -> None:
        """Remember a run of the store as that of its trial."""
        trial = run.data.tags["raysearch.trial"]
        if trial in self._run_ids and not run.data.params and not run.data.metrics:
            return  # an empty duplicate
        self._run_ids[trial] = run.info.run_id
        has_ended = run.data.tags.get("state") in RUN_STATUS  # false after an interruption
        if run.info.status in END_STATUSES and has_ended and run.data.tags["kind"] != STUDY:
            self.closed.add(trial)
