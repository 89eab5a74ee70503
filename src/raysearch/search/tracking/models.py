"""The champion in MLflow's model registry."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from importlib.metadata import version

import mlflow
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from torch import nn

from raysearch.search.tracking.runs import Tracker

log = logging.getLogger(__name__)
ALIAS = "champion"
REQUIREMENTS = ("mlflow", "numpy", "torch", "torchvision")


def register_champion(
    tracker: Tracker,
    name: str,
    model: nn.Module,
    example: NDArray[np.uint8],
    facts: Mapping[str, str],
) -> str:
    """Log `model` to the study's run, register it as `name` with the alias `champion`.

    `example` is a batch (B, H, W, 3) of at least two patches: one alone would fix the batch's
    size at 1. The model is kept as an exported program, which loads without pickle. A model that
    is registered with the same `facts` already stays as it is. Returns the version.
    """
    client = tracker.client
    known = _registered(tracker, name)
    if known is not None and known[1] == dict(facts):
        return known[0]
    model = model.cpu().eval()
    with torch.inference_mode():
        answer = model(torch.from_numpy(example)).numpy()
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, *example.shape[1:]))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, *answer.shape[1:]))]),
    )
    mlflow.set_tracking_uri(tracker.store)
    with warnings.catch_warnings(), mlflow.start_run(run_id=tracker.parent):
        warnings.simplefilter("ignore")
        info = mlflow.pytorch.log_model(
            model,
            name="champion",
            signature=signature,
            input_example=example,
            pip_requirements=[f"{one}=={version(one)}" for one in REQUIREMENTS],
            registered_model_name=name,
        )
    number = str(info.registered_model_version)
    for key, value in facts.items():
        client.set_model_version_tag(name, number, key, value)
    client.set_registered_model_alias(name, ALIAS, number)
    return number


def _registered(tracker: Tracker, name: str) -> tuple[str, dict[str, str]] | None:
    try:
        found = tracker.client.get_model_version_by_alias(name, ALIAS)
    except MlflowException:
        return None
    return str(found.version), dict(found.tags)
