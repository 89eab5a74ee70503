"""Rejects augmentations that move the square on which a label depends out of a patch."""

from __future__ import annotations

import math

from raysearch.config.space import Space
from raysearch.errors import SpaceError
from raysearch.models import PatchShape

# A square needs the longest half side, relative to its own, if it is turned by this angle.
DIAGONAL_DEGREES = 45.0
# The hyperparameters that move the pixels of a patch.
MOVING = ("shift", "zoom", "rotation")
# Of the strengths that an error names.
DECIMALS = 3


def check_center(
    space: Space, shape: PatchShape, center: int | None, shards: str = "these shards"
) -> None:
    """Check that no augmentation of `space` moves or hides the center on which labels depend.

    A patch of PatchCamelyon is positive if its central 32x32 pixels have a pixel of a tumor. If an
    augmentation moves a part of that square out of the patch, or hides all of it, the label may be
    wrong. The largest strengths of `shift`, `zoom` and `rotation` count together, as one transform
    applies them. `zoom` also makes the square smaller, which `cutout` then hides.

    Args:
        space: The search space.
        shape: (height, width, channels) of a patch.
        center: The side of the square in pixels; None if labels depend on the whole patch.
        shards: What the labels are of, for error messages.

    Raises:
        SpaceError: If the square would leave the patch, or be hidden.
    """
    if center is None:
        return
    height, width = shape[:2]
    short_side = min(height, width)
    strengths = {name: _largest(space, name) for name in MOVING}
    if _reach(center, max(height, width), **strengths) > short_side / 2 + 1e-9:
        raise SpaceError(
            f"{_listed(strengths)} can move the center of {center}x{center} pixels, of which the"
            f" labels of {shards} are, out of the patches of {width}x{height};"
            f" {_advice(center, short_side, max(height, width), **strengths)}"
        )
    cutout = _largest(space, "cutout")
    # The smallest center that zoom leaves; one line of its pixels has to remain.
    limit = (center / (1 + strengths["zoom"]) - 1) / short_side
    if cutout > max(limit, 0.0) + 1e-9:
        advice = f"use at most {_rounded_down(limit):g}" if limit > 0 else "remove it"
        zoom = f" with zoom up to {strengths['zoom']:g}" if strengths["zoom"] else ""
        raise SpaceError(
            f"cutout up to {cutout:g}{zoom} can hide the center of {center}x{center} pixels, of"
            f" which the labels of {shards} are, in patches of {width}x{height}; {advice}"
        )


def _largest(space: Space, name: str) -> float:
    """Return the largest value that a hyperparameter may take."""
    return max((float(value) for value in space.values_of(name)), default=0.0)


def _reach(center: float, long_side: int, shift: float, zoom: float, rotation: float) -> float:
    """Return how far from the middle of a patch a pixel of its center may be moved, in pixels.

    `Augmentation.random_affine` translates by up to `shift` of a side, then rotates and scales.
    """
    return (center / 2 + shift * long_side) * (1 + zoom) * _rotated_side(rotation)


def _rotated_side(degrees: float) -> float:
    """Return the side of the upright square around one of side 1, turned by up to `degrees`."""
    angle = math.radians(min(degrees, DIAGONAL_DEGREES))
    return math.cos(angle) + math.sin(angle)


def _advice(
    center: int, short_side: int, long_side: int, shift: float, zoom: float, rotation: float
) -> str:
    """Say which of the strengths to lower, and to what."""
    scale = (1 + zoom) * _rotated_side(rotation)
    limit = _rounded_down((short_side / 2 / scale - center / 2) / long_side)
    if shift and limit > 0:
        return f"use shift up to {limit:g}"
    limit = _rounded_down(short_side / center / _rotated_side(rotation) - 1)
    if zoom and limit > 0:
        return f"{'remove shift, and ' if shift else ''}use zoom up to {limit:g}"
    return "remove them"


def _rounded_down(value: float) -> float:
    factor = 10.0**DECIMALS
    return math.floor(value * factor) / factor


def _listed(strengths: dict[str, float]) -> str:
    """Name the strengths that are not 0, as `shift up to 0.2 and rotation up to 25`."""
    texts = [f"{name} up to {value:g}" for name, value in strengths.items() if value]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else texts[0]
