"""Checks every node of the cluster for problems that would fail or distort a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysearch.config.run_location import cluster_address
from raysearch.errors import without_passwords
from raysearch.search.engine.node_facts import (
    PACKAGES,
    NodeFacts,
    StorageProbe,
    StoreCheck,
    UnreachableNode,
    gather_facts,
)
from raysearch.search.engine.nodes import all_nodes

# The largest public data set, PCam, has 9 GB of pixels, and every node caches them.
MIN_FREE_GB = 10.0
MAX_CLOCK_OFFSET_S = 2.0
PRIVATE_MODE = 0o600


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: What was checked.
        passed: Whether it is as it should be.
        details: What was measured.
        advice: How to fix it if it did not pass.
    """

    name: str
    passed: bool
    details: str
    advice: str = ""

    def __post_init__(self) -> None:
        # The addresses of storage and of the tracking server are shown, their passwords are not.
        object.__setattr__(self, "details", without_passwords(self.details))


def check_cluster(studies: str, expected_nodes: int | None, check_store: StoreCheck) -> list[Check]:
    """Check every node of the cluster that Ray is connected to.

    Nodes that the autoscaler starts only for a study are not checked.

    Args:
        studies: Address of the folder of all studies.
        expected_nodes: The number of nodes that should be there; None for any.
        check_store: Checks the tracking store, on every node.
    """
    nodes = [node for node in all_nodes() if node.alive]
    probe = StorageProbe(studies)
    try:
        facts, unreachable = gather_facts(nodes, probe, check_store)
        storage = check_storage(probe, facts)
    finally:
        probe.remove()
    node_check = check_nodes(facts, unreachable, expected_nodes)
    if not facts:
        return [node_check]
    return [
        node_check,
        *check_versions(facts),
        check_gpus(facts),
        storage,
        check_tracking(facts),
        check_clocks(facts),
        check_disk(facts),
        *(check_authentication(facts) if cluster_address() else []),
    ]


def check_nodes(
    facts: Sequence[NodeFacts], unreachable: Sequence[UnreachableNode], expected: int | None
) -> Check:
    """Check that every node answered, and at least the expected number of nodes."""
    details = f"{len(facts)} answered" + (f" of {expected}" if expected else "")
    if len(facts) == 1 and cluster_address():
        start = "`minReplicas: 1`" if _in_kuberay(facts) else "`ray up --min-workers 1`"
        details += f"; no worker node is running: {start} starts one"
    details += "".join(f"; {node.address}: {node.reason}" for node in unreachable)
    passed = not unreachable and len(facts) >= (expected or 1)
    if _in_kuberay(facts):
        advice = "see `kubectl get pods` and `kubectl describe pod` for the missing Pods"
    else:
        advice = "wait until `ray up` has ended, then see `ray monitor` for the missing nodes"
    return Check("nodes", passed, details, advice)


def check_versions(facts: Sequence[NodeFacts]) -> list[Check]:
    """Check that all nodes have the same versions; one result for each version that differs."""
    checks = []
    for name in ("python", *PACKAGES):
        hosts: dict[str, list[str]] = {}
        for node in facts:
            hosts.setdefault(node.versions[name], []).append(node.host)
        if len(hosts) > 1:
            details = "; ".join(
                f"{version} on {', '.join(names)}" for version, names in hosts.items()
            )
            if _in_kuberay(facts):
                advice = "use one image for the head and the workers, and start all Pods again"
            else:
                advice = "run `ray up` again: its setup installs the locked versions"
            checks.append(Check(f"version of {name}", False, details, advice))
    if not checks and facts:
        versions = facts[0].versions
        names = ("python", "raysearch", "ray", "torch")
        details = ", ".join(f"{name} {versions[name]}" for name in names)
        checks.append(Check("versions", True, f"identical on all nodes: {details}"))
    return checks


def check_gpus(facts: Sequence[NodeFacts]) -> Check:
    """Check that torch can use every GPU that Ray assigns."""
    missing = [node for node in facts if node.gpus < node.expected_gpus]
    if missing:
        details = "; ".join(
            f"{node.host}: {node.gpus} of {node.expected_gpus:g} usable" for node in missing
        )
        advice = "install the driver that this version of torch requires, or its image"
        return Check("GPUs", False, details, advice)
    total = sum(node.expected_gpus for node in facts)
    return Check("GPUs", True, f"{total:g}, all usable by torch")


def check_storage(probe: StorageProbe, facts: Sequence[NodeFacts]) -> Check:
    """Check that every node reads and writes the folder of all studies."""
    advice = "set RAYSEARCH_STUDIES to a bucket or a shared mount that every node can write"
    errors = [f"{node.host}: {node.storage_error}" for node in facts if node.storage_error]
    if probe.error:
        errors = [probe.error]
    elif not errors:
        errors = [f"the file of {host} is not visible" for host in probe.unseen_hosts(facts)]
    if errors:
        return Check("shared storage", False, f"{probe.studies}: {'; '.join(errors)}", advice)
    return Check("shared storage", True, f"{probe.studies}: every node reads and writes it")


def check_tracking(facts: Sequence[NodeFacts]) -> Check:
    """Check that every node can use the tracking server; without a cluster none is required."""
    errors = [f"{node.host}: {node.tracking_error}" for node in facts if node.tracking_error]
    if not errors:
        return Check("tracking server", True, "every node can use it")
    if not cluster_address():
        return Check("tracking server", True, "none: mlflow.db in the working directory")
    advice = "start one with `raysearch ui --server`, and set MLFLOW_TRACKING_URI to its address"
    return Check("tracking server", False, "; ".join(errors), advice)


def check_clocks(facts: Sequence[NodeFacts]) -> Check:
    """Check that the clocks of all nodes agree with the head's."""
    wrong = [node for node in facts if abs(node.clock_offset_s) > MAX_CLOCK_OFFSET_S]
    if wrong:
        details = ", ".join(f"{node.host}: {node.clock_offset_s:+.0f} s" for node in wrong)
        return Check("clocks", False, details, "synchronize them by chrony or systemd-timesyncd")
    return Check("clocks", True, f"within {MAX_CLOCK_OFFSET_S:g} s of the head's")


def check_disk(facts: Sequence[NodeFacts]) -> Check:
    """Check that every node has disk space for the cache of pixels."""
    fullest = min(facts, key=lambda node: node.free_gb)
    return Check(
        "disk",
        fullest.free_gb >= MIN_FREE_GB,
        f"at least {fullest.free_gb:.0f} GB free ({fullest.host})",
        f"the cache of pixels needs {MIN_FREE_GB:g} GB: use a larger disk, or set RAYSEARCH_CACHE"
        " to a folder on one",
    )


def _in_kuberay(facts: Sequence[NodeFacts]) -> bool:
    return any(node.in_kuberay for node in facts)


def _is_token_of_kuberay(node: NodeFacts) -> bool:
    """Whether the token is in no file: KubeRay passes it in the environment of the container."""
    return node.in_kuberay and node.token_variable and node.token_mode is None


def check_authentication(facts: Sequence[NodeFacts]) -> list[Check]:
    """Check the token, where it is stored, and the address of the dashboard on every node.

    On KubeRay, the token is in the environment of the containers, and the operator must reach the
    dashboard, which listens on the address of the Pod and requires the token.
    """
    without_token = [node.host for node in facts if node.auth_mode != "token"]
    readable = [
        f"{node.host}: {'none' if node.token_mode is None else oct(node.token_mode)[2:]}"
        for node in facts
        if node.token_mode != PRIVATE_MODE and not _is_token_of_kuberay(node)
    ]
    in_variables = [node.host for node in facts if _is_token_of_kuberay(node)]
    stored = "mode 600 on every node"
    if in_variables:
        stored = f"mode 600, or none: KubeRay passes the token to {', '.join(in_variables)}"
    public = [
        node.host
        for node in facts
        if node.dashboard_public and not (node.in_kuberay and node.auth_mode == "token")
    ]
    reachable = "on loopback only"
    if any(node.dashboard_public for node in facts):
        reachable = (
            "on the address of its Pod, with the token; whether a Service or an Ingress publishes"
            " it is not checked"
        )
    return [
        Check(
            "token",
            not without_token,
            f"not required on {', '.join(without_token)}"
            if without_token
            else "required on every node",
            "export RAY_AUTH_MODE=token before every `ray start`, as cluster.yaml does",
        ),
        Check(
            "token file",
            not readable,
            "; ".join(readable) or stored,
            "chmod 600 ~/.ray/auth_token on this machine and on the nodes",
        ),
        Check(
            "dashboard",
            not public,
            f"open to the network on {', '.join(public)}" if public else reachable,
            "start the head with --dashboard-host=127.0.0.1",
        ),
    ]
