"""Deletes the runs and the registered model versions of a study from the tracking store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow.entities import Experiment, LifecycleStage, Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from raysearch.errors import StudyError, without_passwords
from raysearch.search.tracking.store_errors import store_error_text
from raysearch.search.tracking.study_runs import PAGE_SIZE
from raysearch.search.tracking.tracking_store import (
    MISSING,
    STORE_ERRORS,
    connect,
    database_files,
    store_problem,
)

# The tag of an experiment whose study is being deleted, with the study's identity.
DELETED_TAG = "raysearch.deleted"


@dataclass(frozen=True)
class TrackedStudy:
    """What a tracking store has of a study.

    Attributes:
        num_runs: Its runs that are not deleted.
        versions: The versions of its registered model.
    """

    num_runs: int
    versions: tuple[str, ...]


class StudyDeletion:
    """Deletes a study from a tracking store; an interrupted deletion may be repeated.

    MLflow marks runs and experiments as deleted, and keeps their files until `mlflow gc`. A deleted
    experiment keeps its name, and would be restored with its runs by a new study of that name.
    Therefore it is renamed before. Runs of other studies in it, and their versions of the
    registered model, stay.

    Args:
        store: The tracking store.
        name: The study's name, which its experiment and its registered model have.
        identity: The study's identity, which its runs have as a tag.

    Raises:
        StudyError: If the store cannot be used.
    """

    def __init__(self, store: str, name: str, identity: str) -> None:
        self.store, self._name, self._identity = store, name, identity
        databases = database_files(store)
        # MLflow would create a database that does not exist.
        self._is_empty = bool(databases) and not databases[0].exists()
        self._client: MlflowClient | None = None

    def find(self) -> TrackedStudy:
        """Return what would be deleted.

        Raises:
            StudyError: If the store cannot be read.
        """
        if self._is_empty:
            return TrackedStudy(0, ())
        try:
            runs = self._runs(ViewType.ALL)
            versions = self._versions(runs)
        except STORE_ERRORS as error:
            raise self._problem(error) from None
        return TrackedStudy(
            sum(map(_is_active, runs)), tuple(str(version.version) for version in versions)
        )

    def delete(self) -> None:
        """Delete the model versions, the runs, and the experiment if it has no other run.

        Raises:
            StudyError: If the store does not accept a request.
        """
        if self._is_empty:
            return
        try:
            self._delete()
        except STORE_ERRORS as error:
            raise self._problem(error) from None

    def _delete(self) -> None:
        client, runs = self._connected(), self._runs(ViewType.ALL)
        for version in self._versions(runs):
            client.delete_model_version(self._name, version.version)
        self._delete_empty_model()
        for run in runs:
            self._delete_logged_models(run)
        for run in filter(_is_active, runs):
            client.delete_run(run.info.run_id)
        experiment = self._experiment()
        if experiment is not None and not self._has_other_runs(experiment):
            self._rename(experiment)
        for renamed in client.search_experiments(
            ViewType.ACTIVE_ONLY, filter_string=f"tags.`{DELETED_TAG}` = '{self._identity}'"
        ):
            if not client.search_runs([renamed.experiment_id], max_results=1):
                client.delete_experiment(renamed.experiment_id)

    def _rename(self, experiment: Experiment) -> None:
        """Give up the name of the experiment; only an active one can be renamed."""
        client = self._connected()
        if experiment.lifecycle_stage == LifecycleStage.DELETED:
            client.restore_experiment(experiment.experiment_id)
            for run in self._runs(ViewType.ACTIVE_ONLY):
                client.delete_run(run.info.run_id)
        client.set_experiment_tag(experiment.experiment_id, DELETED_TAG, self._identity)
        suffix = f"{time.strftime('%Y-%m-%d %H:%M:%S')}, {self._identity[:8]}"
        client.rename_experiment(experiment.experiment_id, f"{self._name} (deleted {suffix})")

    def _delete_empty_model(self) -> None:
        """Delete the registered model if no study has a version of it any more."""
        client = self._connected()
        if client.search_model_versions(f"name = '{self._name}'", max_results=1):
            return
        try:
            client.delete_registered_model(self._name)
        except MlflowException as error:
            if error.error_code != MISSING:
                raise

    def _delete_logged_models(self, run: Run) -> None:
        """Delete the models that a run logged, unless another registered model has them, too."""
        outputs = run.outputs.model_outputs if run.outputs is not None else []
        client = self._connected()
        if not outputs or client.search_model_versions(f"run_id = '{run.info.run_id}'"):
            return
        for output in outputs:
            try:
                client.delete_logged_model(output.model_id)
            except MlflowException as error:
                if error.error_code != MISSING:
                    raise

    def _versions(self, runs: list[Run]) -> list[ModelVersion]:
        """Return the versions of the study's registered model that the study registered.

        A version has the study's identity as a tag, also after `mlflow gc` has removed its run.
        """
        own_ids = {run.info.run_id for run in runs}
        versions, token = [], None
        while True:
            page = self._connected().search_model_versions(
                f"name = '{self._name}'", page_token=token
            )
            versions += [
                version
                for version in page
                if version.run_id in own_ids or version.tags.get("study") == self._identity
            ]
            token = page.token
            if not token:
                return versions

    def _has_other_runs(self, experiment: Experiment) -> bool:
        """Whether the experiment has runs of others; those of an active one are not deleted."""
        is_active = experiment.lifecycle_stage == LifecycleStage.ACTIVE
        view = ViewType.ACTIVE_ONLY if is_active else ViewType.ALL
        own_ids = {run.info.run_id for run in self._runs(view)}
        return any(run.info.run_id not in own_ids for run in self._search(experiment, "", view))

    def _runs(self, view: int) -> list[Run]:
        """Return the runs of the study in the experiment of its name."""
        experiment = self._experiment()
        if experiment is None:
            return []
        return list(self._search(experiment, f"tags.`raysearch.plan` = '{self._identity}'", view))

    def _search(self, experiment: Experiment, query: str, view: int) -> Iterator[Run]:
        token: str | None = None
        while True:
            page = self._connected().search_runs(
                [experiment.experiment_id], query, view, PAGE_SIZE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _experiment(self) -> Experiment | None:
        return self._connected().get_experiment_by_name(self._name)

    def _connected(self) -> MlflowClient:
        if self._client is None:
            self._client = connect(self.store)
        return self._client

    def _problem(self, error: Exception) -> StudyError:
        reason = store_error_text(error, self.store)
        return StudyError(
            f"{store_problem(without_passwords(self.store), reason)}; --keep-runs leaves the"
            " study's runs where they are"
        )


def _is_active(run: Run) -> bool:
    return bool(run.info.lifecycle_stage == LifecycleStage.ACTIVE)
