"""Chooses the numerical precision of each architecture on each kind of device of the cluster."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from raysearch.config.custom_code import NO_CODE, UserCode
from raysearch.config.hyperparameter_spec import Value, is_import_path
from raysearch.config.json_values import dump_checked, parse_checked
from raysearch.config.run_location import cluster_address
from raysearch.config.space import Resources
from raysearch.data.cache_folder import cache_folder, private_folder
from raysearch.data.files import Folder
from raysearch.errors import StudyError, first_line
from raysearch.search.engine.actor_task import (
    RemoteFunction,
    WorkerLostError,
    WorkerOutOfMemoryError,
)
from raysearch.search.engine.nodes import Slot, request_nodes
from raysearch.search.engine.worker_pool import WorkerPool
from raysearch.search.engine.worker_tasks import prepare_process
from raysearch.search.journal.codec import record_from_json
from raysearch.search.study.plan import Plan
from raysearch.training.memory import is_out_of_memory
from raysearch.training.precision_choice import CANDIDATES, choose_precision
from raysearch.training.precision_settings import PrecisionSettings, cpu_kind, device_kind

log = logging.getLogger(__name__)
# Of torch's message that an allocation on the CPU failed.
ALLOCATED_BYTES = re.compile(r"tried to allocate (?P<bytes>[0-9]+) bytes")
# The folder of the results in the cache.
NUMERICS = "numerics"


@dataclass(frozen=True)
class ProbeTask:
    """The largest network of an architecture, whose precision a worker chooses.

    Args:
        architecture: Name of the architecture; empty to report the kind of the device alone.
        hparams: Hyperparameters of its largest network, as pairs of name and value.
        shape: Shape of a patch: height, width, channels.
        num_classes: Number of classes.
        code: The code of the user's that the network is built by.
    """

    architecture: str
    hparams: tuple[tuple[str, Value], ...]
    shape: tuple[int, int, int]
    num_classes: int
    code: UserCode = NO_CODE


@dataclass(frozen=True)
class ProbeResult:
    """The best settings of an architecture on one kind of device; None without an architecture."""

    device_kind: str
    settings: PrecisionSettings | None


def probe_cluster(plan: Plan, on_status: Callable[[str], None] = log.warning) -> Plan:
    """Return `plan` with the precision of its architectures on each kind of device.

    If the largest network of an architecture exceeds the memory of every node of a kind, the
    architecture keeps plain float32 there: its smaller networks may fit.

    Args:
        plan: The plan.
        on_status: Called with the architectures that exceed the memory.

    Raises:
        StudyError: If a probe is needed and no node can run it, or every architecture of the space
            exceeds the memory of every node.
        WorkerLostError: If a probe loses its worker twice, and nothing shows that memory was too
            small.
    """
    resources = plan.space.resources
    request_nodes(resources, plan.space.trials)
    tasks = [ProbeTask("", (), plan.shape, len(plan.class_names), plan.code)]
    tasks += [
        replace(tasks[0], architecture=name, hparams=tuple(hparams.items()))
        for name, hparams in plan.space.largest_networks().items()
    ]
    stored = _stored_settings(tasks[1:], resources)
    if stored is not None:
        return plan.with_precision({cpu_kind(): stored})
    pool = WorkerPool(
        RemoteFunction[ProbeTask, ProbeResult](lambda: probe_device, _with_cpus, _name), resources
    )
    by_kind: dict[str, dict[str, PrecisionSettings]] = {}
    errors: dict[str, Exception] = {}
    for first, *probes in pool.run_on_each_node(tasks):
        settings = by_kind.setdefault(first.result().device_kind, {})
        for probe in probes:
            if probe.error is None:
                settings.setdefault(probe.input.architecture, _settings(probe.result()))
            elif is_out_of_memory(probe.error) or isinstance(probe.error, WorkerOutOfMemoryError):
                errors[probe.input.architecture] = probe.error
            elif isinstance(probe.error, WorkerLostError):
                raise WorkerLostError(f"{_name(probe.input)}: {probe.error}")
            else:
                raise probe.error
    _report_errors(plan, by_kind, errors, on_status)
    defaults = {task.architecture: CANDIDATES[0] for task in tasks[1:]}
    return plan.with_precision({kind: defaults | measured for kind, measured in by_kind.items()})


def _stored_settings(
    tasks: Sequence[ProbeTask], resources: Resources
) -> dict[str, PrecisionSettings] | None:
    """Return the settings that this machine has stored for its CPU; no worker starts for them.

    Returns:
        Settings by architecture; None if one of them is missing, or trials run elsewhere, or on a
        GPU.
    """
    if cluster_address() is not None or resources.gpus:
        return None
    cache = Folder(private_folder(cache_folder() / NUMERICS))
    by_architecture = {
        task.architecture: read_settings(cache, _file_name(task, cpu_kind(), resources.cpus))
        for task in tasks
    }
    stored = {name: settings for name, settings in by_architecture.items() if settings is not None}
    return stored if len(stored) == len(tasks) else None


def _settings(result: ProbeResult) -> PrecisionSettings:
    return result.settings or CANDIDATES[0]


def _report_errors(
    plan: Plan,
    by_kind: Mapping[str, Mapping[str, PrecisionSettings]],
    errors: Mapping[str, Exception],
    on_status: Callable[[str], None],
) -> None:
    """Report architectures that no node of some kind could run; StudyError if none is left."""
    failed = {
        name: error
        for name, error in errors.items()
        if any(name not in settings for settings in by_kind.values())
    }
    texts = [f"{name} ({memory_text(error)})" for name, error in failed.items()]
    searched = set(map(str, plan.space.values_of("architecture")))
    if searched <= {name for name in errors if all(name not in kind for kind in by_kind.values())}:
        raise StudyError(
            f"the largest network of each architecture exceeds the memory: {', '.join(texts)};"
            " lower the largest values of the hyperparameters of its size, or use a machine with"
            " more memory"
        )
    for text in texts:
        message = (
            f"the largest network of architecture {text}: too little memory to time it; trials that"
            " do not fit fail, and the others go on"
        )
        log.warning("%s", message)
        on_status(message)


def memory_text(error: Exception) -> str:
    """Return what is known about a network that exceeded the memory, in a few words."""
    if isinstance(error, WorkerOutOfMemoryError):
        return error.reason
    size = ALLOCATED_BYTES.search(str(error))
    if size is not None:
        return f"out of memory: it tried to allocate {int(size['bytes']) / 1e9:.1f} GB"
    return f"out of memory: {first_line(error, 100)}"


def _name(task: ProbeTask) -> str:
    return f"the largest network of {task.architecture}" if task.architecture else "the device"


def _with_cpus(task: ProbeTask, slot: Slot) -> tuple[ProbeTask, float]:
    return task, slot.resources.cpus


def probe_device(task: ProbeTask, cpus: float) -> ProbeResult:
    """Choose the fastest settings of a network on this worker's device.

    The node caches the result: timings are noisy, and two studies with one seed must not differ by
    them.

    Args:
        task: The network.
        cpus: CPU cores of the worker.
    """
    device = prepare_process(cpus)
    task.code.allow()
    kind = device_kind(device)
    if not task.architecture:
        return ProbeResult(kind, None)
    cache = Folder(private_folder(cache_folder() / NUMERICS))
    cache.remove_partial_files()
    file = _file_name(task, kind, cpus)
    chosen = read_settings(cache, file)
    if chosen is None:
        hparams = dict(task.hparams)
        chosen = choose_precision(task.architecture, hparams, task.shape, task.num_classes, device)
        cache.write(file, dump_checked(asdict(chosen)))
    return ProbeResult(kind, chosen)


def _file_name(task: ProbeTask, kind: str, cpus: float) -> str:
    """Return the name of the stored settings of a network on `cpus` cores of a kind of device."""
    threads = max(1, int(cpus))
    network = [task.architecture, dict(task.hparams), task.shape, task.num_classes]
    identity = [kind, threads, torch.__version__, *network]
    if is_import_path(task.architecture):
        identity.append(task.code.sha256)
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return f"{digest[:24]}.json"


def read_settings(cache: Folder, name: str) -> PrecisionSettings | None:
    """Read settings that an earlier probe chose; None if they are missing or damaged."""
    try:
        return record_from_json(PrecisionSettings, parse_checked(cache.read(name)))
    except (OSError, ValueError, StudyError):
        return None
