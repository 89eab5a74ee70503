"""Creates the MLflow runs of a study, or finds them again by their tags."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from mlflow.entities import Param, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)

from raysearch.config.hyperparameters import resolve
from raysearch.search.journal.events import TrialEnded, TrialStarted
from raysearch.search.journal.history import MAJORITY
from raysearch.search.study.plan import Plan
from raysearch.search.tracking.log_batches import LogBatch, merge_batches, mlflow_name
from raysearch.search.tracking.tracking_store import VIEW_TAG, view_state

log = logging.getLogger(__name__)
RUN_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
END_STATUSES = frozenset(RUN_STATUS.values())
REJECTIONS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"})
# These hyperparameters are in the name of a trial's run, and among its tags.
SHOWN_HPARAMS = ("architecture", "optimizer")
# The name of the parent run among the runs of the trials.
STUDY = "study"
MAX_PARAM_CHARACTERS = 500


class StudyRuns:
    """One run for each trial below the study's parent run; every method may be repeated.

    Content that MLflow rejects as invalid is left out, and `rejection` keeps the error. Every other
    error is raised.

    Args:
        plan: The study's plan.
        client: The client of the tracking store.
    """

    def __init__(self, plan: Plan, client: MlflowClient) -> None:
        self._plan, self._client = plan, client
        self._run_ids: dict[str, str] = {}
        # Trials whose run is complete in MLflow, or was rejected by it.
        self.closed: set[str] = set()
        self.rejection: MlflowException | None = None
        # Trials whose run may exist although the request to create it failed.
        self._attempted: set[str] = set()
        self._experiment_id = self._find_or_create_experiment(plan.name)
        for run in self._search():
            self._register(run)
        self.parent_id = self._run_ids.get(STUDY) or self._create_parent()
        client.update_run(self.parent_id, "RUNNING")

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
        if event.kind == "trial":
            name = " ".join([trial, *map(str, shown.values())])
            tags[MLFLOW_PARENT_RUN_ID] = self.parent_id
        else:
            name = trial
        if trial != MAJORITY:
            tags |= {name: str(getattr(resolve(event.hparams), name)) for name in SHOWN_HPARAMS}
        try:
            self._create(trial, name, tags, int(event.time * 1000))
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
            self._client.log_batch(self._run_ids[trial], **merged.arguments())
        except MlflowException as error:
            if not self._is_rejection(error):
                raise
            if len(batches) > 1:
                for batch in batches:
                    self.log(trial, [batch])

    def end(self, event: TrialEnded) -> None:
        """Set the status and the end time of the run of the trial that ended."""
        if event.trial not in self.closed:
            end_ms = int(event.time * 1000)
            run_id = self._run_ids[event.trial]
            self._client.set_terminated(run_id, RUN_STATUS[event.status], end_ms)
            self.closed.add(event.trial)

    def close(self, status: str) -> None:
        """End the parent run with `status`, and delete empty duplicates of runs.

        If the answer to a request is lost, the request is sent again, also by MLflow's client. If
        it creates a run, there are two runs then, and one remains empty.
        """
        used = set(self._run_ids.values())
        for run in self._search():
            if run.info.run_id not in used and not run.data.metrics and not run.data.params:
                self._client.delete_run(run.info.run_id)
        self._client.set_terminated(self.parent_id, status)

    def _is_rejection(self, error: MlflowException) -> bool:
        if error.error_code not in REJECTIONS:
            return False
        log.error("MLflow rejected a request: %s", error)
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
        self._attempted.add(trial)
        run = self._client.create_run(self._experiment_id, start_ms, {**common_tags, **tags}, name)
        self._run_ids[trial] = str(run.info.run_id)

    def _create_parent(self) -> str:
        self._create(STUDY, self._plan.name, {"kind": STUDY}, None)
        params = [
            Param(mlflow_name(name), text[:MAX_PARAM_CHARACTERS])
            for name, text in self._plan.space.settings().items()
        ]
        self._client.log_batch(self._run_ids[STUDY], params=params)
        self._client.set_experiment_tag(self._experiment_id, VIEW_TAG, view_state(self._plan))
        return self._run_ids[STUDY]

    def _find_or_create_experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return str(self._client.create_experiment(name))
        if experiment.lifecycle_stage != "active":
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _search(self, condition: str = "") -> Iterator[Run]:
        """Yield the study's runs that fulfil an additional condition."""
        token: str | None = None
        query = f"tags.`raysearch.plan` = '{self._plan.identity}'{condition}"
        while True:
            page = self._client.search_runs(
                [self._experiment_id], query, max_results=1000, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _register(self, run: Run) -> None:
        """Remember a run of the store as that of its trial."""
        trial = run.data.tags["raysearch.trial"]
        if trial in self._run_ids and not run.data.params:
            return  # an empty duplicate
        self._run_ids[trial] = run.info.run_id
        if run.info.status in END_STATUSES and run.data.tags["kind"] != STUDY:
            self.closed.add(trial)
