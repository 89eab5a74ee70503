"""The nodes of the Ray cluster: their slots, draining, prices, and requests to the autoscaler."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.accelerators import get_all_accelerator_managers
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError

from raysearch.config.run_location import cluster_address
from raysearch.config.space import Resources
from raysearch.errors import StudyError

log = logging.getLogger(__name__)
# Ray's autoscaler writes the type of each node into this environment variable.
NODE_TYPE = "RAY_NODE_TYPE_NAME"
NODE_WAIT_S = 900.0
POLL_S = 1.0


@dataclass(frozen=True)
class Node:
    """A node of the cluster, as Ray reports it."""

    id: str
    address: str
    alive: bool
    cpus: float
    gpus: float

    def num_slots(self, resources: Resources) -> int:
        """Return how many trials with `resources` run on the node at once; 0 if it is dead.

        A trial uses one device, or a fraction of one: the unused fractions of two devices do not
        make a slot.
        """
        if not self.alive:
            return 0
        slots = _quotient(self.cpus, resources.cpus)
        if resources.gpus:
            slots = min(slots, int(self.gpus) * _quotient(1.0, resources.gpus))
        return slots


@dataclass(frozen=True)
class Slot:
    """Room for one worker: its node and the resources that the worker takes there."""

    node_id: str
    resources: Resources


def current_node_id() -> str:
    """Return the id of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def draining_node_ids() -> set[str]:
    """Return the ids of the nodes that are about to be removed, such as preempted spot machines."""
    return set(ray._private.state.state.get_draining_nodes())  # noqa: SLF001 no public function


def all_nodes() -> list[Node]:
    """Return every node that the cluster has or had."""
    return [_node_from_ray(ray_node) for ray_node in ray.nodes()]


def available_nodes(resources: Resources) -> list[Node]:
    """Return the nodes that have a slot for `resources` and do not drain."""
    draining = draining_node_ids()
    return [node for node in all_nodes() if node.num_slots(resources) and node.id not in draining]


def num_slots(resources: Resources) -> int:
    """Return how many trials with `resources` the cluster runs at once."""
    return sum(node.num_slots(resources) for node in available_nodes(resources))


def wait_for_nodes(resources: Resources) -> list[Node]:
    """Return the nodes that have a slot for `resources`; in a cluster, wait until there is one.

    Raises:
        StudyError: If no node has a slot. A cluster has RAYSEARCH_MACHINE_WAIT_S seconds for it.
    """
    wait_s = float(os.environ.get("RAYSEARCH_MACHINE_WAIT_S", NODE_WAIT_S))
    deadline = time.monotonic() + wait_s
    while not (nodes := available_nodes(resources)):
        if cluster_address() is not None and time.monotonic() < deadline:
            time.sleep(POLL_S)
            continue
        if not any(node.alive for node in all_nodes()):
            raise StudyError("Ray has lost every machine; state saved. Resume with --resume")
        raise StudyError(
            f"no machine has the {resources.cpus:g} CPUs and {resources.gpus:g} GPUs that a worker"
            " requires; lower `resources` in the space, or wait for such a machine"
        )
    return nodes


def check_local_machine(resources: Resources) -> None:
    """Raise StudyError if this machine alone is to run trials that it has no resources for.

    Ray is not started. On a cluster, machines may still join, so nothing is checked.
    """
    if cluster_address() is not None:
        return
    num_gpus = sum(
        manager.get_current_node_num_accelerators()
        for manager in get_all_accelerator_managers()
        if manager.get_resource_name() == "GPU"
    )
    machine = Node("", "", True, float(os.cpu_count() or 1), float(num_gpus))
    if not machine.num_slots(resources):
        raise StudyError(
            f"this machine has {machine.cpus:g} CPUs and {machine.gpus:g} GPUs, but a trial"
            f" requires {resources.cpus:g} and {resources.gpus:g}; lower `resources` in the space,"
            " or launch on a cluster"
        )


def request_nodes(resources: Resources, trials: int) -> None:
    """Ask the cluster's autoscaler for nodes that run `trials` at once, up to its own limits.

    The request replaces every earlier one, of any process. 0 trials release the nodes.
    """
    if cluster_address() is None:
        return
    requirements = {"CPU": resources.cpus, "GPU": resources.gpus}
    bundle = {name: value for name, value in requirements.items() if value}
    try:
        request_resources(bundles=[bundle] * trials)
    except (RayError, RuntimeError, OSError):  # the study continues on the nodes that it has
        log.exception("the request to the autoscaler failed")


def dollars_per_second(resources: Resources) -> float:
    """Return the price of one slot of this node; 0 if the space has no prices.

    A node whose type has no price costs as much as the most expensive type.
    """
    if not resources.prices:
        return 0.0
    prices = dict(resources.prices)
    price = prices.get(os.environ.get(NODE_TYPE, ""), max(prices.values()))
    node = next(node for node in all_nodes() if node.id == current_node_id())
    return price / 3600 / max(1, node.num_slots(resources))


def _node_from_ray(ray_node: Any) -> Node:
    resources = ray_node["Resources"]
    return Node(
        id=ray_node["NodeID"],
        address=ray_node.get("NodeManagerAddress", ""),
        alive=ray_node["Alive"],
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
    )


def _quotient(total: float, part: float) -> int:
    """Return how many times `part` fits into `total`, despite rounding errors."""
    return int(total / part + 1e-9)
