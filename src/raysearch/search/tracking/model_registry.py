"""The champion in MLflow's model registry."""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import mlflow
import mlflow.artifacts
import numpy as np
import torch
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError
from torch import nn

from raysearch.errors import StudyError
from raysearch.search.tracking.tracker import Tracker

log = logging.getLogger(__name__)
ALIAS = "champion"
# Beside the exported program, in the model's own folder.
RECIPE = "raysearch.pt"
RECIPE_PLACE = f"extra_files/{RECIPE}"
ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")
REFIT = "refit"
REQUIREMENTS = ("mlflow", "numpy", "torch", "torchvision")


def register_champion(
    tracker: Tracker,
    name: str,
    model: nn.Module,
    example: NDArray[np.uint8],
    facts: Mapping[str, str],
    recipe: bytes,
) -> str:
    """Log `model` to the study's run, register it as `name` with the alias `champion`.

    `example` is a batch (B, H, W, 3) of at least two patches: one alone would fix the batch's
    size at 1. The model is kept as an exported program, for MLflow, and as `recipe`, by which
    `raysearch` builds it again without running what a file says. A version that the study
    registered already, of the same `trial` and `kind` by its `facts`, is not registered again.
    Returns the version. StudyError where the store does not take it.
    """
    try:
        known = _known_version(tracker, name, facts)
        number = known or _log(tracker, name, model, example, recipe, _told_apart(facts))
        for key, value in facts.items():
            tracker.client.set_model_version_tag(name, number, key, value)
        tracker.client.set_registered_model_alias(name, ALIAS, number)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise StudyError(
            f"the champion could not be registered in {tracker.store} ({reason}); put it right,"
            " then go on with --resume"
        ) from None
    return number


def _known_version(tracker: Tracker, name: str, facts: Mapping[str, str]) -> str | None:
    """The version that an earlier launch of the study registered, maybe without all its tags yet.

    What an older program registered is of a refit, and had no tag at first.
    """
    query = f"name = '{name}' and run_id = '{tracker.parent}'"
    asked = _told_apart(facts)
    for found in tracker.client.search_model_versions(query):
        if {"trial": facts["trial"], "kind": REFIT, **found.tags}.items() >= asked.items():
            return str(found.version)
    return None


def _told_apart(facts: Mapping[str, str]) -> dict[str, str]:
    """What a version has from its first moment, and is told from the study's others by."""
    return {"trial": facts["trial"], "kind": facts.get("kind", REFIT)}


def _log(
    tracker: Tracker,
    name: str,
    model: nn.Module,
    example: NDArray[np.uint8],
    recipe: bytes,
    tags: dict[str, str],
) -> str:
    model = model.cpu().eval()
    with torch.inference_mode():
        answer = model(torch.from_numpy(example)).numpy()
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, *example.shape[1:]))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, *answer.shape[1:]))]),
    )
    mlflow.set_tracking_uri(tracker.store)
    mlflow.set_registry_uri(tracker.store)  # whatever MLFLOW_REGISTRY_URI says: one store
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(prefix="raysearch-") as scratch,
        mlflow.start_run(run_id=tracker.parent),
    ):
        warnings.simplefilter("ignore")
        (Path(scratch) / RECIPE).write_bytes(recipe)
        info = mlflow.pytorch.log_model(
            model,
            name="champion",
            signature=signature,
            input_example=example,
            pip_requirements=[f"{one}=={version(one)}" for one in REQUIREMENTS],
            registered_model_name=name,
            extra_files=[str(Path(scratch) / RECIPE)],
            tags=tags,
        )
    return str(info.registered_model_version)


def fetch_recipe(address: str, store: str) -> tuple[bytes, Mapping[str, str]]:
    """The recipe of the registered model at `address`, `models:/...`, and its version's tags.

    StudyError where `store` has no such version, or it is none that a study registered.
    """
    try:
        client = MlflowClient(tracking_uri=store, registry_uri=store)
        found = _version(client, address)
        with tempfile.TemporaryDirectory(prefix="raysearch-") as scratch:
            place = f"models:/{found.name}/{found.version}/{RECIPE_PLACE}"
            file = mlflow.artifacts.download_artifacts(
                place, dst_path=scratch, tracking_uri=store, registry_uri=store
            )
            return Path(file).read_bytes(), dict(found.tags)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise StudyError(
            f"{address}: cannot be loaded from {store} ({reason}); see `raysearch ui` for what is"
            " there, and set MLFLOW_TRACKING_URI to its store"
        ) from None


def _version(client: MlflowClient, address: str) -> ModelVersion:
    """The version that `address` names by its number or its alias."""
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise StudyError(
            f"{address}: no address of a registered model; give models:/NAME@{ALIAS} or"
            " models:/NAME/VERSION"
        )
    if match["alias"]:
        return client.get_model_version_by_alias(match["name"], match["alias"])
    return client.get_model_version(match["name"], match["version"])
