"""Models with random weights, as they are loaded from a study."""

from __future__ import annotations

from typing import Any

import torch

from raysearch.champion.model_artifact import ModelArtifact
from raysearch.inference.model_loading import Model

SIDE = 24


def untrained_model(
    shape: tuple[int, int, int] = (SIDE, SIDE, 3),
    class_names: tuple[str, ...] = ("negative", "positive"),
    members: int = 1,
    **hparams: Any,
) -> Model:
    """A model with random weights and a temperature of 1.7."""
    torch.manual_seed(0)
    artifact = ModelArtifact(
        study="made",
        study_identity="0" * 32,
        trial="t0000",
        hparams=hparams or {"architecture": "cnn", "width": 4, "convolutions": 1},
        shape=shape,
        class_names=class_names,
        temperature=1.7,
        threshold=0.4 if len(class_names) == 2 else None,
        num_members=members,
    )
    return Model(artifact, artifact.build_untrained(), "0" * 64)
