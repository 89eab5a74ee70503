"""A training's state as bytes: tensors and plain values behind a hash, never a pickle to run."""

from __future__ import annotations

import hashlib
import io
from typing import Any, cast

import torch

MAGIC = b"raysearch checkpoint 1\n"


def pack(state: dict[str, Any]) -> bytes:
    """`state` as bytes that begin with the SHA-256 of the rest."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    return MAGIC + hashlib.sha256(content).digest() + content


def unpack(content: bytes) -> dict[str, Any]:
    """The state that `pack` took, on the CPU; ValueError where a byte is not what it was."""
    start = len(MAGIC) + 32
    digest, packed = content[len(MAGIC) : start], content[start:]
    if content[: len(MAGIC)] != MAGIC or hashlib.sha256(packed).digest() != digest:
        raise ValueError("the checkpoint's hash does not match its content")
    state = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    return cast("dict[str, Any]", state)
