"""Evaluates a model on an external test set, none of whose patients it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from raysearch.champion.model_artifact import ModelArtifact
from raysearch.champion.training_record import (
    TrainingDataRecord,
    find_key,
    make_training_record,
)
from raysearch.config.names import LABEL
from raysearch.data.audit.train_test_overlap import PatchOrigins, read_origins, textured_files
from raysearch.data.pseudonyms import PseudonymKey
from raysearch.data.shards.patches import Patches, load_patches
from raysearch.data.shards.rows import Rows, View, load_rows
from raysearch.errors import DataError, UserError
from raysearch.inference.model_loading import Model, ProgressCallback, predict_proba
from raysearch.inference.training_scores import shift_notes
from raysearch.inference.unfinished_scores import UnfinishedScores
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.score_shift import PatientScores
from raysearch.models import is_bag_shape
from raysearch.search.study.stored_study import read_plan
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
        other_patients: Whether the user declares that patients with the names of training patients
            are other ones, such as those of another hospital.
    """

    data: str
    task: str = LABEL
    name: str | None = None
    class_map: Mapping[str, str] = field(default_factory=dict)
    other_patients: bool = False

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
        on_progress: Called with the number of scored rows, and of all rows.

    Returns:
        The predictions. Notes of the record say what was not compared because the training data of
        a study is gone, or the key of a registered model's patients is not at hand; and whether the
        scores are unlike those of the training set.

    Raises:
        DataError: If the patches have another size or other classes than the model's, or a patient
            or a patch is in its training data. Equal file names and patches of a single color are
            no evidence of that.
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
    notes = _reject_leakage(model, test_set)
    patches = load_patches(data, view=view)
    patches = _with_model_labels(patches, rows.class_names, artifact.class_names)
    unfinished = UnfinishedScores(model.content_hash, patches.fingerprint, view.key)
    probabilities = predict_proba(model, patches.inputs, on_progress, stored=unfinished)
    unfinished.remove()
    scored = ScoredRows(
        patches.labels,
        probabilities,
        patches.patients,
        artifact.class_names,
        artifact.threshold,
        artifact.unit,
    )
    new_scores = PatientScores(probabilities, patches.patients, patches.labels, artifact.unit)
    notes += shift_notes(model, new_scores)
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
    if artifact.is_of_bags or is_bag_shape(rows.shape):
        _reject_other_features(artifact, rows, data)
    elif rows.shape != artifact.shape:
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


def _reject_other_features(artifact: ModelArtifact, rows: Rows, data: str) -> None:
    """Reject images for a model of slides, the reverse, and another number of features."""
    if artifact.is_of_bags and is_bag_shape(rows.shape):
        if rows.shape[1] != artifact.shape[1]:
            raise DataError(
                f"{data}: {rows.shape[1]:,} features of each patch, and the model takes"
                f" {artifact.shape[1]:,}; give slides of the same encoder"
            )
        return
    kinds = ("images", "features of slides")
    raise DataError(
        f"{data}: {kinds[is_bag_shape(rows.shape)]}, and the model takes"
        f" {kinds[artifact.is_of_bags]}; give shards of the same kind"
    )


def _reject_leakage(model: Model, test_set: ExternalTestSet) -> list[str]:
    """Reject a test set whose patients or pixels are in the model's training data.

    Returns:
        A note for each comparison that is not possible.
    """
    try:
        record, key = _training_data_of(model)
    except UserError as error:
        return [f"leakage from the training data was not checked: {error}"]
    if record is None:
        return ["leakage from the training data was not checked: the model has no record of it"]
    origins = read_origins(test_set.data, View(test_set.task))
    notes = _reject_shared_patients(model, record, key, origins, test_set)
    matches = textured_files(origins, record.contains_patches(origins.pixel_hashes))
    if matches:
        unit = model.artifact.unit
        content, kind = ("features", unit) if model.artifact.is_of_bags else ("pixels", "images")
        raise DataError(
            f"{test_set.data}: {len(matches):,} {unit} have the same {content} as {unit} of the"
            f" training data of {model.name}, such as {matches[0]!r}; name shards of other {kind}"
        )
    return notes


def _training_data_of(model: Model) -> tuple[TrainingDataRecord | None, PseudonymKey | None]:
    """Return the record of a registered model, or make that of a study's model; and its key.

    The key is None if it is not at hand.

    Raises:
        UserError: If the training data of the study cannot be read.
    """
    record = model.training_data
    if model.study is None:
        return record, None
    if record is None:
        key = PseudonymKey.random()  # of this comparison alone: nothing is written to the study
        return make_training_record(read_plan(model.study), key), key
    return record, find_key(record, model.study)


def _reject_shared_patients(
    model: Model,
    record: TrainingDataRecord,
    key: PseudonymKey | None,
    origins: PatchOrigins,
    test_set: ExternalTestSet,
) -> list[str]:
    """Reject patients with the names of training patients, unless they are declared to be others.

    Returns:
        A note if names are equal, or are not compared.
    """
    if key is None:
        return [
            "the names of the patients were not compared with those of the training data: their key"
            f" is not in a folder of the study {model.artifact.study!r} that can be read; name the"
            " folder of all studies with --studies"
        ]
    shared = record.shared_patients(np.array(sorted(origins.known_patients), np.str_), key)
    if not shared:
        return []
    if not test_set.other_patients:
        raise DataError(
            f"{test_set.data}: {len(shared):,} patients, such as {shared[0]!r}, are in the training"
            f" data of {model.name}; name shards of other patients, or declare with"
            " --other-patients that only their names are equal"
        )
    return [
        f"{len(shared):,} patients have the names of patients of the training data;"
        " --other-patients declares that they are others"
    ]


def _with_model_labels(
    patches: Patches, class_names: tuple[str, ...], model_classes: tuple[str, ...]
) -> Patches:
    """Convert labels that index `class_names` to labels that index `model_classes`."""
    indices = np.array([model_classes.index(name) for name in class_names], np.int64)
    return replace(patches, labels=indices[patches.labels], class_names=model_classes)
