"""Evaluates a model on an external test set, none of whose patients it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from raysearch.champion.model_artifact import AuxiliaryDataRecord, TrainingDataRecord
from raysearch.config.names import LABEL
from raysearch.data.shards.patches import Patches, load_patches
from raysearch.data.shards.rows import Rows, View, load_hashes, load_rows
from raysearch.errors import DataError, UserError
from raysearch.inference.model_loading import Model, ProgressCallback, predict_proba
from raysearch.metrics.evaluation import ScoredRows
from raysearch.testing.test_results import (
    HELD_OUT,
    EvaluationRecord,
    ScoredTestSet,
    default_set_name,
)


@dataclass(frozen=True)
class ExternalTestSet:
    """Labeled shards on which a model is evaluated.

    Attributes:
        data: Path or address of the shards.
        task: The task whose labels are the truth.
        name: The name of the test set; by default, the last part of its address.
        class_map: The model's name of each class that the shards name differently.
    """

    data: str
    task: str = LABEL
    name: str | None = None
    class_map: Mapping[str, str] = field(default_factory=dict)

    def mapped_classes(self, rows: Rows) -> tuple[str, ...]:
        """Return the model's names of the classes of `rows`.

        Raises:
            DataError: If `class_map` names a class that the rows do not have.
        """
        unknown = sorted(set(self.class_map) - set(rows.class_names))
        if unknown:
            raise DataError(
                f"--class-map {unknown[0]}=...: not a class of {self.data}; its classes are"
                f" {', '.join(rows.class_names)}"
            )
        return tuple(self.class_map.get(name, name) for name in rows.class_names)


def score_external_test_set(
    model: Model, test_set: ExternalTestSet, on_progress: ProgressCallback
) -> ScoredTestSet:
    """Predict the rows of an external test set.

    Args:
        model: The model.
        test_set: The test set.
        on_progress: Called with the number of scored patches, and of all patches.

    Returns:
        The predictions. If the model's training data is gone, a note of the record says that
        leakage was not checked.

    Raises:
        DataError: If the patches have another size or other classes than the model's, or a patient
            or a patch is in its training data.
    """
    data, name = test_set.data, test_set.name or default_set_name(test_set.data)
    if name == HELD_OUT:
        raise DataError(
            f"--name {HELD_OUT}: reserved for the study's own test set; choose another name"
        )
    artifact, view = model.artifact, View(test_set.task)
    rows = load_rows(data, view)
    rows = replace(rows, class_names=test_set.mapped_classes(rows))
    _reject_incompatible(model, rows, data)
    notes = _reject_leakage(artifact.training_data, rows, data, view)
    patches = load_patches(data, view=view)
    patches = _with_model_labels(patches, rows.class_names, artifact.class_names)
    probabilities = predict_proba(model, patches.pixels, on_progress)
    scored = ScoredRows(
        patches.labels,
        probabilities,
        patches.patients,
        artifact.class_names,
        artifact.threshold,
    )
    record = EvaluationRecord(
        name=name,
        data=data,
        fingerprint=patches.fingerprint,
        model=model.name,
        trial=artifact.trial,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        class_names=artifact.class_names,
        threshold=artifact.threshold,
        notes=(*rows.warnings, *notes),
        repeat_seed=artifact.repeat_seed,
    )
    return ScoredTestSet(patches, scored, record)


def _reject_incompatible(model: Model, rows: Rows, data: str) -> None:
    """Reject rows whose size or classes are not the model's."""
    artifact = model.artifact
    if rows.shape != artifact.shape:
        actual, required = (f"{shape[1]}x{shape[0]}" for shape in (rows.shape, artifact.shape))
        raise DataError(
            f"{data}: its patches have {actual} pixels, but {model.name} takes {required}; create"
            f" the shards again with --size {required}"
        )
    unknown = sorted(set(rows.class_names) - set(artifact.class_names))
    if unknown:
        raise DataError(
            f"{data}: {unknown[0]!r} is not a class of {model.name}, whose classes are"
            f" {', '.join(artifact.class_names)}; name the right task with --task, or map the class"
            f" with --class-map {unknown[0]}=NAME"
        )


def _reject_leakage(
    training_data: TrainingDataRecord, rows: Rows, data: str, view: View
) -> list[str]:
    """Reject rows whose patients or pixels are in the model's training data.

    Returns:
        A note for each part of the training data that cannot be read.
    """
    notes = []
    main = AuxiliaryDataRecord(training_data.data, training_data.view)
    for shards in (main, *training_data.auxiliary):
        try:
            train_rows = load_rows(shards.data, shards.view)
            train_hashes = load_hashes(shards.data, shards.view)
        except UserError as error:
            notes.append(f"leakage from the training data was not checked: {error}")
            continue
        shared = sorted(set(rows.patients.tolist()) & set(train_rows.patients.tolist()))
        if shared:
            raise DataError(
                f"{data}: {len(shared):,} patients, such as {shared[0]!r}, are in the training data"
                f" {shards.data}; name shards of other patients"
            )
        num_duplicates = int(np.isin(load_hashes(data, view), train_hashes).sum())
        if num_duplicates:
            raise DataError(
                f"{data}: {num_duplicates:,} patches have the same pixels as patches of the"
                f" training data {shards.data}; name shards of other images"
            )
    return notes


def _with_model_labels(
    patches: Patches, class_names: tuple[str, ...], model_classes: tuple[str, ...]
) -> Patches:
    """Convert labels that index `class_names` to labels that index `model_classes`."""
    indices = np.array([model_classes.index(name) for name in class_names], np.int64)
    return replace(patches, labels=indices[patches.labels], class_names=model_classes)
