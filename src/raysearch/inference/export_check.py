"""Rejects models that are not exported, and compares an exported model with its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.champion.model_artifact import ModelArtifact
from raysearch.config.hyperparameters import resolve
from raysearch.config.names import FROZEN, NO_WEIGHTS
from raysearch.errors import StudyError, first_line
from raysearch.inference.check_patches import PatchSet
from raysearch.inference.model_loading import Model, predict_proba
from raysearch.models.encoders.encoder_files import license_of_weights
from raysearch.models.weights.weights_license import WeightsLicense
from raysearch.search.study.frozen_encoders import FORBIDDEN, license_terms

# The largest difference of a probability from that of the model.
TOLERANCE = 1e-5
BATCH_SIZE = 16

# Maps uint8 patches (N, H, W, 3) to probabilities (N, classes).
Predictor = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Comparison:
    """The comparison of an exported model with its model.

    Attributes:
        patches: What was compared, in words.
        num_patches: Number of these patches.
        max_difference: The largest difference of a probability from that of the model.
    """

    patches: str
    num_patches: int
    max_difference: float

    def __str__(self) -> str:
        return f"{self.num_patches} {self.patches}"


@dataclass(frozen=True)
class ExportedModel:
    """An exported model.

    Attributes:
        format: Its format.
        out: The file or the folder.
        model: The study and the trial, in words.
        num_bytes: Size of the file, or of the file with the network.
        shape: (H, W, 3) of a patch.
        class_names: The classes in the order of the probabilities.
        threshold: Smallest probability of the second class that counts as positive; None for more
            than two classes.
        max_difference: The largest difference of a probability from that of the model.
        comparisons: The comparisons with the model.
        mpp: The side of a pixel of a patch in micrometres, if the format has it.
        notes: What the user should know about it.
    """

    format: str
    out: Path
    model: str
    num_bytes: int
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    threshold: float | None
    max_difference: float
    comparisons: tuple[Comparison, ...]
    mpp: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: Model,
        model_format: str,
        out: Path,
        num_bytes: int,
        comparisons: tuple[Comparison, ...],
    ) -> ExportedModel:
        """Describe the export of a model."""
        artifact = model.artifact
        return cls(
            model_format,
            out,
            model.name,
            num_bytes,
            artifact.shape,
            artifact.class_names,
            artifact.threshold,
            max(comparison.max_difference for comparison in comparisons),
            comparisons,
        )


def check_exportable(model: Model) -> None:
    """Check what is known of a model before the attempt to export it.

    Raises:
        StudyError: If it is of slides, or the license of its encoder does not let its weights be
            passed on, as far as that is known.
    """
    artifact = model.artifact
    if artifact.is_of_bags:
        raise StudyError(
            f"{model.name} is a model of slides, which is not exported; use the registered model"
        )
    weights_license = _frozen_license(artifact)
    if weights_license is not None and weights_license.copies == FORBIDDEN:
        raise StudyError(
            f"{model.name} is not exported with the weights of its encoder:"
            f" {license_terms(weights_license)}; use the registered model"
        )
    if artifact.encoder_file is not None:
        raise StudyError(
            f"{model.name} has no copy of its encoder, whose license is not known to allow one; say"
            " that you may pass it on with `raysearch select --with-encoder`"
        )


def _frozen_license(artifact: ModelArtifact) -> WeightsLicense | None:
    """Return the license of the weights of a frozen encoder; None if it is unknown."""
    params = resolve(artifact.hparams)
    if params.adaptation != FROZEN or params.weights == NO_WEIGHTS:
        return None
    return license_of_weights(params.architecture, params.weights, artifact.encoder)


def not_exported(model: Model, library: str, error: Exception) -> StudyError:
    """Name the part of a model that a library does not have, or what its exporter says."""
    preprocess = model.artifact.hparams.get("preprocess", "none")
    architecture = model.artifact.hparams.get("architecture")
    reason = first_line(error.__cause__ or error, 100)
    return StudyError(
        f"{model.name} (architecture {architecture}, preprocess {preprocess}) has a part that"
        f" {library} does not have ({reason}); use the registered model"
    )


def compare(
    model: Model, exported: Predictor, patch_sets: Sequence[PatchSet]
) -> tuple[Comparison, ...]:
    """Compare the probabilities of an exported model with those that `predict` computes.

    Both compute on the CPU: the rounding of a GPU differs by more than the tolerance.

    Args:
        model: The model.
        exported: The exported model.
        patch_sets: The patches.

    Raises:
        StudyError: If a probability differs by more than the tolerance.
    """
    comparisons = tuple(_compare(model, exported, patch_set) for patch_set in patch_sets)
    for comparison in comparisons:
        if not comparison.max_difference <= TOLERANCE:
            raise StudyError(
                f"{model.name}: the probabilities of the exported model differ by"
                f" {comparison.max_difference:.1e} for {comparison}, more than {TOLERANCE:g}; use"
                " the registered model"
            )
    return comparisons


def _compare(model: Model, exported: Predictor, patch_set: PatchSet) -> Comparison:
    pixels = patch_set.pixels
    expected = predict_proba(model, pixels.reshape(len(pixels), -1), device="cpu")
    # A batch of a single patch shows that the number of patches is not fixed.
    batches = [exported(pixels[:1])]
    batches += [
        exported(pixels[start : start + BATCH_SIZE]) for start in range(1, len(pixels), BATCH_SIZE)
    ]
    difference = np.abs(np.concatenate(batches) - expected).max()
    return Comparison(patch_set.name, len(pixels), float(difference))
