"""The models of timm (Wightman, 2019) as architectures `timm:NAME`, without weights."""

from __future__ import annotations

import difflib
import importlib
from functools import cache
from typing import Any

from torch import nn

from raysearch.config.names import TIMM_PREFIX
from raysearch.config.telemetry import turn_off_telemetry
from raysearch.errors import SpaceError
from raysearch.models import PatchShape


@cache
def timm_library() -> Any:
    """Import timm, which takes seconds, on the first use of one of its models."""
    turn_off_telemetry()
    return importlib.import_module("timm")


def timm_name(architecture: str) -> str:
    """Return the name in timm of `timm:NAME`.

    Raises:
        SpaceError: If timm has no such model; the message suggests similar names.
    """
    name = architecture.removeprefix(TIMM_PREFIX)
    # The part after a dot is the tag of pretrained weights.
    if not timm_library().is_model(name) or (
        "." in name and name not in timm_library().list_models(pretrained=True)
    ):
        names = timm_library().list_models()
        similar = difflib.get_close_matches(name.partition(".")[0], names, n=3, cutoff=0.5)
        advice = f"did you mean {' or '.join(similar)}?" if similar else "see timm.list_models()"
        raise SpaceError(f"architecture {architecture!r}: timm has no such net; {advice}")
    return name


def image_size_options(name: str, shape: PatchShape) -> dict[str, tuple[int, int]]:
    """Return the `img_size` option of a timm model that has a fixed input size; else no option."""
    config = timm_library().get_pretrained_cfg(name)
    return {"img_size": shape[:2]} if config is not None and config.fixed_input_size else {}


def timm_model(
    architecture: str, shape: PatchShape, num_classes: int, *, dropout: float | None
) -> nn.Module:
    """Build the timm model `timm:NAME`.

    Args:
        architecture: `timm:NAME`.
        shape: The patch shape (H, W, 3).
        num_classes: The number of logits.
        dropout: The dropout before the head; the model's own if None.

    Raises:
        SpaceError: If timm has no such model.
    """
    name = timm_name(architecture)
    options: dict[str, Any] = {**image_size_options(name, shape)}
    if dropout is not None:
        options["drop_rate"] = dropout
    net: nn.Module = timm_library().create_model(
        name, pretrained=False, num_classes=num_classes, **options
    )
    return net
