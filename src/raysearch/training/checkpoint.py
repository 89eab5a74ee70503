"""The file format of checkpoints and weights: tensors and plain values behind a hash.

Reading a file runs no code of it (see `raysearch.models.tensor_files`). The hash detects damage,
not forgery.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, cast

import torch
from pydantic import Field, TypeAdapter, ValidationError

from raysearch.models.tensor_files import load_tensors
from raysearch.training.fold_training import FoldTrainerState
from raysearch.training.loop import FoldEpoch, FoldState, TrainingState
from raysearch.training.optimization import OptimizationState

FOLD_EPOCHS = TypeAdapter(Annotated[list[FoldEpoch], Field(min_length=1)])
SCORE_HASHES = TypeAdapter(dict[int, str])
MAGIC = b"raysearch checkpoint 1\n"
DIGEST_BYTES = 32
OTHER_VERSION = "the checkpoint is of another version of raysearch"


def pack(content: Mapping[str, Any]) -> bytes:
    """Serialize tensors and plain values; the bytes begin with the SHA-256 of the rest."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    packed = buffer.getvalue()
    return MAGIC + hashlib.sha256(packed).digest() + packed


def unpack(file: bytes) -> dict[str, Any]:
    """Deserialize the bytes of `pack`, with tensors on the CPU.

    Raises:
        ValueError: If the hash does not match, as in a damaged file or one of another version, or
            the content is not a mapping of tensors and plain values.
    """
    start = len(MAGIC) + DIGEST_BYTES
    digest, packed = file[len(MAGIC) : start], file[start:]
    if file[: len(MAGIC)] != MAGIC or hashlib.sha256(packed).digest() != digest:
        raise ValueError("the checkpoint's hash does not match its content")
    content = load_tensors(io.BytesIO(packed))
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError("the content is no mapping of names to values")
    return cast("dict[str, Any]", content)


def pack_checkpoint(state: TrainingState) -> bytes:
    """Serialize the state of a training."""
    return pack(
        {
            "epoch": state.history[-1].epoch,
            "history": [asdict(fold_epoch) for fold_epoch in state.history],
            **_trainer_content(state.trainer),
            "score_hashes": dict(state.score_hashes),
        }
    )


def pack_fold_checkpoint(state: FoldState, training: str) -> bytes:
    """Serialize the state of the training of one fold.

    Args:
        state: The state.
        training: Identifies the training; `unpack_fold_checkpoint` compares it.
    """
    numbers = {"epochs": state.epochs, "accumulate": state.accumulate}
    return pack({"training": training, **numbers, **_trainer_content(state.trainer)})


def _trainer_content(trainer: FoldTrainerState) -> dict[str, Any]:
    average, optimization = trainer.average, trainer.optimization
    return {
        **({} if average is None else {"average": average}),
        "model": trainer.model,
        "stage": optimization.stage,
        "optimizer": optimization.optimizer,
        "schedule": optimization.schedule,
    }


def unpack_checkpoint(file: bytes) -> TrainingState:
    """Deserialize the state of a training.

    Raises:
        ValueError: If the file is damaged, or of another version of raysearch.
    """
    content = unpack(file)
    try:
        history = tuple(FOLD_EPOCHS.validate_python(content["history"]))
        score_hashes = SCORE_HASHES.validate_python(content["score_hashes"])
    except (KeyError, TypeError, ValidationError):
        raise ValueError(OTHER_VERSION) from None
    return TrainingState(history, _trainer_state(content), score_hashes)


def unpack_fold_checkpoint(file: bytes, training: str) -> FoldState:
    """Deserialize the state of the training of one fold.

    Raises:
        ValueError: If the file is damaged, of another version of raysearch, or of another training.
    """
    content = unpack(file)
    if content.get("training") != training:
        raise ValueError("the checkpoint is of another training")
    numbers = (content.get("epochs"), content.get("accumulate"))
    if not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError(OTHER_VERSION)
    return FoldState(content["epochs"], content["accumulate"], _trainer_state(content))


def pack_scored_weights(objective: float, weights: bytes, training: str) -> bytes:
    """Serialize the packed weights of a finished training, and the objective that they reach."""
    content = torch.frombuffer(bytearray(weights), dtype=torch.uint8)
    return pack({"training": training, "objective": objective, "weights": content})


def unpack_scored_weights(file: bytes, training: str) -> tuple[float, bytes]:
    """Deserialize the objective and the packed weights of a finished training.

    Raises:
        ValueError: If the file is damaged, of another version of raysearch, or of another training.
    """
    content = unpack(file)
    if content.get("training") != training:
        raise ValueError("the weights are of another training")
    objective, weights = content.get("objective"), content.get("weights")
    if not isinstance(objective, float) or not isinstance(weights, torch.Tensor):
        raise ValueError(OTHER_VERSION)
    return objective, weights.numpy().tobytes()


def _trainer_state(content: Mapping[str, Any]) -> FoldTrainerState:
    try:
        optimization = OptimizationState(
            content["stage"], content["optimizer"], content["schedule"]
        )
        trainer = FoldTrainerState(content["model"], optimization, content.get("average"))
    except KeyError:
        raise ValueError(OTHER_VERSION) from None
    states = [trainer.model, optimization.optimizer, optimization.schedule]
    states += [] if trainer.average is None else [trainer.average]
    if not all(isinstance(state, dict) for state in states) or type(optimization.stage) is not int:
        raise ValueError(OTHER_VERSION)
    return trainer
