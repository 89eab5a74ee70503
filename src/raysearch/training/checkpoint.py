"""The file format of checkpoints and weights: tensors and plain values behind a hash.

Reading a file runs no code: `torch.load` reads it with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import torch

from raysearch.training.fold_training import FoldTrainerState
from raysearch.training.loop import FoldEpoch, TrainingState
from raysearch.training.optimization import OptimizationState

MAGIC = b"raysearch checkpoint 1\n"
DIGEST_BYTES = 32


def pack(content: Mapping[str, Any]) -> bytes:
    """Serialize tensors and plain values; the bytes begin with the SHA-256 of the rest."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    packed = buffer.getvalue()
    return MAGIC + hashlib.sha256(packed).digest() + packed


def unpack(file: bytes) -> dict[str, Any]:
    """Deserialize the bytes of `pack`, with tensors on the CPU.

    Raises:
        ValueError: If the hash does not match, as in a damaged file or one of another version.
    """
    start = len(MAGIC) + DIGEST_BYTES
    digest, packed = file[len(MAGIC) : start], file[start:]
    if file[: len(MAGIC)] != MAGIC or hashlib.sha256(packed).digest() != digest:
        raise ValueError("the checkpoint's hash does not match its content")
    content = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    return cast("dict[str, Any]", content)


def pack_checkpoint(state: TrainingState) -> bytes:
    """Serialize the state of a training."""
    average, optimization = state.trainer.average, state.trainer.optimization
    return pack(
        {
            "epoch": state.history[-1].epoch,
            "history": [asdict(fold_epoch) for fold_epoch in state.history],
            **({} if average is None else {"average": average}),
            "model": state.trainer.model,
            "stage": optimization.stage,
            "optimizer": optimization.optimizer,
            "schedule": optimization.schedule,
        }
    )


def unpack_checkpoint(file: bytes) -> TrainingState:
    """Deserialize the state of a training.

    Raises:
        ValueError: If the file is damaged, or of another version of raysearch.
    """
    content = unpack(file)
    try:
        optimization = OptimizationState(
            content["stage"], content["optimizer"], content["schedule"]
        )
        trainer = FoldTrainerState(content["model"], optimization, content.get("average"))
        history = tuple(FoldEpoch(**fold_epoch) for fold_epoch in content["history"])
    except (KeyError, TypeError):
        raise ValueError("the checkpoint is of another version of raysearch") from None
    return TrainingState(history, trainer)
