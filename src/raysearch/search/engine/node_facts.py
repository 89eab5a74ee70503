"""Measures the state of every node of the cluster, by a process on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysearch.data.cache_folder import cache_folder
from raysearch.data.file_access import create_folder
from raysearch.data.files import Folder
from raysearch.errors import first_line, without_passwords
from raysearch.search.engine.cluster_tunnel import DASHBOARD_PORT
from raysearch.search.engine.nodes import Node

PACKAGES = ("raysearch", "ray", "torch", "torchvision", "mlflow", "optuna", "pyarrow")
ANSWER_TIMEOUT_S = 90.0
# Returns why a tracking store cannot be used; empty if it can.
StoreCheck = Callable[[str], str]
# KubeRay sets it in every container of Ray.
KUBERAY_VARIABLE = "KUBERAY_GEN_RAY_START_CMD"
# A listening socket and the loopback address in /proc/net/tcp6.
LISTENING = "0A"
LOOPBACK_6 = "0" * 24 + "01000000"


@dataclass(frozen=True)
class NodeFacts:
    """The state of one node, measured by a process on it.

    Attributes:
        host: Host name.
        versions: Version of Python and of each package.
        gpus: GPUs that torch can use.
        expected_gpus: GPUs that Ray assigns to tasks.
        free_gb: Free disk space in the cache folder.
        clock_offset_s: Seconds by which its clock is ahead of the head's.
        auth_mode: Value of RAY_AUTH_MODE.
        token_variable: Whether RAY_AUTH_TOKEN contains the authentication token.
        token_mode: File mode of the authentication token; None without one.
        in_kuberay: Whether KubeRay started this node.
        dashboard_public: Whether the dashboard accepts connections from other machines.
        storage_error: Why the study folder cannot be read or written; empty if it can.
        tracking_error: Why the tracking server cannot be used; empty if it can.
    """

    host: str
    versions: Mapping[str, str]
    gpus: int
    expected_gpus: float
    free_gb: float
    clock_offset_s: float
    auth_mode: str
    token_variable: bool
    token_mode: int | None
    in_kuberay: bool
    dashboard_public: bool
    storage_error: str
    tracking_error: str


@dataclass(frozen=True)
class UnreachableNode:
    """A node that did not answer, and why."""

    address: str
    reason: str


class StorageProbe:
    """A folder among the studies with one file of the head, to which every node adds its own.

    Args:
        studies: Address of the folder of all studies.
    """

    def __init__(self, studies: str) -> None:
        self.studies, self.name = studies, f".doctor-{uuid.uuid4().hex[:8]}"
        self.error = ""
        try:
            self.folder = Folder(studies) / self.name
            self.folder.write("head", self.name.encode())
        except Exception as error:  # each kind of storage has exceptions of its own
            self.error = _error_text(error)

    def unseen_hosts(self, facts: Sequence[NodeFacts]) -> list[str]:
        """Return the hosts whose file cannot be seen from this process."""
        names = set(self.folder.names())
        return [node.host for node in facts if f"from-{node.host}" not in names]

    def remove(self) -> None:
        """Remove the folder."""
        if not self.error:
            self.folder.remove()


def gather_facts(
    nodes: Sequence[Node], probe: StorageProbe, check_store: StoreCheck
) -> tuple[list[NodeFacts], list[UnreachableNode]]:
    """Measure the nodes; return the facts, and the nodes that did not answer."""
    facts, unreachable, pending = [], [], []
    for node in nodes:
        affinity = NodeAffinitySchedulingStrategy(node.id, soft=False)
        options = {"num_cpus": 0, "scheduling_strategy": affinity}
        task = ray.remote(measure_node).options(**options)
        clock = ray.remote(_current_time).options(**options)
        pending.append(
            (node, task.remote(probe.studies, probe.name, node.gpus, check_store), clock)
        )
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    for node, answer, clock in pending:
        try:
            measured = ray.get(answer, timeout=max(1.0, deadline - time.monotonic()))
            facts.append(replace(measured, clock_offset_s=_clock_offset_s(clock)))
        except (GetTimeoutError, RayError) as error:
            unreachable.append(UnreachableNode(node.address, _error_text(error)))
    return facts, unreachable


def _current_time() -> float:
    return time.time()  # Ray takes no builtin function


def _clock_offset_s(clock: Any) -> float:
    """Return the smallest offset of a node's clock that the duration of the call does not explain.

    Args:
        clock: The remote function that returns the node's time.
    """
    ray.get(clock.remote(), timeout=ANSWER_TIMEOUT_S)  # starts its process
    before = time.time()
    remote = float(ray.get(clock.remote(), timeout=ANSWER_TIMEOUT_S))
    return min(remote - before, 0.0) or max(remote - time.time(), 0.0)


def measure_node(
    studies: str, probe: str, expected_gpus: float, check_store: StoreCheck
) -> NodeFacts:
    """Measure the node that this process runs on.

    Args:
        studies: Address of the folder of all studies.
        probe: Name of the probe's folder there.
        expected_gpus: GPUs that Ray assigns to tasks of this node.
        check_store: Checks the tracking store.
    """
    token = Path.home() / ".ray" / "auth_token"
    cache = cache_folder()
    create_folder(cache)
    return NodeFacts(
        host=socket.gethostname(),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        gpus=torch.cuda.device_count(),
        expected_gpus=expected_gpus,
        free_gb=shutil.disk_usage(cache).free / 1e9,
        clock_offset_s=0.0,
        auth_mode=os.environ.get("RAY_AUTH_MODE", "not set"),
        token_variable=bool(os.environ.get("RAY_AUTH_TOKEN")),
        token_mode=stat.S_IMODE(token.stat().st_mode) if token.exists() else None,
        in_kuberay=KUBERAY_VARIABLE in os.environ,
        dashboard_public=listens_publicly(DASHBOARD_PORT),
        storage_error=storage_error(studies, probe),
        tracking_error=tracking_error(os.environ.get("MLFLOW_TRACKING_URI", ""), check_store),
    )


def storage_error(studies: str, probe: str) -> str:
    """Return why this node cannot read the probe's file or write its own; empty if it can."""
    try:
        folder = Folder(studies) / probe
        if folder.read("head") != probe.encode():
            return "the probe's file has other content"
        folder.write(f"from-{socket.gethostname()}", b"from a node")
    except Exception as error:  # each kind of storage has exceptions of its own
        return _error_text(error)
    return ""


def tracking_error(store: str, check_store: StoreCheck) -> str:
    """Return why this node cannot use the tracking server `store`; empty if it can."""
    if not store.startswith(("http://", "https://")):
        return f"MLFLOW_TRACKING_URI is {without_passwords(store) or 'not set'}: no server"
    return check_store(store)


def listens_publicly(port: int) -> bool:
    """Return whether a process listens at `port` on another address than loopback."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            loopback = address.endswith("7F") or address == LOOPBACK_6
            if state == LISTENING and int(number, 16) == port and not loopback:
                return True
    return False


def _error_text(error: BaseException) -> str:
    return first_line(error.cause if isinstance(error, RayTaskError) else error)
