"""What a trial of a stored study trains on, and how; kept for the next trial of the process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.data.patches import Patches, load_patches
from raysearch.data.splits.folds import fold_indices, take_fraction
from raysearch.data.view import View
from raysearch.errors import DataError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.auxiliary_data import Auxiliary, mapped_labels
from raysearch.search.study.plan import Plan, load_plan
from raysearch.search.study.study import read_splits
from raysearch.training.numerics import device_kind
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import AuxiliaryRows, TrainingData

# By so many of its own rows a refit is judged.
SOME = 2048


@lru_cache(maxsize=1)
def stored_plan(study: str) -> Plan:
    """The plan of the study in the folder at `study`."""
    return load_plan(StudyFolder(study).read(StudyFolder.PLAN))


def train_config(
    plan: Plan, hparams: Mapping[str, Any], seed: int, device: torch.device
) -> TrainConfig:
    """How a trial with `hparams` trains on `device`."""
    config = TrainConfig(hparams, plan.space.epochs, plan.space.metric, seed)
    numerics = plan.numerics_for(device_kind(device), config.architecture)
    return TrainConfig(hparams, plan.space.epochs, plan.space.metric, seed, numerics)


@lru_cache(maxsize=8)
def training_data(study: str, data: str, device: str, folds: int, fraction: float) -> TrainingData:
    """The folds of a trial that learns from a `fraction` of each fold's groups.

    DataError where they are not those of the plan.
    """
    plan = stored_plan(study)
    patches = _patches(data, plan.view)
    groups = patches.groups(plan.view.by)
    split = read_splits(StudyFolder(study), plan)[folds]
    indices = fold_indices(groups, split)
    found = tuple(len(judged) for _learned, judged in indices)
    if found != plan.split(folds).patches:
        raise DataError(f"{data}: its folds have {found} patches, not those of the plan; mend it")
    if fraction < 1:
        indices = [
            (take_fraction(groups, patches.labels, learned, fraction), judged)
            for learned, judged in indices
        ]
    return _over(plan, data, device, tuple(indices))


def refit_data(study: str, data: str, device: str) -> TrainingData:
    """One fold that learns from every patch of the study's folds, and judges some of these."""
    plan = stored_plan(study)
    splits = read_splits(StudyFolder(study), plan)
    named = {name for folds in splits.values() for one in folds for name in one.learn + one.judge}
    groups = _patches(data, plan.view).groups(plan.view.by)
    everyone = np.flatnonzero(np.isin(groups, sorted(named))).astype(np.int64)
    return _over(plan, data, device, ((everyone, _some(everyone)),))


def _some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most SOME of `rows`, from all over them."""
    return rows[:: -(-len(rows) // SOME)]


@lru_cache(maxsize=8)
def _patches(data: str, view: View) -> Patches:
    return load_patches(data, view=view)


@lru_cache(maxsize=8)
def _on_device(data: str, view: View, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The pixels and labels on `device`, once a process, whatever trial comes."""
    patches = _patches(data, view)
    pixels, labels = torch.from_numpy(patches.pixels), torch.from_numpy(patches.labels)
    return pixels.to(device), labels.to(device)


def _over(plan: Plan, data: str, device: str, folds: Any) -> TrainingData:
    patches = _patches(data, plan.view)
    pixels, labels = _on_device(data, plan.view, device)
    return TrainingData(
        pixels,
        labels,
        patches.patients,
        plan.shape,
        plan.class_names,
        folds,
        tuple(_further(plan, one, device) for one in plan.auxiliary),
    )


def _further(plan: Plan, one: Auxiliary, device: str) -> AuxiliaryRows:
    patches = _patches(one.data, one.view)
    if patches.fingerprint != one.fingerprint:
        raise DataError(f"{one.data}: other shards than the plan was made with; put them back")
    labels = torch.from_numpy(mapped_labels(patches, plan.class_names))
    return AuxiliaryRows(_on_device(one.data, one.view, device)[0], labels.to(device))
