"""Loads a trained model from a study, the model registry or a folder, and predicts with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from math import isclose, nan
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.champion.model_artifact import (
    ModelArtifact,
    pack_model_artifact,
    unpack_model_artifact,
)
from raysearch.champion.stored_champion import load_champion
from raysearch.champion.training_record import TrainingDataRecord
from raysearch.config.code_importer import CODE_IMPORTER
from raysearch.config.names import NAME
from raysearch.data.shards.bags import Bags
from raysearch.data.shards.patches import Inputs
from raysearch.errors import StudyError, UserError, shortened
from raysearch.models.classifier import Classifier
from raysearch.models.encoders.encoder_files import EncoderFile
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.frozen_encoders import local_encoder_file
from raysearch.search.study.stored_study import load_study, read_plan
from raysearch.search.tracking.model_registry import ALIAS, ARTIFACT_PATH, load_registered_model
from raysearch.search.tracking.tracking_store import default_store

# Called with the number of finished items, and of all items.
ProgressCallback = Callable[[int, int], None]
REGISTRY_PREFIX = "models:/"
BATCH_SIZE = 512
# Tags have six digits of a number.
TAG_PRECISION = 1e-5


class ScoreStore(Protocol):
    """Keeps the probabilities of the first patches of a set while the others are scored."""

    def read(self, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
        """Return the probabilities so far of a set with that shape (N, C); None if there are none.

        Their number is a multiple of the batch size.
        """

    def write_if_due(self, probabilities: NDArray[np.float64]) -> None:
        """Keep the probabilities so far, unless that was done a moment ago."""


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        artifact: Its description.
        classifier: Its networks: uint8 patches, or features of slides, in, and calibrated
            probabilities out.
        content_hash: A hash over the description and the weights.
        training_data: The record of its training data; None if the model comes from its study,
            whose plan tells the training data.
        study: The folder of the study that trained it; None if it is not at hand.
    """

    artifact: ModelArtifact
    classifier: Classifier
    content_hash: str
    training_data: TrainingDataRecord | None = None
    study: StudyFolder | None = None

    @property
    def name(self) -> str:
        """The study and the trial, in words."""
        num_members = self.artifact.num_members
        kind = f", an ensemble of {num_members}" if num_members > 1 else ""
        return f"{self.artifact.study}, trial {self.artifact.trial}{kind}"


def load_model(address: str, studies: str, *, allow_code: bool = False) -> Model:
    """Load a model without unpickling anything.

    Args:
        address: The name of a study in `studies`, `models:/NAME@champion`, `models:/NAME/VERSION`,
            or a folder with a registered model.
        studies: The folder of all studies.
        allow_code: Whether to run the code that is stored with the model, such as its network.

    Raises:
        CodeNotAllowedError: If it needs code, and `allow_code` is false.
        StudyError: If there is no model, it is damaged, or no study of this package registered it.
        EncoderFileError: If the weights of its frozen encoder are not part of it, and this machine
            does not have them.
    """
    with CODE_IMPORTER.trusting(is_trusted=allow_code):
        return _load(address, studies)


def _load(address: str, studies: str) -> Model:
    """Load a model, whose code this process may run or not."""
    if address.startswith(REGISTRY_PREFIX):
        registered = load_registered_model(address, default_store())
        model = model_from_artifact(registered.artifact, address, studies)
        return _with_study(_with_registered_threshold(model, registered.tags), studies)
    folder = StudyFolder(f"{studies}/{address}")
    if folder.exists(folder.PLAN):
        return _load_from_study(folder)
    file = Path(address) / ARTIFACT_PATH
    if file.is_file():
        return _with_study(model_from_artifact(file.read_bytes(), str(file), studies), studies)
    if (Path(address) / "MLmodel").is_file():
        raise StudyError(
            f"{address}: no study registered this model, and loading it would run code from its"
            " files; name a model that `raysearch launch` registered"
        )
    raise StudyError(
        f"{address}: no model; name a study in {studies}, {REGISTRY_PREFIX}NAME@{ALIAS}, or a"
        " folder with a registered model"
    )


def model_from_artifact(content: bytes, source: str, studies: str = "") -> Model:
    """Unpack a model file.

    Args:
        content: The content of the file.
        source: Where it comes from, for error messages.
        studies: The folder of all studies, where the study that trained the model may be; empty if
            it is not searched for.

    Raises:
        StudyError: If it is damaged or has another format.
        EncoderFileError: If the weights of its frozen encoder are not part of it, and this machine
            does not have them.
    """
    try:
        stored = unpack_model_artifact(content, partial(_find_encoder, studies))
    except ValueError as error:
        raise StudyError(
            f"{source}: {error}; register the champion again with `raysearch select`"
        ) from None
    if stored.training_data is not None:
        content = pack_model_artifact(stored.artifact, stored.classifier)
    return Model(
        stored.artifact, stored.classifier, sha256(content).hexdigest(), stored.training_data
    )


def _load_from_study(folder: StudyFolder) -> Model:
    study = load_study(folder)
    artifact, classifier = load_champion(folder, study.plan, study.history)
    content = pack_model_artifact(artifact, classifier)
    return Model(artifact, classifier, sha256(content).hexdigest(), study=folder)


def _find_encoder(studies: str, artifact: ModelArtifact, record: EncoderFile) -> Path:
    """Return the file of a frozen encoder; the study of the model, if at hand, knows its path."""
    folder = _study_folder(artifact, studies) if studies else None
    if folder is not None:
        try:
            study = load_study(folder)
        except UserError:  # a study that cannot be read is not at hand
            return local_encoder_file(None, artifact.hparams, record, artifact.encoder)
        hparams = study.history.trials[artifact.trial].hparams
        return local_encoder_file(study.plan, hparams, record, artifact.encoder)
    return local_encoder_file(None, artifact.hparams, record, artifact.encoder)


def _study_folder(artifact: ModelArtifact, studies: str) -> StudyFolder | None:
    """Return the folder of the study that trained a model, if it is one of `studies`."""
    if not NAME.fullmatch(artifact.study):
        return None
    folder = StudyFolder(f"{studies}/{artifact.study}")
    try:
        is_at_hand = (
            folder.exists(folder.PLAN) and read_plan(folder).identity == artifact.study_identity
        )
    except UserError:
        return None
    return folder if is_at_hand else None


def _with_study(model: Model, studies: str) -> Model:
    """Add the folder of the study that trained the model, if it is one of `studies`."""
    return replace(model, study=_study_folder(model.artifact, studies))


def study_folder(model: Model) -> StudyFolder:
    """Return the folder of the study that trained a model.

    Raises:
        StudyError: If it is not at hand.
    """
    if model.study is None:
        raise StudyError(
            f"no folder of the study {model.artifact.study!r} can be read; name the folder of all"
            " studies with --studies"
        )
    return model.study


def _with_registered_threshold(model: Model, tags: Mapping[str, str]) -> Model:
    """Apply the threshold in the version's tags, which a later selection may have changed."""
    if "threshold" not in tags:
        return model
    try:
        threshold = float(tags["threshold"])
    except ValueError:
        threshold = nan
    if not 0 <= threshold <= 1:
        raise StudyError(
            f"the tag `threshold` of the registered version is {shortened(tags['threshold'])!r}, no"
            " number from 0 to 1; correct it, or run `raysearch select`"
        )
    if model.artifact.threshold is not None and isclose(
        threshold, model.artifact.threshold, rel_tol=TAG_PRECISION
    ):
        return model  # the tag is the model's own threshold, rounded
    return replace(model, artifact=replace(model.artifact, threshold=threshold))


def no_progress(_num_done: int, _num_patches: int) -> None:
    """Show nothing."""


@torch.inference_mode()
def predict_proba(
    model: Model,
    inputs: Inputs,
    on_progress: ProgressCallback = no_progress,
    batch_size: int = BATCH_SIZE,
    stored: ScoreStore | None = None,
    device: str | None = None,
) -> NDArray[np.float64]:
    """Predict the calibrated class probabilities of patches.

    Args:
        model: The model.
        inputs: Patches, uint8 (N, H*W*3), or slides, which are scored one after another.
        on_progress: Called with the number of scored patches, and of all patches.
        batch_size: Patches per batch.
        stored: Keeps the probabilities so far, from which an interrupted call continues; None to
            begin with the first patch.
        device: Where to compute; None for a GPU if there is one, else the CPU.

    Returns:
        Probabilities, (N, C).

    Raises:
        StudyError: If a probability is not finite.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    classifier = model.classifier.to(device)
    batch_size = 1 if isinstance(inputs, Bags) else batch_size
    probabilities = np.empty((len(inputs), len(model.artifact.class_names)))
    first = 0
    if stored is not None and (scored := stored.read(probabilities.shape)) is not None:
        first = len(scored)
        probabilities[:first] = scored
        on_progress(first, len(inputs))
    for start in range(first, len(inputs), batch_size):
        batch = _batch(model, inputs, start, batch_size)
        end = start + len(batch)
        output = classifier(batch.to(device))
        probabilities[start:end] = output.double().cpu().numpy()
        if stored is not None:
            stored.write_if_due(probabilities[:end])
        on_progress(end, len(inputs))
    invalid = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(invalid):
        raise StudyError(
            f"{model.name} gives no finite probability for {len(invalid):,} of {len(inputs):,}"
            f" {model.artifact.unit}, the first of them row {invalid[0]}; select another champion"
            " with `raysearch select`"
        )
    return probabilities


def _batch(model: Model, inputs: Inputs, start: int, batch_size: int) -> torch.Tensor:
    """Return a batch of patches, uint8 (B, H, W, 3), or one slide, float32 (1, patches, D)."""
    if isinstance(inputs, Bags):
        return torch.from_numpy(inputs[start].astype(np.float32)).unsqueeze(0)
    pixels = np.ascontiguousarray(inputs[start : start + batch_size])
    return torch.from_numpy(pixels).view(-1, *model.artifact.shape)
