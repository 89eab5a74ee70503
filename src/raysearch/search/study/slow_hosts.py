"""The hosts whose trials take much longer than those of the other hosts of a study."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from raysearch.search.journal.events import FoldReport
from raysearch.search.journal.history import History, Trial

# A host is slow if its trials take at least so many times the time of the others.
MIN_RATIO = 2.0
# Hyperparameters also change the time of a trial: with fewer trials, these could be the reason.
MIN_TRIALS = 3
# A host may become slow, or recover: only its last trials count.
MAX_TRIALS = 10


@dataclass(frozen=True)
class SlowHost:
    """A host, and how many times the others' time its trials take."""

    host: str
    ratio: float

    def __str__(self) -> str:
        return f"{self.host} takes {self.ratio:.1f} times as long as the other hosts"


@dataclass(frozen=True)
class _Speed:
    """The time of the fold-epochs of a trial on a host, as logarithms, relative to its network.

    Args:
        by_sample: Of the seconds of a sample.
        by_operation: Of the seconds of a floating-point operation.
    """

    by_sample: float
    by_operation: float


def slow_hosts(history: History) -> list[SlowHost]:
    """Return the hosts that take at least `MIN_RATIO` times as long as the others; slowest first.

    The times of a host are compared with the median of the other hosts' trials of the same
    architecture and adaptation, both by sample and by floating-point operation: the smaller ratio
    counts, so that a host is not called slow because its trials have larger networks.
    """
    speeds = _speeds_by_host(history)
    slow = []
    for host, host_speeds in speeds.items():
        others = [speed for other in speeds if other != host for speed in speeds[other]]
        if len(host_speeds) < MIN_TRIALS or len(others) < MIN_TRIALS:
            continue
        ratio = math.exp(
            min(
                median(speed.by_sample for speed in host_speeds)
                - median(speed.by_sample for speed in others),
                median(speed.by_operation for speed in host_speeds)
                - median(speed.by_operation for speed in others),
            )
        )
        if ratio >= MIN_RATIO:
            slow.append(SlowHost(host, ratio))
    return sorted(slow, key=lambda host: -host.ratio)


def _speeds_by_host(history: History) -> Mapping[str, list[_Speed]]:
    """The times of the last trials of each host, relative to the median of their network."""
    by_network: dict[tuple[object, object], list[tuple[str, _Speed]]] = defaultdict(list)
    for trial in history.searched():
        network = (trial.hparams.get("architecture"), trial.hparams.get("adaptation"))
        for host_and_speed in _speeds_of_trial(trial):
            by_network[network].append(host_and_speed)
    speeds: dict[str, list[_Speed]] = defaultdict(list)
    for measured in by_network.values():
        by_sample = median(speed.by_sample for _host, speed in measured)
        by_operation = median(speed.by_operation for _host, speed in measured)
        for host, speed in measured:
            relative = _Speed(speed.by_sample - by_sample, speed.by_operation - by_operation)
            speeds[host].append(relative)
    return {host: values[-MAX_TRIALS:] for host, values in speeds.items()}


def _speeds_of_trial(trial: Trial) -> Iterator[tuple[str, _Speed]]:
    """The median time of the trial's fold-epochs on each of its hosts."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for report in trial.reports:
        if report.host and report.samples and report.seconds > 0:
            seconds[report.host].append(math.log(report.seconds / report.samples))
    operations = _operations(trial.reports)
    for host, values in seconds.items():
        by_sample = median(values)
        yield host, _Speed(by_sample, by_sample - math.log(operations))


def _operations(reports: Sequence[FoldReport]) -> float:
    """The floating-point operations of a patch; 1 if they were not measured."""
    return next((float(max(1, report.costs.flops)) for report in reports if report.costs), 1.0)
