"""Creates the plan of a new study, and compares it with that of a stored one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.config.component_section import user_code
from raysearch.config.custom_code import load_metrics
from raysearch.config.hyperparameter_spec import Hparams, Value
from raysearch.config.names import BAG_ARCHITECTURES, FOLDS, NAME
from raysearch.config.report_interval import min_reports
from raysearch.config.space import Space
from raysearch.data.files import Folder
from raysearch.data.shards.rows import Rows, View, load_rows
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.splits.folds import Fold, fold_indices, split_hash
from raysearch.data.splits.split_creation import load_or_create_split_manifest
from raysearch.data.splits.split_manifest import SplitManifest
from raysearch.errors import DataError, SpaceError, StudyError
from raysearch.metrics.classification import classification_metrics
from raysearch.metrics.custom_metric import custom_metric, takes_weights
from raysearch.metrics.row_units import singular
from raysearch.models import PatchShape, is_bag_shape, row_unit
from raysearch.models.patch_limits import is_accepted_shape
from raysearch.search.journal.codec import record_to_json
from raysearch.search.scheduling.cost_estimate import SimulatedSearch
from raysearch.search.scheduling.policy import rule_of
from raysearch.search.study.augmentation_checks import check_center
from raysearch.search.study.auxiliary_data import find_auxiliary
from raysearch.search.study.plan import Plan, Split, Splits

# Characters of a hash in a message.
HASH_LENGTH = 12


@dataclass(frozen=True)
class NewStudyFiles:
    """What a new study stores beside its plan.

    Args:
        splits: The folds of each split scheme, by their number.
        split_manifest: The split manifest to add to the shards; None if they have it.
        memory: The content of the file with the trials of earlier studies; empty if there are none.
    """

    splits: Splits
    split_manifest: SplitManifest | None = None
    memory: bytes = b""


def make_plan(
    space: Space, name: str, data: str, split_manifest: SplitManifest | None = None
) -> tuple[Plan, Splits]:
    """Create the plan of the study `name` over the shards at `data`.

    The caller checks that the architectures accept the patches: `are_known_to_be_accepted`.

    Args:
        space: The search space.
        name: Name of the study.
        data: Address of the shards.
        split_manifest: The split manifest; by default the one that the shards have or would get.

    Returns:
        The plan, and the folds of each split scheme by their number.

    Raises:
        DataError: If the shards or the folds cannot be used.
        SpaceError: If the name is invalid, the budget is less than the cost of one trial, or an
            augmentation moves the center on which the labels depend.
    """
    if not NAME.fullmatch(name):
        raise SpaceError(
            f"--name {name!r}: invalid name; use letters, digits, '.', '_' and '-', at most 100"
        )
    split_manifest = split_manifest or split_manifest_of(space, data)[0]
    view = View(split_manifest.task, split_manifest.by, split_manifest.held_out)
    rows = load_rows(data, view)
    for architecture in space.values_of("architecture"):
        _check_kind_of_data(str(architecture), rows.shape)
    check_center(space, rows.shape, rows.center)
    for address in space.auxiliary:
        center = read_manifest(Folder(address)).center
        check_center(space, rows.shape, center, f"auxiliary {address}")
    _check_metrics(space, rows)
    schemes = [split_manifest.schemes[scheme] for scheme in space.schemes()]
    splits = {len(folds): folds for folds in schemes}
    if space.validation != FOLDS:
        space = space.with_folds(*splits)
    _check_budget(space, min_reports(space))
    auxiliary = tuple(find_auxiliary(address, view, data) for address in space.auxiliary)
    auxiliary_warnings = [
        f"auxiliary {shards.data}: {warning}" for shards in auxiliary for warning in shards.warnings
    ]
    plan = Plan(
        name=name,
        identity=uuid.uuid4().hex,
        space=space,
        data=data,
        fingerprint=rows.fingerprint,
        shape=rows.shape,
        class_names=tuple(rows.class_names),
        class_counts=tuple(
            int((rows.labels == label).sum()) for label in range(len(rows.class_names))
        ),
        splits=tuple(_split(space, rows, view.by, folds) for folds in splits.values()),
        view=view,
        split_manifest=split_manifest.hash,
        auxiliary=auxiliary,
        warnings=(*rows.warnings, *split_manifest.leaks, *auxiliary_warnings),
        git_commit=_git_commit(),
        code=user_code(space),
        tile_settings=rows.tile_settings,
    )
    return plan, splits


def _check_metrics(space: Space, rows: Rows) -> None:
    """Call each metric of the user's with the labels of the study and random probabilities.

    Raises:
        SpaceError: If it raises an exception, or returns no finite number.
    """
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(len(rows.class_names)), len(rows.labels))
    for name, function in load_metrics(space.custom_metrics).items():
        ways = [None, np.ones(len(rows.labels))] if takes_weights(function) else [None]
        for sample_weight in ways:
            if custom_metric(function, rows.labels, probabilities, sample_weight) is None:
                raise SpaceError(
                    f"metric {name}: it is undefined for the labels of the shards and random"
                    " probabilities; return a finite number, without a ValueError or an"
                    " ArithmeticError"
                )


def _check_kind_of_data(architecture: str, shape: PatchShape) -> None:
    """Raise SpaceError if a network of images is to be trained on bags, or the reverse."""
    if is_bag_shape(shape) == (architecture in BAG_ARCHITECTURES):
        return
    names = ", ".join(BAG_ARCHITECTURES)
    if is_bag_shape(shape):
        raise SpaceError(
            f"architecture {architecture} takes images, and the shards have features of slides;"
            f" choose {names}"
        )
    raise SpaceError(
        f"architecture {architecture} takes features of slides, and the shards have images; compute"
        " them with `raysearch features`, or choose a network of images"
    )


def are_known_to_be_accepted(space: Space, shape: PatchShape) -> bool:
    """Return whether all architectures of `space` accept patches of `shape`, without weights.

    If not, `raysearch.search.study.architecture_checks` builds the networks to decide it.
    """
    return all(
        is_accepted_shape(architecture, shape, variant)
        and set(space.weights_of(architecture)) <= {"none"}
        for architecture, hparams in space.largest_networks().items()
        for variant in input_variants(space, hparams)
    )


def input_variants(space: Space, hparams: Hparams) -> list[dict[str, Value]]:
    """Return `hparams` with each way in which patches are resized, and features are made of them.

    Of a range, these are its ends.
    """
    names = [name for name in ("input_size", "resize", "adaptation", "features") if name in hparams]
    ways = [hparam.values for hparam in space.hparams if hparam.name in names]
    order = [hparam.name for hparam in space.hparams if hparam.name in names]
    return [{**hparams, **dict(zip(order, way, strict=True))} for way in product(*ways)]


def split_manifest_of(space: Space, data: str) -> tuple[SplitManifest, bool]:
    """The split manifest of a study of `space` over the shards at `data`, and whether it is new."""
    return load_or_create_split_manifest(data, space.split, space.task, space.schemes())


def expected_study_fold_epochs(plan: Plan, search: SimulatedSearch) -> int:
    """Estimate the cost of a study: its simulated search, the benchmark and a refit."""
    folds = min(split.folds for split in plan.splits)
    return search.fold_epochs + plan.total_fold_epochs(folds) + plan.refit_epochs


def reject_changes(stored: Plan, new: Plan) -> None:
    """Raise StudyError with every difference between the plan of a study and a new one."""
    stored_settings, new_settings = _settings(stored, new), _settings(new, stored)
    changes = [
        f"{name} was {stored_settings.get(name, 'absent')}, is {new_settings.get(name, 'absent')}"
        for name in sorted(stored_settings.keys() | new_settings.keys())
        if stored_settings.get(name) != new_settings.get(name)
    ]
    if changes:
        raise StudyError(
            f"study {stored.name!r} cannot be resumed with another space: {'; '.join(changes)};"
            " restore the old values, or launch under another --name"
        )


def _settings(plan: Plan, other: Plan) -> dict[str, str]:
    """The settings of `plan` as text, with hashes of as many auxiliary shards as `other` has."""
    settings = plan.space.settings()
    for number, (shards, _other) in enumerate(zip(plan.auxiliary, other.auxiliary, strict=False)):
        settings[f"auxiliary {number}"] = shards.fingerprint[:HASH_LENGTH]
    if plan.weights and other.weights:  # a plan of format 2 has no hashes
        for file in plan.weights:
            settings[f"weights {file.weights} of {file.architecture}"] = file.sha256[:HASH_LENGTH]
    for encoder in plan.encoders:
        content = json.dumps(record_to_json(encoder), sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        settings[f"encoder {encoder.name}"] = digest[:HASH_LENGTH]
    settings |= {f"code {file.path}": file.sha256[:HASH_LENGTH] for file in plan.code.files}
    settings |= {f"package {name}": "installed" for name in plan.code.distributions}
    settings |= {"code": plan.code.sha256} if plan.code.import_paths else {}
    settings["data"] = plan.fingerprint[:HASH_LENGTH]
    settings["split"] = plan.splits[0].hash[:HASH_LENGTH]
    return settings


def _check_budget(space: Space, min_fold_epochs: int) -> None:
    max_fold_epochs = space.budget.fold_epochs
    if max_fold_epochs is not None and max_fold_epochs < min_fold_epochs:
        raise SpaceError(
            f"budget.fold_epochs: {max_fold_epochs} is less than the {min_fold_epochs} of one trial"
            f" over its folds; use {min_fold_epochs} or more"
        )


def _split(space: Space, rows: Rows, by: str, folds: Sequence[Fold]) -> Split:
    """Describe `folds` for the plan; DataError if the objective is undefined in one of them."""
    groups = rows.groups(by)
    indices, visible_groups = fold_indices(groups, folds), set(groups.tolist())
    for number, (train_indices, val_indices) in enumerate(indices):
        _check_classes(space, rows, number, train_indices, val_indices)
    return Split(
        folds=len(folds),
        hash=split_hash(folds),
        patients=tuple(len(visible_groups.intersection(fold.validation)) for fold in folds),
        patches=tuple(len(val_indices) for _train_indices, val_indices in indices),
        rungs=rule_of(space).levels(len(folds), space.epochs),
    )


def _check_classes(
    space: Space,
    rows: Rows,
    number: int,
    train_indices: NDArray[np.int64],
    val_indices: NDArray[np.int64],
) -> None:
    """Raise DataError if fold `number` lacks a class that its training or its metric needs."""
    train_counts, val_counts = (
        np.bincount(rows.labels[indices], minlength=len(rows.class_names))
        for indices in (train_indices, val_indices)
    )
    row = singular(row_unit(rows.shape))
    if not train_counts.all():
        raise DataError(
            f"fold {number}: no training {row} has class"
            f" {rows.class_names[int(train_counts.argmin())]}; choose other folds, or add patients"
        )
    if not val_counts.all() and not _is_defined(space, rows, val_indices):
        raise DataError(
            f"fold {number}: no validation {row} has class"
            f" {rows.class_names[int(val_counts.argmin())]}, and {space.metric} is undefined"
            " without it; choose `objective: {metric: log_loss}`, brier or accuracy, or folds with"
            " more patients"
        )


def _is_defined(space: Space, rows: Rows, indices: NDArray[np.int64]) -> bool:
    num_classes = len(rows.class_names)
    uniform = np.full((len(indices), num_classes), 1 / num_classes)
    custom = load_metrics(space.custom_objective)
    metrics = classification_metrics(rows.labels[indices], uniform, rows.class_names, custom)
    return metrics[space.metric] is not None


def _git_commit() -> str:
    """The commit of the installed source; empty if it is no git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""
