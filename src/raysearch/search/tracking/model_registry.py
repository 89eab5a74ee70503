"""Registers the champion in MLflow's model registry, and loads registered models from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow.artifacts
import numpy as np
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS
from numpy.typing import NDArray
from torch import nn

from raysearch.config.addresses import check_artifact_address
from raysearch.data.scratch_folder import scratch_folder
from raysearch.errors import StudyError
from raysearch.search.tracking.exported_model import save_exported_model, save_separate_model
from raysearch.search.tracking.served_model import ServedRule
from raysearch.search.tracking.store_errors import store_error_text
from raysearch.search.tracking.tracker import Tracker
from raysearch.search.tracking.tracking_store import STORE_ERRORS, connect, global_store

ALIAS = "champion"
# The packed ModelArtifact lies beside the exported program, in the folder of the logged model.
ARTIFACT_FILE = "raysearch.pt"
ARTIFACT_PATH = f"extra_files/{ARTIFACT_FILE}"
MODEL_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")
# The addresses of a logged model and of a run, which name others.
LOGGED_MODEL_ADDRESS = re.compile(r"models:/+([^/@]+)")
RUN_ADDRESS = re.compile(r"runs:/+([^/]+)")
# The tag of what `mlflow.pyfunc` returns; its number changes with the columns of the answer.
ANSWER_TAG, ANSWER = "answer", "2"
# A version has these tags when it is created, and no two versions of a study share them: the model
# itself knows the threshold, so that another threshold is another version. Absent tags are equal.
IDENTITY_TAGS = ("trial", "kind", "threshold", "encoder_sha256", ANSWER_TAG)
# The name and the hash of the frozen encoder that a model has no copy of.
ENCODER_TAG, ENCODER_HASH_TAG = "encoder", "encoder_sha256"
# The name of the logged model in its run.
LOGGED_NAME = "champion"
ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"


@dataclass(frozen=True)
class RegisteredModel:
    """A model version of the registry: its packed ModelArtifact, and the tags of the version."""

    artifact: bytes
    tags: Mapping[str, str]


def register_champion(
    tracker: Tracker,
    name: str,
    model: nn.Module,
    example: NDArray[np.generic],
    tags: Mapping[str, str],
    artifact: bytes,
    rule: ServedRule,
    *,
    is_exported: bool = True,
) -> str:
    """Log a model to the study's run, and register it with the alias `champion`.

    MLflow stores the model as an exported program, which has all weights. If the study has
    registered a version of the same trial, kind, threshold and encoder already, only its tags and
    the alias are updated. The run is restored before, if somebody deleted it.

    Args:
        tracker: The study's tracker.
        name: Name of the registered model.
        model: The model; it maps patches to probabilities.
        example: Patches, uint8, shape (batch, height, width, 3), or features of slides, float32,
            shape (batch, patches, features), with a batch of at least 2: an export with a batch of
            1 would accept no other batch size.
        tags: Tags of the version; `trial` and `kind` identify it among the study's versions.
        artifact: The packed ModelArtifact, by which raysearch builds the model without running code
            from a file.
        rule: The classes, and how the model decides between them.
        is_exported: Whether the exported program is stored; if not, raysearch loads the model from
            `artifact`.

    Returns:
        The number of the version.

    Raises:
        StudyError: If the store does not accept the model.
    """
    try:
        tracker.restore_parent()
        tags = {**tags, ANSWER_TAG: ANSWER}
        version_number = _find_version(tracker, name, tags) or _log_model(
            tracker, name, model if is_exported else None, example, artifact, rule, _identity(tags)
        )
        for key, value in tags.items():
            tracker.client.set_model_version_tag(name, version_number, key, value)
        tracker.client.set_registered_model_alias(name, ALIAS, version_number)
    except STORE_ERRORS as error:
        raise StudyError(
            f"the champion could not be registered in {tracker.store}"
            f" ({store_error_text(error, tracker.store)}); fix it, then"
            " resume with --resume"
        ) from None
    return version_number


def _identity(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: tags[key] for key in IDENTITY_TAGS if key in tags}


def _find_version(tracker: Tracker, name: str, tags: Mapping[str, str]) -> str | None:
    """Return the study's version with the identity of `tags`, from an earlier launch, or None."""
    query = f"name = '{name}' and run_id = '{tracker.parent_run_id}'"
    for model_version in tracker.client.search_model_versions(query):
        if _identity(model_version.tags) == _identity(tags):
            return str(model_version.version)
    return None


def _log_model(
    tracker: Tracker,
    name: str,
    model: nn.Module | None,
    example: NDArray[np.generic],
    artifact: bytes,
    rule: ServedRule,
    tags: Mapping[str, str],
) -> str:
    """Log and register a new version with `tags`; return its number.

    Without a `model`, only `artifact` is stored.

    MLflow's `log_model` is not used: it would add the user, the program's path and the address of
    the model to what is logged.
    """
    client, run_id = tracker.client, tracker.parent_run_id
    run = client.get_run(run_id)
    logged_model = client.create_logged_model(
        run.info.experiment_id, LOGGED_NAME, run_id, dict(tags), run.data.params
    )
    model_id = logged_model.model_id
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    with scratch_folder() as scratch:
        artifact_file, folder = scratch / ARTIFACT_FILE, scratch / LOGGED_NAME
        artifact_file.write_bytes(artifact)
        description = Model(run_id=run_id, model_uuid=model_id, model_id=model_id)
        if model is None:
            save_separate_model(folder, example, description, artifact_file, rule)
        else:
            save_exported_model(folder, model, example, description, artifact_file, rule)
        client.log_model_artifacts(model_id, str(folder))
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != ALREADY_EXISTS:
            raise
    # MLflow resolves the address of the logged model by its global settings, not by the client's.
    with global_store(tracker.store):
        model_version = client.create_model_version(
            name, f"models:/{model_id}", run_id, dict(tags), model_id=model_id
        )
    versions = [{"name": name, "version": model_version.version}]
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(versions)})
    return str(model_version.version)


def load_registered_model(address: str, store: str) -> RegisteredModel:
    """Load the registered model at `address`, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        StudyError: If `store` has no such version, or no study registered it.
        DataError: If the files of the version lie at an address that is not allowed.
    """
    try:
        client = connect(store)
        model_version = _model_version(client, address)
        check_artifact_address(_files_address(client, model_version))
        with scratch_folder() as folder:
            file = mlflow.artifacts.download_artifacts(
                f"models:/{model_version.name}/{model_version.version}/{ARTIFACT_PATH}",
                dst_path=str(folder),
                tracking_uri=store,
                registry_uri=store,
            )
            return RegisteredModel(Path(file).read_bytes(), dict(model_version.tags))
    except STORE_ERRORS as error:
        raise StudyError(
            f"{address}: cannot be loaded from {store} ({store_error_text(error, store)}); see"
            " `raysearch ui` for the registered models, and set MLFLOW_TRACKING_URI to their store"
        ) from None


def _files_address(client: MlflowClient, version: ModelVersion) -> str:
    """Return the address of a version's files; a version names its logged model or its run."""
    source = str(client.get_model_version_download_uri(version.name, version.version))
    if logged_model := LOGGED_MODEL_ADDRESS.match(source):
        return str(client.get_logged_model(logged_model[1]).artifact_location)
    if run := RUN_ADDRESS.match(source):
        return str(client.get_run(run[1]).info.artifact_uri)
    return source


def _model_version(client: MlflowClient, address: str) -> ModelVersion:
    match = MODEL_ADDRESS.fullmatch(address)
    if match is None:
        raise StudyError(
            f"{address}: not the address of a registered model; use models:/NAME@{ALIAS} or"
            " models:/NAME/VERSION"
        )
    if match["alias"]:
        return client.get_model_version_by_alias(match["name"], match["alias"])
    return client.get_model_version(match["name"], match["version"])
