"""Registers the champion in MLflow's model registry, and loads registered models from it."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow
import mlflow.artifacts
import numpy as np
import torch
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from torch import nn

from raysearch.errors import StudyError, first_line
from raysearch.search.tracking.tracker import Tracker
from raysearch.search.tracking.tracking_store import STORE_ERRORS

ALIAS = "champion"
# The packed ModelArtifact lies beside the exported program, in the folder of the logged model.
ARTIFACT_FILE = "raysearch.pt"
ARTIFACT_PATH = f"extra_files/{ARTIFACT_FILE}"
MODEL_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")
# A version has these tags when it is created, and no two versions of a study share them.
IDENTITY_TAGS = ("trial", "kind")
REQUIREMENTS = ("mlflow", "numpy", "torch", "torchvision")


@dataclass(frozen=True)
class RegisteredModel:
    """A model version of the registry: its packed ModelArtifact, and the tags of the version."""

    artifact: bytes
    tags: Mapping[str, str]


def register_champion(
    tracker: Tracker,
    name: str,
    model: nn.Module,
    example: NDArray[np.uint8],
    tags: Mapping[str, str],
    artifact: bytes,
) -> str:
    """Log a model to the study's run, and register it with the alias `champion`.

    MLflow stores the model as an exported program. If the study has registered a version of the
    same trial and kind already, only its tags and the alias are updated.

    Args:
        tracker: The study's tracker.
        name: Name of the registered model.
        model: The model; it maps patches to probabilities.
        example: Patches, uint8, shape (batch, height, width, 3), with a batch of at least 2: an
            export with a batch of 1 would accept no other batch size.
        tags: Tags of the version; `trial` and `kind` identify it among the study's versions.
        artifact: The packed ModelArtifact, by which raysearch builds the model without running code
            from a file.

    Returns:
        The number of the version.

    Raises:
        StudyError: If the store does not accept the model.
    """
    try:
        identity = {key: tags[key] for key in IDENTITY_TAGS}
        version_number = _find_version(tracker, name, identity) or _log_model(
            tracker, name, model, example, artifact, identity
        )
        for key, value in tags.items():
            tracker.client.set_model_version_tag(name, version_number, key, value)
        tracker.client.set_registered_model_alias(name, ALIAS, version_number)
    except STORE_ERRORS as error:
        raise StudyError(
            f"the champion could not be registered in {tracker.store} ({first_line(error)}); fix"
            " it, then resume with --resume"
        ) from None
    return version_number


def _find_version(tracker: Tracker, name: str, identity: Mapping[str, str]) -> str | None:
    """Return the study's version with the tags `identity`, from an earlier launch; None without."""
    query = f"name = '{name}' and run_id = '{tracker.parent_run_id}'"
    for model_version in tracker.client.search_model_versions(query):
        if identity.items() <= model_version.tags.items():
            return str(model_version.version)
    return None


def _log_model(
    tracker: Tracker,
    name: str,
    model: nn.Module,
    example: NDArray[np.uint8],
    artifact: bytes,
    tags: dict[str, str],
) -> str:
    """Log and register a new version with `tags`; return its number."""
    model = model.cpu().eval()
    with torch.inference_mode():
        output = model(torch.from_numpy(example)).numpy()
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, *example.shape[1:]))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, *output.shape[1:]))]),
    )
    mlflow.set_tracking_uri(tracker.store)
    mlflow.set_registry_uri(tracker.store)  # the same store, whatever MLFLOW_REGISTRY_URI names
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(prefix="raysearch-") as folder,
        mlflow.start_run(run_id=tracker.parent_run_id),
    ):
        warnings.simplefilter("ignore")
        artifact_file = Path(folder) / ARTIFACT_FILE
        artifact_file.write_bytes(artifact)
        model_info = mlflow.pytorch.log_model(
            model,
            name="champion",
            signature=signature,
            input_example=example,
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
            registered_model_name=name,
            extra_files=[str(artifact_file)],
            tags=tags,
        )
    return str(model_info.registered_model_version)


def load_registered_model(address: str, store: str) -> RegisteredModel:
    """Load the registered model at `address`, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        StudyError: If `store` has no such version, or no study registered it.
    """
    try:
        client = MlflowClient(tracking_uri=store, registry_uri=store)
        model_version = _model_version(client, address)
        with tempfile.TemporaryDirectory(prefix="raysearch-") as folder:
            file = mlflow.artifacts.download_artifacts(
                f"models:/{model_version.name}/{model_version.version}/{ARTIFACT_PATH}",
                dst_path=folder,
                tracking_uri=store,
                registry_uri=store,
            )
            return RegisteredModel(Path(file).read_bytes(), dict(model_version.tags))
    except STORE_ERRORS as error:
        raise StudyError(
            f"{address}: cannot be loaded from {store} ({first_line(error)}); see `raysearch ui`"
            " for the registered models, and set MLFLOW_TRACKING_URI to their store"
        ) from None


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
