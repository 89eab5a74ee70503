"""The machines as Ray tells of them: who goes, how many trials one holds, and what one costs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ray

from raysearch.config.space import Resources

# Ray's autoscaler tells each node its type by this.
NODE_TYPE = "RAY_NODE_TYPE_NAME"


def this_node() -> str:
    """The id of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def draining_nodes() -> set[str]:
    """The ids of the nodes that were told that they will go, such as spot machines."""
    return set(ray._private.state.state.get_draining_nodes())  # noqa: SLF001 no public way


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


def dollars_a_second(resources: Resources) -> float:
    """What a trial's share of this machine costs; the dearest type's price where it has none."""
    if not resources.prices:
        return 0.0
    prices = dict(resources.prices)
    price = prices.get(os.environ.get(NODE_TYPE, ""), max(prices.values()))
    here = next(node for node in ray.nodes() if node["NodeID"] == this_node())
    return price / 3600 / max(1, slots_of(here, resources))


def _times(whole: float, part: float) -> int:
    return int(whole / part + 1e-9)
