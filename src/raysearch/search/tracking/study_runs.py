"""The runs of one study in MLflow: found again by their tags, or made."""

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

from raysearch.search.journal.history import MAJORITY
from raysearch.search.journal.journal import Event
from raysearch.search.study.plan import Plan
from raysearch.search.tracking.log_batches import LogBatch, joined, plain
from raysearch.search.tracking.ui_columns import TAG, shared_view
from raysearch.training.components import DEFAULTS

log = logging.getLogger(__name__)
RUN_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
ENDED = frozenset(RUN_STATUS.values())
REJECTIONS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"})
# Trials are told apart by these first: in the run's name, and as tags.
SHOWN_HPARAMS = ("architecture", "optimizer")
# The name of the parent among the runs.
STUDY = "study"


class StudyRuns:
    """One run a trial below the study's own; whatever is done here may be done again.

    What MLflow rejects for what it is, is left out and remembered in `rejected`; all else that goes
    wrong is raised.
    """

    def __init__(self, plan: Plan, client: MlflowClient) -> None:
        self._plan, self._client = plan, client
        self._runs: dict[str, str] = {}
        # Those that need nothing more: ended in MLflow, or rejected by it.
        self.over: set[str] = set()
        self.rejected: MlflowException | None = None
        # Making it failed, and yet it may be there.
        self._doubted: set[str] = set()
        self._experiment = self._experiment_of(plan.name)
        for run in self._search():
            self._know(run)
        self.parent = self._runs.get(STUDY) or self._make_parent()
        client.update_run(self.parent, "RUNNING")

    def of(self, trial: str) -> str | None:
        """The id of the run of `trial`."""
        return self._runs.get(trial)

    def begin(self, event: Event) -> None:
        """Make the run of the trial that `event` begins, unless it is there."""
        trial = event["trial"]
        if trial in self._doubted and trial not in self._runs:
            for run in self._search(f" and tags.`raysearch.trial` = '{trial}'"):
                self._know(run)
        if trial in self._runs:
            return
        shown = {name: event["hparams"][name] for name in SHOWN_HPARAMS if name in event["hparams"]}
        name = " ".join([trial, *map(str, shown.values())])
        tags = {"state": "running"}
        if event["kind"] == "trial":
            tags[MLFLOW_PARENT_RUN_ID] = self.parent
        else:
            name = trial
        if trial != MAJORITY:
            tags |= {key: str(shown.get(key, DEFAULTS[key])) for key in SHOWN_HPARAMS}
        try:
            self._make(trial, name, {"kind": event["kind"], **tags}, int(event["at"] * 1000))
        except MlflowException as error:
            if not self._is_rejection(error):
                raise
            self.over.add(trial)

    def add(self, trial: str, pieces: Sequence[LogBatch]) -> None:
        """Add `pieces` to the run of `trial`, by one request where they are within its limits."""
        whole = joined(pieces)
        if not whole.size or trial in self.over:
            return
        try:
            self._client.log_batch(self._runs[trial], **whole.batch())
        except MlflowException as error:
            if not self._is_rejection(error):
                raise
            if len(pieces) > 1:  # one of them may be at error
                for piece in pieces:
                    self.add(trial, [piece])

    def end(self, trial: str, event: Event) -> None:
        """Give the run of `trial` the status in which it ended, and when."""
        if trial not in self.over:
            status, end = RUN_STATUS[event["status"]], int(event["at"] * 1000)
            self._client.set_terminated(self._runs[trial], status, end)
            self.over.add(trial)

    def close(self, status: str) -> None:
        """End the study's own run, and delete runs that came to be twice.

        A request whose answer is lost is sent again, by MLflow's client too, and one that makes a
        run then makes two, of which one stays empty.
        """
        mine = set(self._runs.values())
        for run in self._search():
            if run.info.run_id not in mine and not run.data.metrics and not run.data.params:
                self._client.delete_run(run.info.run_id)
        self._client.set_terminated(self.parent, status)

    def _is_rejection(self, error: MlflowException) -> bool:
        if error.error_code not in REJECTIONS:
            return False
        log.error("MLflow rejected what it was sent: %s", error)
        self.rejected = error
        return True

    def _make(self, trial: str, name: str, tags: Mapping[str, str], start: int | None) -> None:
        plan = self._plan
        common = {
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
        self._doubted.add(trial)
        run = self._client.create_run(self._experiment, start, {**common, **tags}, name)
        self._runs[trial] = str(run.info.run_id)

    def _make_parent(self) -> str:
        self._make(STUDY, self._plan.name, {"kind": STUDY}, None)
        rows = {key: value[:500] for key, value in self._plan.space.flat().items()}
        params = [Param(plain(key), value) for key, value in rows.items()]
        self._client.log_batch(self._runs[STUDY], params=params)
        self._client.set_experiment_tag(self._experiment, TAG, shared_view(self._plan))
        return self._runs[STUDY]

    def _experiment_of(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name))
        if found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _search(self, further: str = "") -> Iterator[Run]:
        token: str | None = None
        query = f"tags.`raysearch.plan` = '{self._plan.identity}'{further}"
        while True:
            page = self._client.search_runs(
                [self._experiment], query, max_results=1000, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _know(self, run: Run) -> None:
        trial = run.data.tags["raysearch.trial"]
        if trial in self._runs and not run.data.params:
            return  # it came to be twice: the other has what was sent
        self._runs[trial] = run.info.run_id
        if run.info.status in ENDED and run.data.tags["kind"] != STUDY:
            self.over.add(trial)
