"""How many trials a machine holds at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysearch.search.space import Resources


def slots_of(node: Mapping[str, Any], resources: Resources) -> int:
    """How many trials with `resources` the node, as Ray tells of it, holds at once; 0 if gone.

    A trial has a device, or its share of one, to itself: what is left of two devices is no third.
    """
    if not node["Alive"]:
        return 0
    most = _times(node["Resources"].get("CPU", 0.0), resources.cpus)
    if resources.gpus:
        most = min(most, int(node["Resources"].get("GPU", 0.0)) * _times(1.0, resources.gpus))
    return most


def _times(whole: float, part: float) -> int:
    return int(whole / part + 1e-9)
