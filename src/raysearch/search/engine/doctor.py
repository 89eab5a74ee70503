"""What could spoil a study on this cluster, looked for on every node before anything is spent."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysearch.data.files import Folder
from raysearch.data.patches import cache_folder
from raysearch.search.engine.cluster_jobs import DASHBOARD_PORT
from raysearch.search.engine.session import cluster_address
from raysearch.search.tracking.tracker import store_error

PACKAGES = ("raysearch", "ray", "torch", "torchvision", "mlflow", "optuna", "pyarrow")
ANSWER_S = 90.0
# The largest public set, PCam, is 9 GB of pixels, which every node keeps in its cache.
FREE_GB = 10.0
CLOCK_S = 2.0
PRIVATE_MODE = 0o600
LISTENING = "0A"
LOOPBACK_6 = "0" * 24 + "01000000"


@dataclass(frozen=True)
class Check:
    """One thing looked at: whether it is well, what was seen, and what to do where it is not."""

    name: str
    good: bool
    seen: str
    advice: str = ""


@dataclass(frozen=True)
class Facts:
    """What one node says of itself."""

    host: str
    versions: Mapping[str, str]
    gpus: int
    gpus_promised: float
    free_gb: float
    clock_ahead_s: float
    auth_mode: str
    token_mode: int | None
    dashboard_public: bool
    storage: str
    tracking: str


def examine(studies: str, nodes: int | None) -> list[Check]:
    """Look at every node of the cluster that Ray is connected to.

    `studies` is the place of studies, `nodes` the number of machines that should be there. Machines
    that come only when a study wants them are not looked at.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    probe = _Probe(studies)
    try:
        facts, silent = _gather(alive, probe)
        storage = _storage(probe, facts)
    finally:
        probe.remove()
    if not facts:
        return [_reachable(facts, silent, nodes)]
    return [
        _reachable(facts, silent, nodes),
        *_versions(facts),
        _gpus(facts),
        storage,
        _tracking(facts),
        _clocks(facts),
        _disk(facts),
        *(_guarded(facts) if cluster_address() else []),
    ]


class _Probe:
    """A file in the place of studies that every node reads, and beside which it writes its own."""

    def __init__(self, studies: str) -> None:
        self.address, self.name = studies, f".doctor-{uuid.uuid4().hex[:8]}"
        self.error = ""
        try:
            self.folder = Folder(studies) / self.name
            self.folder.write("head", self.name.encode())
        except Exception as error:  # each kind of storage has errors of its own
            self.error = _brief(error)

    def unread(self, facts: Sequence[Facts]) -> list[str]:
        """The hosts whose file cannot be read here."""
        names = set(self.folder.names())
        return [one.host for one in facts if f"from-{one.host}" not in names]

    def remove(self) -> None:
        """Leave nothing behind."""
        if not self.error:
            self.folder.remove()


def _gather(
    alive: Sequence[Mapping[str, Any]], probe: _Probe
) -> tuple[list[Facts], list[tuple[str, str]]]:
    """What the nodes say, and the addresses of those that cannot, each with the reason."""
    facts, silent, waiting = [], [], []
    for node in alive:
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = {"num_cpus": 0, "scheduling_strategy": here}
        job = ray.remote(_facts).options(**options)
        promised = node["Resources"].get("GPU", 0.0)
        clock = ray.remote(_now).options(**options)
        waiting.append((node, job.remote(probe.address, probe.name, promised), clock))
    until = time.monotonic() + ANSWER_S
    for node, answer, clock in waiting:
        try:
            fact = ray.get(answer, timeout=max(1.0, until - time.monotonic()))
            facts.append(replace(fact, clock_ahead_s=_ahead(clock)))
        except (GetTimeoutError, RayError) as error:
            silent.append((node["NodeManagerAddress"], _brief(error)))
    return facts, silent


def _now() -> float:
    return time.time()  # Ray takes no builtin


def _ahead(clock: Any) -> float:
    """How far a node's clock is ahead of this one's, beyond doubt: a task takes a moment."""
    ray.get(clock.remote(), timeout=ANSWER_S)  # its process is there now
    asked = time.time()
    there = float(ray.get(clock.remote(), timeout=ANSWER_S))
    return min(there - asked, 0.0) or max(there - time.time(), 0.0)


def _facts(studies: str, probe: str, promised: float) -> Facts:
    """Runs on the node it tells of."""
    token = Path.home() / ".ray" / "auth_token"
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    return Facts(
        host=socket.gethostname(),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        gpus=torch.cuda.device_count(),
        gpus_promised=promised,
        free_gb=shutil.disk_usage(cache).free / 1e9,
        clock_ahead_s=0.0,
        auth_mode=os.environ.get("RAY_AUTH_MODE", "not set"),
        token_mode=stat.S_IMODE(token.stat().st_mode) if token.exists() else None,
        dashboard_public=_listens_publicly(DASHBOARD_PORT),
        storage=_storage_error(studies, probe),
        tracking=_tracking_error(os.environ.get("MLFLOW_TRACKING_URI", "")),
    )


def _storage_error(studies: str, probe: str) -> str:
    """Why the probe's file cannot be read here, or this node's be written; empty where both can."""
    try:
        folder = Folder(studies) / probe
        if folder.read("head") != probe.encode():
            return "another file is there"
        folder.write(f"from-{socket.gethostname()}", b"here")
    except Exception as error:  # each kind of storage has errors of its own
        return _brief(error)
    return ""


def _tracking_error(store: str) -> str:
    """Why the tracking server cannot be reached from here; empty where it can."""
    if not store.startswith(("http://", "https://")):
        return f"MLFLOW_TRACKING_URI is {store or 'not set'}: no server"
    return store_error(store)


def _listens_publicly(port: int) -> bool:
    """Whether something here listens at `port` beyond loopback, by the kernel's own table."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            loopback = address.endswith("7F") or address == LOOPBACK_6
            if state == LISTENING and int(number, 16) == port and not loopback:
                return True
    return False


def _reachable(
    facts: Sequence[Facts], silent: Sequence[tuple[str, str]], nodes: int | None
) -> Check:
    seen = f"{len(facts)} answered" + (f" of {nodes}" if nodes else "")
    if len(facts) == 1 and cluster_address():
        seen += "; there is no worker to look at: `ray up --min-workers 1` starts one"
    seen += "".join(f"; {address}: {reason}" for address, reason in silent)
    good = not silent and len(facts) >= (nodes or 1)
    return Check(
        "nodes", good, seen, "wait until `ray up` has ended, then see `ray monitor` for the rest"
    )


def _versions(facts: Sequence[Facts]) -> list[Check]:
    checks = []
    for name in ("python", *PACKAGES):
        found: dict[str, list[str]] = {}
        for one in facts:
            found.setdefault(one.versions[name], []).append(one.host)
        if len(found) > 1:
            seen = "; ".join(f"{version} on {', '.join(on)}" for version, on in found.items())
            advice = "run `ray up` again: its setup installs the locked versions"
            checks.append(Check(f"version of {name}", False, seen, advice))
    if not checks and facts:
        same = facts[0].versions
        seen = ", ".join(f"{name} {same[name]}" for name in ("python", "raysearch", "ray", "torch"))
        checks.append(Check("versions", True, f"the same everywhere: {seen}"))
    return checks


def _gpus(facts: Sequence[Facts]) -> Check:
    short = [one for one in facts if one.gpus < one.gpus_promised]
    if short:
        seen = "; ".join(f"{one.host}: {one.gpus} of {one.gpus_promised:g} usable" for one in short)
        return Check("GPUs", False, seen, "install the driver that this torch wants, or its image")
    return Check("GPUs", True, f"{sum(one.gpus_promised for one in facts):g}, all seen by torch")


def _storage(probe: _Probe, facts: Sequence[Facts]) -> Check:
    advice = "name a bucket or a shared mount that every node may write: RAYSEARCH_STUDIES"
    errors = [f"{one.host}: {one.storage}" for one in facts if one.storage]
    if probe.error:
        errors = [probe.error]
    elif not errors:
        errors = [f"what {host} wrote is not seen here" for host in probe.unread(facts)]
    if errors:
        return Check("shared storage", False, f"{probe.address}: {'; '.join(errors)}", advice)
    return Check("shared storage", True, f"{probe.address}: written and read across the nodes")


def _tracking(facts: Sequence[Facts]) -> Check:
    errors = [f"{one.host}: {one.tracking}" for one in facts if one.tracking]
    if not errors:
        return Check("tracking server", True, "reached from every node")
    if not cluster_address():
        return Check("tracking server", True, "none: mlflow.db in the working directory")
    advice = "start one with `raysearch ui --server`, and name it by MLFLOW_TRACKING_URI"
    return Check("tracking server", False, "; ".join(errors), advice)


def _clocks(facts: Sequence[Facts]) -> Check:
    wrong = [one for one in facts if abs(one.clock_ahead_s) > CLOCK_S]
    if wrong:
        seen = ", ".join(f"{one.host}: {one.clock_ahead_s:+.0f} s" for one in wrong)
        return Check("clocks", False, seen, "let chrony or systemd-timesyncd set them")
    return Check("clocks", True, f"within {CLOCK_S:g} s of the head's")


def _disk(facts: Sequence[Facts]) -> Check:
    least = min(facts, key=lambda one: one.free_gb)
    return Check(
        "disk",
        least.free_gb >= FREE_GB,
        f"{least.free_gb:.0f} GB free where there is least ({least.host})",
        f"the cache of pixels wants {FREE_GB:g} GB: a larger disk, or RAYSEARCH_CACHE elsewhere",
    )


def _guarded(facts: Sequence[Facts]) -> list[Check]:
    open_to_all = [one.host for one in facts if one.auth_mode != "token"]
    loose = [
        f"{one.host}: {'none' if one.token_mode is None else oct(one.token_mode)[2:]}"
        for one in facts
        if one.token_mode != PRIVATE_MODE
    ]
    public = [one.host for one in facts if one.dashboard_public]
    return [
        Check(
            "token",
            not open_to_all,
            f"missing on {', '.join(open_to_all)}" if open_to_all else "asked for on every node",
            "export RAY_AUTH_MODE=token before every `ray start`, as the cluster files here do",
        ),
        Check(
            "token file",
            not loose,
            "; ".join(loose) or "mode 600 on every node",
            "chmod 600 ~/.ray/auth_token, here and on the nodes",
        ),
        Check(
            "dashboard",
            not public,
            f"open to the network on {', '.join(public)}" if public else "on loopback alone",
            "start the head with --dashboard-host=127.0.0.1",
        ),
    ]


def _brief(error: BaseException) -> str:
    if isinstance(error, RayTaskError):
        return _brief(error.cause)
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
