"""Loads what the trials of a study train on, and retains it for the next trial of the process."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.report_interval import trial_epochs
from raysearch.data.shards.patches import Patches, load_patches
from raysearch.data.shards.rows import View
from raysearch.data.splits.folds import fold_indices, take_fraction
from raysearch.errors import DataError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.auxiliary_data import mapped_labels
from raysearch.search.study.plan import Auxiliary, Plan
from raysearch.search.study.stored_study import read_plan, read_splits
from raysearch.training.precision_settings import device_kind
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import AuxiliaryRows, TrainingData

# A refit is validated on so many of its training rows.
MAX_REFIT_VALIDATION_ROWS = 2048
# Entries of each cache but the plans'.
CACHE_SIZE = 8

FoldIndices = tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]


def train_config(plan: Plan, hparams: Hparams, seed: int, device: torch.device) -> TrainConfig:
    """The configuration of the training of a trial with `hparams` on `device`."""
    config = TrainConfig(hparams, trial_epochs(plan.space, hparams), plan.space.metric, seed)
    return replace(
        config,
        precision_settings=plan.precision_for(device_kind(device), config.architecture),
        weights_hash=plan.weights_hash(config.architecture, config.params.weights),
        encoder=plan.encoder(config.architecture),
        custom_metrics=plan.space.custom_metrics,
    )


class WorkerCache:
    """All that a worker process retains from trial to trial: plan, patches and training data.

    Methods take the address of the study's folder and that of its shards, which may differ from
    the plan's on another machine.
    """

    def __init__(self) -> None:
        self.plan = lru_cache(maxsize=1)(self._read_plan)
        self.training_data = lru_cache(CACHE_SIZE)(self._load_training_data)
        self._patches = lru_cache(CACHE_SIZE)(self._load_patches)
        self._device_rows = lru_cache(CACHE_SIZE)(self._copy_to_device)

    def refit_data(self, study: str, data: str, device: str) -> TrainingData:
        """One fold whose training rows are all patches of the study's folds.

        Its validation rows are a sample of them.
        """
        plan = self.plan(study)
        splits = read_splits(StudyFolder(study), plan)
        group_names = {
            name
            for folds in splits.values()
            for fold in folds
            for name in fold.train + fold.validation
        }
        groups = self._patches(data, plan.view).groups(plan.view.by)
        rows = np.flatnonzero(np.isin(groups, sorted(group_names))).astype(np.int64)
        return self._assemble(plan, data, device, ((rows, _sample(rows)),))

    def _read_plan(self, study: str) -> Plan:
        """The plan of the study."""
        return read_plan(StudyFolder(study))

    def _load_training_data(
        self, study: str, data: str, device: str, folds: int, fraction: float
    ) -> TrainingData:
        """The folds of a trial that trains on a `fraction` of each fold's training groups.

        Raises:
            DataError: If they are not those of the plan.
        """
        plan = self.plan(study)
        patches = self._patches(data, plan.view)
        groups = patches.groups(plan.view.by)
        split = read_splits(StudyFolder(study), plan)[folds]
        indices = fold_indices(groups, split)
        counts = tuple(len(val_indices) for _train_indices, val_indices in indices)
        if counts != plan.split(folds).patches:
            raise DataError(
                f"{data}: its folds have {counts} validation {plan.unit}, not those of the plan;"
                " restore the shards"
            )
        if fraction < 1:
            indices = [
                (take_fraction(groups, patches.labels, train_indices, fraction), val_indices)
                for train_indices, val_indices in indices
            ]
        return self._assemble(plan, data, device, tuple(indices))

    def _load_patches(self, data: str, view: View) -> Patches:
        return load_patches(data, view=view)

    def _copy_to_device(
        self, data: str, view: View, device: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The pixels and the labels on `device`."""
        patches = self._patches(data, view)
        pixels, labels = torch.from_numpy(patches.pixels), torch.from_numpy(patches.labels)
        # The features of slides may exceed the memory of a GPU; each batch is copied to it.
        return pixels if patches.bag_ends is not None else pixels.to(device), labels.to(device)

    def _assemble(self, plan: Plan, data: str, device: str, folds: FoldIndices) -> TrainingData:
        patches = self._patches(data, plan.view)
        pixels, labels = self._device_rows(data, plan.view, device)
        return TrainingData(
            pixels,
            labels,
            patches.patients,
            plan.shape,
            plan.class_names,
            folds,
            tuple(self._auxiliary_rows(plan, shards, device) for shards in plan.auxiliary),
            rows_id(patches, plan.view),
            patches.bag_ends,
        )

    def _auxiliary_rows(self, plan: Plan, shards: Auxiliary, device: str) -> AuxiliaryRows:
        patches = self._patches(shards.data, shards.view)
        if patches.fingerprint != shards.fingerprint:
            raise DataError(f"{shards.data}: not the shards of the plan; restore them")
        labels = torch.from_numpy(mapped_labels(patches, plan.class_names))
        return AuxiliaryRows(
            self._device_rows(shards.data, shards.view, device)[0],
            labels.to(device),
            rows_id(patches, shards.view),
        )


# The cache of this process.
WORKER_CACHE = WorkerCache()


def rows_id(patches: Patches, view: View) -> str:
    """Identify the patches that a view shows of some shards."""
    return f"{patches.fingerprint}-{view.key}"


def _sample(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `MAX_REFIT_VALIDATION_ROWS` of `rows`, evenly spaced."""
    return rows[:: -(-len(rows) // MAX_REFIT_VALIDATION_ROWS)]
