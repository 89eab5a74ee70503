"""Measures the speed of a plan's networks in processes of their own, before a study starts.

As many processes run at a time as trials would, so that the networks are as fast as beside each
other. A process that exceeds the memory ends alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import JsonValue

from raysearch.cli.progress_bar import file_progress
from raysearch.cli.time_text import PlanTimes
from raysearch.config.hyperparameter_spec import Value
from raysearch.config.json_values import parse_json
from raysearch.errors import StudyError, UserError, first_line
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.sampling.searched_networks import architectures_by_network, networks_of
from raysearch.search.scheduling.cost_estimate import simulate_search
from raysearch.search.scheduling.epoch_seconds import EpochSeconds
from raysearch.search.scheduling.time_forecast import forecast_time
from raysearch.search.study.plan import Plan
from raysearch.search.study.speed_cache import (
    NetworkSpeed,
    ProbedConfiguration,
    cached_speeds,
    epoch_seconds,
    feature_seconds,
    gpu_kinds,
    probed_configurations,
    store_speed,
)

# The probe of all architectures ends after this time; what is not measured by then is unknown.
MAX_PROBE_S = 58.0
# Of the time of a process, importing torch takes so much.
IMPORT_S = 6.0
# A configuration is measured for at most so long, unless a few rows take longer.
MAX_CONFIGURATION_S = 4.0
# Why an architecture without a configuration to measure has no speed.
NONE_ALLOWED = "the constraints allow almost none of its configurations"
COMMAND = (
    *(sys.executable, "-P", "-c"),
    "from raysearch.cli.time_probe import measure_requested; measure_requested()",
)


@dataclass(frozen=True)
class ProbeRequest:
    """What a process of the probe measures: configurations of one architecture.

    Args:
        plan: The plan, as JSON values.
        largest: The hyperparameters of its largest network, by which its precision is chosen.
        configurations: The configurations.
        max_seconds: The time of each.
    """

    plan: JsonValue
    largest: tuple[tuple[str, Value], ...]
    configurations: tuple[ProbedConfiguration, ...]
    max_seconds: float


@dataclass(frozen=True)
class ProbeMessage:
    """What a process of the probe writes.

    Attributes:
        number: The index of a configuration of the request.
        speed: The measured speed of its network; None in a message without one.
        failure: Why the process measures nothing more; empty if it does.
    """

    number: int = 0
    speed: NetworkSpeed | None = None
    failure: str = ""


@dataclass
class ProbedSpeeds:
    """What is known about the speed of a plan's networks.

    Attributes:
        speeds: The measured speeds, by configuration.
        failures: Why an architecture has no measured speed, by its name.
    """

    speeds: dict[ProbedConfiguration, NetworkSpeed]
    failures: dict[str, str] = field(default_factory=dict)


def known_seconds(plan: Plan) -> dict[str, EpochSeconds]:
    """Return the seconds of a fold-epoch of the architectures that this machine has measured."""
    return epoch_seconds(plan, cached_speeds(probed_configurations(plan)))


def local_slots(plan: Plan) -> int:
    """Return how many trials of a plan this machine trains at a time."""
    resources = plan.space.resources
    num_slots = int(len(os.sched_getaffinity(0)) / resources.cpus)
    if resources.gpus:
        num_slots = min(num_slots, int(len(gpu_kinds()) / resources.gpus))
    return max(1, num_slots)


def probe_speeds(plan: Plan) -> ProbedSpeeds:
    """Return the speeds of a plan's networks; those that are not in the cache are measured.

    The measurement takes at most a minute. It shows a progress bar.
    """
    configurations = probed_configurations(plan)
    speeds = cached_speeds(configurations)
    missing = [item for item in configurations if item not in speeds]
    failures: dict[str, str] = {}
    if missing:
        with file_progress("Timing a few batches", "networks") as on_progress:
            measured, failures = _Probe(plan, missing, on_progress).run()
        for configuration, speed in measured.items():
            store_speed(configuration, speed)
        speeds |= measured
    measured_networks = {configuration.network for configuration in speeds}
    architectures = architectures_by_network(plan.space)
    return ProbedSpeeds(
        {item: speeds[item] for item in configurations if item in speeds},
        {
            name: failures.get(architectures[name], NONE_ALLOWED)
            for name in networks_of(plan.space)
            if name not in measured_networks
        },
    )


def local_times(plan: Plan, probed: ProbedSpeeds) -> PlanTimes:
    """Return the time of a plan on this machine."""
    seconds, num_slots = epoch_seconds(plan, probed.speeds), local_slots(plan)
    expected = {name: value.expected for name, value in seconds.items()}
    search = simulate_search(plan.space, expected, num_slots)
    features = feature_seconds(plan, probed.speeds)
    if probed.failures:
        return PlanTimes(search, seconds, probed.failures, num_slots, features=features)
    num_cpus = len(os.sched_getaffinity(0))
    features_s = sum(each.seconds for each in features.values()) / num_slots
    forecast = forecast_time(plan.space, search, seconds, num_slots, num_cpus, features_s)
    return PlanTimes(search, seconds, {}, num_slots, forecast, features=features)


def remote_times(plan: Plan, is_resumed: bool = False) -> PlanTimes:
    """Return the time of a plan on a cluster, no node of which has measured its networks."""
    unknown = dict.fromkeys(networks_of(plan.space), "no node of the cluster has measured it")
    return PlanTimes(simulate_search(plan.space), unknown=unknown, is_resumed=is_resumed)


class _Probe:
    """Measures configurations, those of an architecture in one process.

    Args:
        plan: The plan.
        missing: The configurations.
        on_progress: Called with the number of measured configurations and of all.
    """

    def __init__(
        self,
        plan: Plan,
        missing: Sequence[ProbedConfiguration],
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._plan, self._on_progress = plan, on_progress
        self._num_missing = len(missing)
        names = {item.architecture: None for item in missing}
        self._waiting = [[item for item in missing if item.architecture == name] for name in names]
        self._num_slots = min(local_slots(plan), len(self._waiting))
        self._deadline_s = time.monotonic() + MAX_PROBE_S
        rounds = -(-len(self._waiting) // self._num_slots)
        self._process_s = MAX_PROBE_S / rounds
        self._measured: dict[ProbedConfiguration, NetworkSpeed] = {}
        self._failures: dict[str, str] = {}
        self._lock = threading.Lock()

    def run(self) -> tuple[dict[ProbedConfiguration, NetworkSpeed], dict[str, str]]:
        """Return the measured speeds, and why an architecture was not measured, by its name."""
        self._on_progress(0, self._num_missing)
        threads = [
            threading.Thread(target=self._measure_waiting) for _slot in range(self._num_slots)
        ]
        self._processes: list[subprocess.Popen[str]] = []
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:  # an interrupt ends the processes, and with them the threads
            self._waiting.clear()
            for process in self._processes:
                process.kill()
        return self._measured, self._failures

    def _measure_waiting(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                configurations = self._waiting.pop(0)
            self._measure(configurations)

    def _measure(self, configurations: Sequence[ProbedConfiguration]) -> None:
        name = configurations[0].architecture
        seconds = min(self._process_s, self._deadline_s - time.monotonic())
        per_configuration = (seconds - IMPORT_S) / 2 / len(configurations)
        request = ProbeRequest(
            json.loads(self._plan.dump()),
            tuple(self._plan.space.largest_networks()[name].items()),
            tuple(configurations),
            max(0.5, min(MAX_CONFIGURATION_S, per_configuration)),
        )
        process = subprocess.Popen(  # noqa: S603
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._processes.append(process)
        timer = threading.Timer(max(0.0, self._deadline_s - time.monotonic()), process.kill)
        timer.start()
        try:
            failure = self._read(process, request, configurations)
        finally:
            timer.cancel()
            process.kill()
        is_late = time.monotonic() >= self._deadline_s
        default = "not measured within a minute" if is_late else "its measurement ended by itself"
        self._failures[name] = failure or default

    def _read(
        self,
        process: subprocess.Popen[str],
        request: ProbeRequest,
        configurations: Sequence[ProbedConfiguration],
    ) -> str:
        """Read the measured speeds of a process; return the error that it names."""
        failure = ""
        with suppress(BrokenPipeError), process:
            if process.stdin is None or process.stdout is None:
                raise TypeError("the process has no pipes")
            process.stdin.write(json.dumps(record_to_json(request)))
            process.stdin.close()
            for line in process.stdout:
                message = _parse(line)
                failure = message.failure or failure
                if message.speed is not None:
                    self._measured[configurations[message.number]] = message.speed
                    self._on_progress(len(self._measured), self._num_missing)
        return failure


def _parse(line: str) -> ProbeMessage:
    """The message in a line of a process's output; an empty one if it is another text."""
    try:
        return record_from_json(ProbeMessage, parse_json(line))
    except (ValueError, StudyError):
        return ProbeMessage()


def measure_requested() -> None:
    """Measure what standard input requests, and write each speed to standard output.

    This runs in a process of the probe.
    """
    from raysearch.search.study.plan import load_plan

    output = os.dup(1)
    os.dup2(2, 1)  # libraries may print
    with os.fdopen(output, "w") as results:
        request = record_from_json(ProbeRequest, parse_json(sys.stdin.read()))

        def send(message: ProbeMessage) -> None:
            results.write(json.dumps(record_to_json(message)) + "\n")
            results.flush()

        plan = load_plan(json.dumps(request.plan).encode())
        try:
            _measure_all(plan, request, send)
        except (UserError, OSError, RuntimeError, MemoryError, ValueError) as error:
            from raysearch.search.engine.precision_probe import memory_text
            from raysearch.training.memory import is_out_of_memory

            is_memory = is_out_of_memory(error)
            text = memory_text(error) if is_memory else first_line(error)
            send(ProbeMessage(failure=text))


def _measure_all(plan: Plan, request: ProbeRequest, send: Callable[[ProbeMessage], None]) -> None:
    from raysearch.search.study.speed_probe import (
        SampleAddress,
        measure_speed,
        read_sample,
        sample_data,
    )

    # Unreadable shards are reported before Ray takes its time to import.
    pixels = read_sample(SampleAddress(plan.data, plan.view))

    from raysearch.search.engine.precision_probe import ProbeTask, probe_device
    from raysearch.search.engine.worker_tasks import prepare_process
    from raysearch.training.precision_settings import PrecisionSettings

    plan.code.allow()
    resources = plan.space.resources
    device = str(prepare_process(resources.cpus)) if resources.gpus else "cpu"
    name = request.configurations[0].architecture
    task = ProbeTask(name, request.largest, plan.shape, len(plan.class_names), plan.code)
    # A later launch takes the precision from the cache, too.
    precision = probe_device(task, resources.cpus).settings or PrecisionSettings()
    data = sample_data(pixels, plan.shape, plan.class_names, device)
    # The middle one first: it alone represents the architecture if the time is too short.
    numbers = range(len(request.configurations))
    middle = len(request.configurations) // 2
    for number in sorted(numbers, key=lambda number: abs(number - middle)):
        hparams = dict(request.configurations[number].hparams)
        speed = measure_speed(hparams, plan.space.metric, precision, data, request.max_seconds)
        send(ProbeMessage(number, speed))
