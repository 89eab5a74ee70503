"""Chooses the numerical precision of each architecture on each kind of device of the cluster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.data.files import Folder
from raysearch.data.shards.patches import cache_folder
from raysearch.search.engine.actor_task import RemoteFunction
from raysearch.search.engine.nodes import Slot, request_nodes
from raysearch.search.engine.worker_pool import WorkerPool
from raysearch.search.engine.worker_tasks import prepare_process
from raysearch.search.study.plan import Plan
from raysearch.training.precision_choice import choose_precision
from raysearch.training.precision_settings import PrecisionSettings, device_kind


@dataclass(frozen=True)
class ProbeTask:
    """The networks that a worker probes.

    Args:
        largest_nets: Hyperparameters of the largest network of each architecture.
        shape: Shape of a patch: height, width, channels.
        num_classes: Number of classes.
    """

    largest_networks: Mapping[str, Hparams]
    shape: tuple[int, int, int]
    num_classes: int


@dataclass(frozen=True)
class ProbeResult:
    """The best settings of each architecture on one kind of device."""

    device_kind: str
    settings: Mapping[str, PrecisionSettings]


def probe_cluster(plan: Plan) -> Plan:
    """Return `plan` with the precision of its architectures on each kind of device.

    Raises:
        StudyError: If no node can run a trial.
    """
    resources = plan.space.resources
    request_nodes(resources, plan.space.trials)
    task = ProbeTask(plan.space.largest_networks(), plan.shape, len(plan.class_names))
    pool = WorkerPool(
        RemoteFunction[ProbeTask, ProbeResult](lambda: probe_device, _with_cpus), resources
    )
    by_kind: dict[str, Mapping[str, PrecisionSettings]] = {}
    for result in pool.run_on_each_node(task):
        by_kind.setdefault(result.device_kind, result.settings)
    return plan.with_precision(by_kind)


def _with_cpus(task: ProbeTask, slot: Slot) -> tuple[ProbeTask, float]:
    return task, slot.resources.cpus


def probe_device(task: ProbeTask, cpus: float) -> ProbeResult:
    """Choose the fastest settings of each network on this worker's device.

    The node caches the result: timings are noisy, and two studies with one seed must not differ by
    them.

    Args:
        task: The networks.
        cpus: CPU cores of the worker.
    """
    device = prepare_process(cpus)
    kind = device_kind(device)
    cache = Folder(cache_folder() / "numerics")
    threads = max(1, int(cpus))
    settings = {}
    for name, hparams in task.largest_networks.items():
        identity = [kind, threads, torch.__version__, name, hparams, task.shape, task.num_classes]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        file = f"{digest[:24]}.json"
        if not cache.exists(file):
            chosen = choose_precision(name, hparams, task.shape, task.num_classes, device)
            cache.write(file, json.dumps(asdict(chosen)).encode())
        settings[name] = PrecisionSettings(**json.loads(cache.read(file)))
    return ProbeResult(kind, settings)
