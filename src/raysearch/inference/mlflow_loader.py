"""Loads registered models without a copy of their encoder for `mlflow.pyfunc`.

The file MLmodel of such a model names this module, and MLflow imports it. The other models are
exported programs, and need no raysearch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.inference.model_loading import model_from_artifact
from raysearch.models.classifier import Classifier
from raysearch.search.tracking.model_registry import ARTIFACT_PATH
from raysearch.search.tracking.served_model import ServedModel


class LoadedNetwork:
    """A classifier in the form that `ServedModel` calls, on the CPU."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    @torch.inference_mode()
    def predict(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities (N, C) of patches, uint8 (N, H, W, 3)."""
        return np.asarray(self._classifier(torch.from_numpy(patches)).numpy(), np.float32)


def _load_pyfunc(path: str, _model_config: object = None) -> ServedModel:
    """Load the model in the folder `path`; MLflow calls this function by its name.

    Raises:
        StudyError: If the model is damaged.
        EncoderFileError: If the weights of its encoder are not on this machine.
    """
    file = Path(path) / ARTIFACT_PATH
    model = model_from_artifact(file.read_bytes(), str(file))
    return ServedModel(LoadedNetwork(model.classifier), model.artifact.served_rule)
